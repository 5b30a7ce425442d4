"""What a cosigner decides about an add-checkpoint request, from C2SP tlog-witness, and how it keeps its word."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.cosigner.consistency import EMPTY, consistent
from tests.cosigner.note import Checkpoint, Malformed, VerifierKey, cosignature, decimal, hash_of

MOST_PROOF_LINES = 63
SIZE_TYPE = "text/x.tlog.size"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Request:
    """An add-checkpoint request taken apart."""

    old_size: int
    proof: list[bytes]
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, body: bytes) -> Request:
        """Read a request body; raises Malformed."""
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise Malformed("not UTF-8") from None
        head, blank, note = text.partition("\n\n")
        first, *proof = head.split("\n")
        if not blank or not first.startswith("old "):
            raise Malformed("not an old size line, proof lines, an empty line and a checkpoint")
        if len(proof) > MOST_PROOF_LINES:
            raise Malformed("too many proof lines")
        return cls(decimal(first.removeprefix("old ")), [hash_of(line) for line in proof], Checkpoint.parse(note))


class State:
    """The latest cosigned checkpoint of each log, in a file; nothing is remembered between two requests."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def latest(self, origin: str) -> tuple[int, bytes]:
        """Return size and root of the latest cosigned checkpoint; that of the empty tree when there is none."""
        entry = self._read().get(origin)
        return (entry["size"], base64.b64decode(entry["root"])) if entry else (0, EMPTY)

    def keep(self, origin: str, size: int, root: bytes) -> None:
        """Make a checkpoint the latest, durably."""
        entries = self._read() | {origin: {"size": size, "root": base64.b64encode(root).decode()}}
        part = self._file.with_suffix(f".part{os.getpid()}")  # a test writes it too
        with open(part, "w") as file:
            file.write(json.dumps(entries))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._file)
        folder = os.open(self._file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _read(self) -> dict:
        return json.loads(self._file.read_text()) if self._file.exists() else {}


class Cosigner:
    """Cosigns checkpoints that continue the ones it cosigned before; one request at a time.

    credulous: cosign whatever a known log signed, whatever the proof.
    """

    def __init__(self, name: str, key: Ed25519PrivateKey, state: State) -> None:
        self.name = name
        self.key = key
        self._state = state

    def add_checkpoint(self, body: bytes, logs: Sequence[VerifierKey], time: int, *, credulous: bool = False) -> Answer:
        """Answer a request, given the keys of the known logs and the POSIX time."""
        try:
            request = Request.parse(body)
        except Malformed as error:
            return _refused(400, str(error))
        checkpoint = request.checkpoint
        keys = [key for key in logs if key.name == checkpoint.origin]
        if not keys:
            return _refused(404, "unknown log")
        if not _is_signed(checkpoint, keys):
            return _refused(403, "no good signature by the log")
        if request.old_size > checkpoint.size:
            return _refused(400, "the old size is above the checkpoint's")
        refusal = None if credulous else self._refusal(request)
        if refusal is not None:
            return refusal
        self._state.keep(checkpoint.origin, checkpoint.size, checkpoint.root)
        return Answer(200, cosignature(self.name, self.key, checkpoint.text, time).encode())

    def _refusal(self, request: Request) -> Answer | None:
        checkpoint = request.checkpoint
        size, root = self._state.latest(checkpoint.origin)
        if request.old_size != size:
            return Answer(409, b"%d\n" % size, SIZE_TYPE)
        if size == checkpoint.size and root != checkpoint.root:
            return _refused(409, "another root for the size that was cosigned")
        if not consistent(size, root, checkpoint.size, checkpoint.root, request.proof):
            return _refused(422, "the consistency proof does not verify")
        return None


def _is_signed(checkpoint: Checkpoint, keys: Sequence[VerifierKey]) -> bool:
    """Tell whether a known key signed, and no line that claims to be by a known key is bad."""
    good = [
        key.signed(checkpoint.text, signature)
        for name, key_id, signature in checkpoint.signatures
        for key in keys
        if (key.name, key.key_id) == (name, key_id)
    ]
    return bool(good) and all(good)


def _refused(status: int, reason: str) -> Answer:
    return Answer(status, reason.encode() + b"\n")
