"""Lines kept on disk until it is known that they are true.

A later piece of evidence can contradict an earlier one, so nothing may be reported as VALID before all have been
judged. Compressed, because the lines of one run differ in little but hashes.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile
from typing import Self

from key_registry.scratch import room

_LENGTH = struct.Struct(">II")
_SEPARATOR = "\0"


class HeldLines:
    """Entries in the order they were added; an entry is ASCII without NUL. Raises NoRoom when the disk is full."""

    def __init__(self) -> None:
        with room():
            self._file = TemporaryFile(prefix="witness-verify-")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, entries: Sequence[str]) -> None:
        """Add entries that will come out together."""
        packed = zlib.compress(_SEPARATOR.join(entries).encode("ascii"), 1)
        with room():
            self._file.write(_LENGTH.pack(len(entries), len(packed)))
            self._file.write(packed)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Iterate over what was added: the number of the first entry, from 0, and the entries."""
        with room():
            self._file.seek(0)
        first = 0
        while header := self._file.read(_LENGTH.size):
            count, length = _LENGTH.unpack(header)
            yield first, zlib.decompress(self._file.read(length)).decode("ascii").split(_SEPARATOR)
            first += count
