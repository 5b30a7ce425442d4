"""A SoftHSM token for each test, and a module in front of it that misbehaves when told to."""

import dataclasses
import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm import TokenRef, softhsm

LABEL = "witness test"

_OTHER_PROCESS = """
import sys, pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
module, label, pin_file = sys.argv[1:4]
tokens = [slot.get_token() for slot in pkcs11.lib(module).get_slots(token_present=True)]
(token,) = (token for token in tokens if token.label == label)
session = token.open(rw=True, user_pin=open(pin_file).read().strip())
"""


@dataclasses.dataclass(frozen=True)
class FaultyToken:
    """A token behind the fault module."""

    ref: TokenRef
    folder: Path

    def order(self, function: str, action: str, number: int = 0, times: int = -1) -> None:
        """Have a PKCS#11 function misbehave `times` times, -1 for ever; see fault_module.c."""
        # Renamed into place: the module must never read half of it.
        (self.folder / "next").write_text(f"{action} {number:#x} {times}")
        (self.folder / "next").rename(self.folder / function)

    def mend(self, function: str) -> None:
        """Have it behave again."""
        (self.folder / function).unlink(missing_ok=True)

    def calls(self, function: str) -> int:
        """Return how often any process has called a function."""
        file = self.folder / f"{function}.calls"
        return file.stat().st_size if file.exists() else 0


@pytest.fixture(scope="session")
def softhsm_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialised token to make copies of: ten times cheaper than initialising one."""
    folder = tmp_path_factory.mktemp("softhsm") / "template"
    softhsm.create_token(folder, LABEL)
    return folder


@pytest.fixture
def softhsm_folder(softhsm_template: Path, tmp_path: Path) -> Path:
    """The folder of a fresh token."""
    folder = tmp_path / "softhsm"
    shutil.copytree(softhsm_template, folder)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(configuration.read_text().replace(str(softhsm_template), str(folder)))
    return folder


@pytest.fixture
def token(softhsm_folder: Path) -> TokenRef:
    """A fresh token."""
    return softhsm.open_token(softhsm_folder, LABEL)


def run_on_token(token: TokenRef, source: str, *arguments: str) -> str:
    """Run statements in another process, logged in to a token as `session`; returns what they print."""
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            _OTHER_PROCESS + source,
            token.module,
            token.label,
            token.pin_file,
            *arguments,
        ],
        env=dict(token.environment),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def on_token(token: TokenRef) -> Callable[..., str]:
    """Run statements in another process, logged in to the token as `session`; returns what they print."""
    return functools.partial(run_on_token, token)


@pytest.fixture(scope="session")
def fault_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fault module, built."""
    if shutil.which("gcc") is None:
        pytest.skip("the fault module needs gcc (on Debian: apt install gcc libc6-dev)")
    built = tmp_path_factory.mktemp("fault") / "fault_module.so"
    source = Path(__file__).parent / "hsm" / "fault_module.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True, timeout=60)
    return built


@pytest.fixture
def faulty_token(token: TokenRef, fault_module: Path, tmp_path: Path) -> FaultyToken:
    """A fresh token behind the fault module; `token` is the same one without it."""
    folder = tmp_path / "faults"
    folder.mkdir()
    environment = {**token.environment, "FAULT_MODULE": token.module, "FAULT_FOLDER": str(folder)}
    return FaultyToken(dataclasses.replace(token, module=str(fault_module), environment=environment), folder)
