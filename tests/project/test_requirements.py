"""What gets installed: requirements/*.txt against pyproject.toml and the generated code."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
BASE = PROJECT["project"]["dependencies"]
PINNED = re.compile(r"[a-z0-9-]+==[0-9][0-9.]*(?: ; [^#]+?)?(?: --hash=sha256:[0-9a-f]{64})+")

generated = sorted((ROOT / "witness_service" / "v1").glob("*_pb2*.py"))


def lines(file: Path) -> list[str]:
    """The logical lines of a requirement file."""
    text = re.sub(r"\s*\\\n\s*", " ", file.read_text())
    return [line for line in text.splitlines() if line]


def pins(name: str) -> dict[str, Version]:
    """The version of each package in requirements/<name>.txt."""
    found = (line.split()[0].split("==") for line in lines(ROOT / "requirements" / f"{name}.txt"))
    return {package: Version(version) for package, version in found}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_line_pins_one_version_by_hash(file: Path) -> None:
    """A requirement file holds pinned, hashed packages: no option, no address, no open range."""
    assert lines(file)
    assert [line for line in lines(file) if not PINNED.fullmatch(line)] == []
    assert "://" not in file.read_text()


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("verify", BASE),
        ("service", BASE + EXTRAS["service"]),
        ("build", GROUPS["build"] + PROJECT["build-system"]["requires"]),
        ("dev", BASE + EXTRAS["service"] + EXTRAS["embedded"] + EXTRAS["timestamps"] + GROUPS["build"] + GROUPS["dev"]),
    ],
)
def test_pins_fit_what_is_declared(name: str, declared: list[str]) -> None:
    """Everything pyproject.toml asks for is pinned, at a version it allows."""
    pinned = pins(name)
    for requirement in map(Requirement, declared):
        assert pinned[requirement.name] in requirement.specifier


def test_an_auditor_installs_cryptography_alone() -> None:
    """requirements/verify.txt holds cryptography and what cryptography itself needs."""
    assert pins("verify").keys() <= {"cryptography", "cffi", "pycparser", "typing-extensions"}


def test_development_tests_what_the_service_runs() -> None:
    """Every package of the other files is in dev.txt, at the same version."""
    everything = pins("dev")
    for name in ("verify", "service", "build"):
        assert pins(name).items() <= everything.items()


def test_grpc_packages_are_of_one_release_train() -> None:
    """grpcio and its companions are released together and pinned together."""
    grpc = {name: version for name, version in pins("dev").items() if name.startswith("grpcio")}
    assert len(grpc) > 1
    assert len(set(grpc.values())) == 1


def test_generated_code_fits_the_installed_runtime() -> None:
    """The generated code was written for the pinned grpcio, and for no newer protobuf than the pinned one."""
    assert generated
    text = "\n".join(file.read_text() for file in generated)
    assert set(re.findall(r"^GRPC_GENERATED_VERSION = '(.+)'", text, re.M)) == {str(pins("service")["grpcio"])}
    protobuf = {Version(found) for found in re.findall(r"^# Protobuf Python Version: (.+)$", text, re.M)}
    assert protobuf
    assert max(protobuf) <= pins("service")["protobuf"]
