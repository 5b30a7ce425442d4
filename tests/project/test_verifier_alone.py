"""That an auditor needs the standard library, cryptography and key_registry, and nothing else."""

import json
import pkgutil
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import key_registry
from tests.attacks.years import Years

RIM = {"store", "migrations"}
CORE = sorted(module.name for module in pkgutil.iter_modules(key_registry.__path__) if module.name not in RIM)

# The other packages of the tests' environment are there, but come as if they were not.
ALONE = f"""
import sys
class Absent:
    allowed = {{*sys.stdlib_module_names, "cryptography", "cffi", "_cffi_backend", "key_registry"}}
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in cls.allowed:
            raise ModuleNotFoundError(f"an auditor has no {{name}}", name=name)
sys.meta_path.insert(0, Absent)
sys.path.insert(0, {str(Path(key_registry.__path__[0]).parent)!r})
"""


def alone(code: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` where nothing but the standard library, cryptography and key_registry is installed."""
    command = [sys.executable, "-I", "-c", ALONE + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_other_packages_are_really_absent() -> None:
    """The environment of these tests refuses what an auditor does not have."""
    assert "an auditor has no psycopg" in alone("import key_registry.store").stderr


@pytest.mark.parametrize("module", CORE)
def test_core_module_imports_alone(module: str) -> None:
    """Each module of the core imports without database, gRPC or HSM packages."""
    done = alone(f"import key_registry.{module}")
    assert (done.returncode, done.stderr) == (0, "")


def test_witness_verify_runs_alone() -> None:
    """The auditor's program starts and explains itself."""
    done = alone("""
from key_registry.verify import main
sys.argv = ["witness-verify", "--help"]
raise SystemExit(main())
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: witness-verify" in done.stdout


JUDGED = """
from key_registry.verify import main
raise SystemExit(main(sys.argv[1:]))
"""
OFFLINE = [
    "unshare",
    "--net",
    sys.executable,
    "-I",
    "-c",
    # Not even the loopback is up in a new network namespace, so whoever tried to connect would fail.
    "import socket, sys; s = socket.socket(); s.settimeout(1); sys.exit(s.connect_ex(('127.0.0.1', 9)) != 101)",
]


@pytest.fixture
def without_network() -> list[str]:
    """What to put before a command so that it has no network; skips where this user cannot do that."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare (util-linux) is not installed")
    for more in ([], ["--user", "--map-root-user"]):
        prefix = [*OFFLINE[:1], *more, OFFLINE[1]]
        if subprocess.run([*prefix, *OFFLINE[2:]], capture_output=True, timeout=60).returncode == 0:
            return prefix
    pytest.skip("this user may not make a network namespace")


@pytest.mark.parametrize("cosigned", [False, True], ids=["none", "cosigned"])
def test_witness_verify_judges_alone_and_without_network(
    tmp_path: Path, without_network: list[str], cosigned: bool
) -> None:
    """With cryptography alone, in a network namespace of its own, it comes to the same verdicts as ever."""
    world = Years(cosigned=cosigned)
    (tmp_path / "bundle.json").write_bytes(world.now_published.bundle.to_json())
    pieces = tmp_path / "evidence"
    pieces.mkdir()
    for number in range(25):
        (pieces / f"{number:02}.tlog-proof").write_bytes(world.genuine(number))
    arguments = ["--bundle", str(tmp_path / "bundle.json"), "--registry-id", world.registry_id, "--json", str(pieces)]
    command = [*without_network, sys.executable, "-I", "-c", ALONE + JUDGED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    codes = Counter(json.loads(line).get("code") for line in done.stdout.splitlines()[:-1])
    assert done.returncode == 1
    assert codes == {
        "VALID_KEY_ROTATED": 10,
        "VALID_BEFORE_COMPROMISE": 2,
        "KEY_COMPROMISED": 3,
        "VALID_KEY_ACTIVE": 10,
    }
