"""The messages between a pool and its signer processes: length-prefixed frames of byte fields.

A frame is body length, request id (32 bits each, big-endian) and kind (8 bits), then the body: fields, each
with its length (32 bits). One frame carries a whole batch of messages. No pickle: what crosses this border is
bytes, in both directions, and neither side can make the other one run anything.
"""

import enum
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import BinaryIO, NamedTuple

from hsm.errors import Fault, HsmError

HEADER = Struct("!IIB")
LENGTH = Struct("!I")

MAX_BODY = 1 << 30
"""Bytes. A longer frame can only be a broken one."""


class Kind(enum.IntEnum):
    """What a frame asks or answers, and its fields."""

    HELLO = 0
    """Signer to pool, once: ready to be told about the token. No fields."""
    START = 1
    """Initialise and log in: the fields of TokenRef. Answer: label, serial, manufacturer, model."""
    LOAD = 2
    """Find and check a key: CKA_ID, algorithm, SPKI. Answer: attribute names and values by turns."""
    GENERATE = 3
    """Make a key pair: algorithm, label. Answer: CKA_ID, SPKI, then attribute names and values by turns."""
    SIGN = 4
    """Sign: deadline (CLOCK_MONOTONIC, nanoseconds, 64 bits), then CKA_ID and message by turns."""
    PARTIAL = 5
    """Some outcomes of a SIGN, in order; more will follow."""
    RESULT = 6
    """The answer, or the remaining outcomes of a SIGN."""
    ERROR = 7
    """The request failed: one outcome."""
    FIND = 8
    """Find a key made elsewhere: CKA_ID, CKA_LABEL. Answer: CKA_ID, algorithm, SPKI, then attributes as in LOAD."""


class Frame(NamedTuple):
    """One message, taken apart."""

    request_id: int
    kind: Kind
    fields: list[bytes]


def encode(request_id: int, kind: Kind, fields: Iterable[bytes] = ()) -> bytes:
    """Return the bytes of one frame."""
    parts = [b""]
    size = 0
    for value in fields:
        parts += LENGTH.pack(len(value)), value
        size += LENGTH.size + len(value)
    parts[0] = HEADER.pack(size, request_id, kind)
    return b"".join(parts)


def body_length(header: bytes | memoryview) -> int:
    """Return how many bytes follow a header; raises ValueError above MAX_BODY."""
    length: int = HEADER.unpack_from(header)[0]
    if length > MAX_BODY:
        raise ValueError(f"expected a frame of at most {MAX_BODY} bytes, got {length}")
    return length


def decode(header: bytes | memoryview, body: bytes) -> Frame:
    """Take one frame apart; raises ValueError when it is not of the form."""
    _, request_id, kind = HEADER.unpack_from(header)
    fields = []
    position = 0
    while position < len(body):
        if position + LENGTH.size > len(body):
            raise ValueError("expected a field length, got the end of the frame")
        (length,) = LENGTH.unpack_from(body, position)
        position += LENGTH.size
        if position + length > len(body):
            raise ValueError(f"expected a field of {length} bytes, got the end of the frame")
        fields.append(body[position : position + length])
        position += length
    return Frame(request_id, Kind(kind), fields)


def read(stream: BinaryIO) -> Frame | None:
    """Read one frame from a blocking stream; None when the other side is gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    length = body_length(header)
    body = stream.read(length)
    return decode(header, body) if len(body) == length else None


class FrameBuffer:
    """Bytes as they arrive, given out again as whole frames."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Add bytes and yield every frame they complete; raises ValueError when they are not of the form."""
        self._pending += data
        while len(self._pending) >= HEADER.size:
            header = bytes(self._pending[: HEADER.size])
            end = HEADER.size + body_length(header)
            if len(self._pending) < end:
                return
            body = bytes(self._pending[HEADER.size : end])
            del self._pending[:end]
            yield decode(header, body)


def encode_outcome(outcome: bytes | HsmError) -> bytes:
    """Return a signature after a zero byte, or a fault's number and its text."""
    if isinstance(outcome, HsmError):
        return bytes([outcome.fault.value]) + str(outcome).encode()
    return b"\0" + outcome


def decode_outcome(data: bytes) -> bytes | HsmError:
    """Return what encode_outcome was given; raises ValueError when it is not of the form."""
    if not data:
        raise ValueError("expected an outcome, got an empty field")
    return HsmError(Fault(data[0]), data[1:].decode()) if data[0] else data[1:]


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> list[bytes]:
    """Return names and values by turns."""
    return [text.encode() for pair in pairs for text in pair]


def decode_pairs(fields: Sequence[bytes]) -> dict[str, str]:
    """Return what encode_pairs was given; raises ValueError for an odd number of fields."""
    return {name.decode(): value.decode() for name, value in zip(fields[::2], fields[1::2], strict=True)}
