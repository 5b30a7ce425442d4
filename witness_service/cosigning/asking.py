"""Asking one cosigner to cosign one checkpoint, until it has or says why not (C2SP tlog-witness, add-checkpoint)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256

from key_registry import note, tlog_witness
from key_registry.checkpoint import Checkpoint
from key_registry.cosignature import COSIGNATURE_TYPE, Cosigner
from key_registry.errors import FormatError, SignatureError
from key_registry.store import StoredCosignature
from witness_service.clock import Clock
from witness_service.cosigning.submission import Answer, Submissions, Unanswered

CLOCK_SKEW_SECONDS = 300
"""How far a cosigner's clock may be from ours: a cosignature of another day would make every verdict's times wrong."""

ATTEMPTS = 3
"""How often one checkpoint is sent to a cosigner that answers with another size than it was sent."""

Consistency = Callable[[str, int, int], Awaitable[Sequence[bytes]]]
"""Takes the log's name, an old and a new size, and gives the consistency proof between them."""


class NotCosigned(Exception):
    """There is no cosignature; the message says why in words."""


class KnowsLarger(Exception):
    """The cosigner says it has cosigned a larger tree. size: how large."""

    def __init__(self, size: int) -> None:
        super().__init__(f"knows a tree of {size}")
        self.size = size


class KnowsOtherRoot(Exception):
    """The cosigner says that what it has cosigned is not the beginning of this tree. size: of what it knows."""

    def __init__(self, size: int) -> None:
        super().__init__(f"knows another tree of {size}")
        self.size = size


def cosigner_id(cosigner: Cosigner) -> bytes:
    """Return the 32 bytes that tell a cosigner from every other: the key hash of its note signatures, not cut off."""
    identity = cosigner.key_name.encode() + b"\n" + bytes([COSIGNATURE_TYPE]) + cosigner.public_key.raw
    return sha256(identity).digest()


def posix_seconds(time: str) -> int:
    """Return a time YYYY-MM-DDTHH:MM:SS.ffffffZ in POSIX seconds, rounded down."""
    return int(datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp())


class Asking:
    """Asks cosigners over HTTP; remembers nothing."""

    def __init__(self, submissions: Submissions, consistency: Consistency, clock: Clock) -> None:
        self._submissions = submissions
        self._consistency = consistency
        self._clock = clock

    async def ask(self, cosigner: Cosigner, url: str, log: str, checkpoint: bytes, *, old: int) -> StoredCosignature:
        """Return a cosignature of a checkpoint, verified.

        url: the submission prefix. log: "registry" or "statements". checkpoint: the note as the log signed it.
        old: the size the cosigner is believed to have cosigned last, not above the checkpoint's. Raises NotCosigned,
        KnowsLarger, KnowsOtherRoot, StoreError.
        """
        text = note.parse(checkpoint).text
        size = Checkpoint.parse(text).size
        for _ in range(ATTEMPTS):
            proof = tuple(await self._consistency(log, old, size))
            request = tlog_witness.AddCheckpoint(old, proof, checkpoint)
            try:
                answer = await self._submissions.add_checkpoint(url, request.to_bytes())
                if answer.status == 200:
                    return self._cosignature(cosigner, log, text, size, answer.body)
                old = _size_to_send(answer, old, size)
            except Unanswered as error:
                raise NotCosigned(str(error)) from None
            except FormatError as error:
                raise NotCosigned(f"answered {answer.status} with a body that is not of its form: {error}") from None
        raise NotCosigned(f"answered 409 with another size {ATTEMPTS} times")

    def _cosignature(self, cosigner: Cosigner, log: str, text: str, size: int, body: bytes) -> StoredCosignature:
        answered = note.Note(text, tlog_witness.parse_cosignatures(body))
        try:
            time = cosigner.cosigned_at(answered)
        except SignatureError as error:
            raise NotCosigned(f"answered with a bad cosignature: {error}") from None
        if time is None:
            raise NotCosigned("answered without a cosignature by the key that the policy names")
        ahead = time - posix_seconds(self._clock())
        if abs(ahead) > CLOCK_SKEW_SECONDS:
            expected = f"expected a time within {CLOCK_SKEW_SECONDS} s of the service's clock"
            raise NotCosigned(f"{expected}, got one {abs(ahead)} s {'after' if ahead > 0 else 'before'} it")
        (own,) = (
            line for line in answered.signatures if (line.name, line.key_hash) == (cosigner.key_name, cosigner.key_hash)
        )
        return StoredCosignature(log, size, cosigner_id(cosigner), time, own.to_line())


def _size_to_send(answer: Answer, old: int, size: int) -> int:
    """Return the old size to send next, after an answer that is no cosignature."""
    if answer.status == 422 and old > 0:
        raise KnowsOtherRoot(old)
    if answer.status != 409:
        raise NotCosigned(f"answered {answer.status}")
    known = tlog_witness.parse_size(answer.content_type, answer.body)
    if known is None and old == size:
        raise KnowsOtherRoot(size)
    if known is None:
        raise NotCosigned("answered 409 without the size it knows")
    if known == old:
        raise NotCosigned("answered 409 with the very size it was sent")
    if known > size:
        raise KnowsLarger(known)
    return known
