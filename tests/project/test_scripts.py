"""The scripts of a checkout: that they explain themselves, and what script/bootstrap does to a machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "script").iterdir())


def run(*command: str | Path, cwd: Path = ROOT, path: str = os.environ["PATH"]):
    """Runs a command without input and returns what it said."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder to be the whole PATH: no SoftHSM, no sudo, an apt-get that only writes down its calls."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "cat", "dirname", "env", "mktemp", "rm", "tail"):
        (programs / name).symlink_to(shutil.which(name) or name)
    add(programs, "apt-get", f'echo "$@" >>{tmp_path}/apt-get.log')
    return programs


def add(programs: Path, name: str, code: str) -> None:
    """Adds a small program to a PATH folder."""
    (programs / name).write_text(f"#!/usr/bin/env bash\n{code}\n")
    (programs / name).chmod(0o755)


def bootstrap(programs: Path):
    """Runs script/bootstrap on the machine that has only these programs."""
    return run(ROOT / "script" / "bootstrap", path=str(programs))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_explains_itself(script: Path, tmp_path: Path) -> None:
    """--help says how to call it, from any folder, and does nothing else."""
    done = run(script, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: script/{script.name}")


@pytest.mark.parametrize("name", ["bootstrap", "generate", "lint"])
def test_an_unknown_option_is_refused(name: str) -> None:
    """A mistyped option is an error that shows the usage, not a run without it."""
    done = run(ROOT / "script" / name, "--no-such-option")
    assert done.returncode == 64
    assert f"usage: script/{name}" in done.stderr


def test_missing_packages_are_named_to_whom_cannot_install_them(machine: Path, tmp_path: Path) -> None:
    """With neither root nor sudo, script/bootstrap says what to install and touches nothing."""
    add(machine, "id", "echo 1000")
    done = bootstrap(machine)
    assert done.returncode == 1
    assert "apt-get install --no-install-recommends softhsm2" in done.stderr
    assert not (tmp_path / "apt-get.log").exists()


def test_only_missing_packages_are_installed(machine: Path, tmp_path: Path) -> None:
    """As root, the package lists are fetched once and what is missing is installed, no more."""
    add(machine, "id", "echo 0")
    done = bootstrap(machine)
    update, install = (tmp_path / "apt-get.log").read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith(" install --yes --no-install-recommends -- softhsm2")
    # This apt-get installed nothing, which must not pass for success.
    assert done.returncode == 1
    assert "still missing after installation: softhsm2" in done.stderr


@pytest.mark.skipif(not os.environ.get("WITNESS_TEST_INSTALLED"), reason="script/test has run script/bootstrap")
def test_a_second_run_has_nothing_to_do() -> None:
    """Run again on a checkout that is ready, script/bootstrap changes nothing and says nothing."""
    done = run(ROOT / "script" / "bootstrap", "--dev")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
