"""Cosigners (C2SP tlog-witness), each a process of its own on a loopback port; see tests/cosigner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.cosigner.cosigner import State
from tests.cosigner.note import cosigner_vkey

CHECKOUT = Path(__file__).parent.parent
STOP_SECONDS = 10.0

StartCosigners = Callable[[int], list["RunningCosigner"]]


@dataclass
class RunningCosigner:
    """One cosigner, from one life to the next: its address, key and state stay.

    name: in a policy. key_name: of its note signatures.
    """

    name: str
    key_name: str
    folder: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None
    _settings: dict[str, Any] = field(default_factory=lambda: {"logs": [], "time": None, "misbehaves": None})

    @property
    def key(self) -> Ed25519PrivateKey:
        """The private key, for tests that cosign on their own."""
        return Ed25519PrivateKey.from_private_bytes((self.folder / "key").read_bytes())

    @property
    def vkey(self) -> str:
        """The verifier key, signature type 0x04."""
        return cosigner_vkey(self.key_name, self.key)

    @property
    def url(self) -> str:
        """The submission prefix."""
        return f"http://127.0.0.1:{self.port}/{self.key_name}"

    @property
    def policy_line(self) -> str:
        """The `witness` line of a C2SP tlog-policy."""
        return f"witness {self.name} {self.vkey} {self.url}\n"

    def start(self) -> Self:
        """Start it, with the state it had; returns when it listens."""
        assert self.process is None, "it runs already"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cosigner", str(self.folder), self.key_name, str(self.port)],
            cwd=CHECKOUT,
            env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, "the cosigner did not start; see its standard error"
        self.port = int(said)
        return self

    def stop(self) -> None:
        """Kill it, as a power cut would; its state stays."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(STOP_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None

    def trust(self, *log_vkeys: str) -> None:
        """Know these log keys, signature type 0x01 (for instance key_registry.note.vkey), and no others."""
        self._set(logs=list(log_vkeys))

    def set_time(self, seconds: int | None) -> None:
        """Have its clock stand at a POSIX time, or go with the machine's again."""
        self._set(time=seconds)

    def misbehave(self, how: str | None) -> None:
        """Misbehave from now on, or no more: "hangs", "redirects", "credulous", or a name of misbehaviour.py."""
        self._set(misbehaves=how)

    def latest(self, origin: str) -> tuple[int, bytes]:
        """Return size and root of what it cosigned last for a log."""
        return self._state().latest(origin)

    def set_latest(self, origin: str, size: int, root: bytes) -> None:
        """Have it remember another latest checkpoint of a log, such as a larger one."""
        self._state().keep(origin, size, root)

    def forget(self) -> None:
        """Lose the state."""
        (self.folder / "state.json").unlink(missing_ok=True)

    def requests(self) -> list[dict[str, Any]]:
        """Return status and request body of every request that came to an answer, oldest first."""
        file = self.folder / "requests"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def _state(self) -> State:
        return State(self.folder / "state.json")

    def _set(self, **changed: Any) -> None:
        self._settings |= changed
        part = self.folder / "settings.part"
        part.write_text(json.dumps(self._settings))
        os.replace(part, self.folder / "settings.json")


def policy_text(cosigners: Sequence[RunningCosigner], threshold: int | None = None) -> str:
    """Return a tlog-policy that asks for so many of the cosigners, for all if not said."""
    count = len(cosigners) if threshold is None else threshold
    names = " ".join(cosigner.name for cosigner in cosigners)
    lines = "".join(cosigner.policy_line for cosigner in cosigners)
    return f"{lines}group cosigners {count} {names}\nquorum cosigners\n"


def submitted_checkpoint(request: dict[str, Any]) -> str:
    """Return the checkpoint in a request that a cosigner wrote down."""
    return str(request["body"].partition("\n\n")[2])


@pytest.fixture
def start_cosigners(tmp_path: Path) -> Iterator[StartCosigners]:
    """Start so many cosigners, "c1" and on; they know no log yet."""
    made: list[RunningCosigner] = []

    def start(count: int) -> list[RunningCosigner]:
        new = [_new(tmp_path, len(made) + number + 1) for number in range(count)]
        made.extend(new)
        return [cosigner.start() for cosigner in new]

    yield start
    for cosigner in made:
        cosigner.stop()


@pytest.fixture
def cosigner(start_cosigners: StartCosigners) -> RunningCosigner:
    """One cosigner; it knows no log yet."""
    (only,) = start_cosigners(1)
    return only


def _new(tmp_path: Path, number: int) -> RunningCosigner:
    folder = tmp_path / f"cosigner-{number}"
    folder.mkdir()
    (folder / "key").write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
    made = RunningCosigner(f"c{number}", f"cosigner-{number}.example", folder)
    made.misbehave(None)
    return made
