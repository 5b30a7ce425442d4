"""That the tests of script/test run on the wheel, and what the wheel holds."""

import importlib
import os
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = ["hsm", "key_registry", "witness_service"]
SITE = Path(sysconfig.get_path("purelib"))

pytestmark = pytest.mark.skipif(
    not os.environ.get("WITNESS_TEST_INSTALLED"), reason="the wheel is installed by script/test"
)


def files(package: Path) -> dict[str, bytes]:
    """The content of every file of a package, by its path in it."""
    found = (file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {str(file.relative_to(package)): file.read_bytes() for file in found}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_is_what_is_imported(package: str) -> None:
    """A test process imports the installed package, never the checkout."""
    found = importlib.import_module(package).__file__
    assert found is not None
    assert Path(found) == SITE / package / "__init__.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_process_started_in_the_checkout_imports_the_wheel_too(package: str) -> None:
    """The working directory is not on the import path of the processes that tests start."""
    command = [sys.executable, "-c", f"import {package}; print({package}.__file__)"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    assert Path(shown.strip()) == SITE / package / "__init__.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_the_packages_as_they_are(package: str) -> None:
    """Every file of the packages is installed unchanged, type marker and SQL included, and no other."""
    installed = files(SITE / package)
    assert installed == files(ROOT / package)
    assert "py.typed" in installed


def test_the_base_dependency_is_cryptography() -> None:
    """Installed without extras, for judging, the wheel brings in cryptography and nothing else."""
    declared = map(Requirement, metadata.requires("witness-service") or [])
    assert [requirement.name for requirement in declared if requirement.marker is None] == ["cryptography"]


def test_the_wheel_carries_its_licence() -> None:
    """The metadata names the licence, and its text comes along."""
    wheel = metadata.distribution("witness-service")
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    licences = [file for file in wheel.files or [] if file.name == "LICENSE"]
    assert [file.read_text() for file in licences] == [(ROOT / "LICENSE").read_text()]


@pytest.mark.parametrize("program", ["witness", "witness-verify"])
def test_programs_explain_themselves(program: str) -> None:
    """The wheel installs its programs, and each has a --help."""
    command = [str(SITE.parents[2] / "bin" / program), "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert program in shown
