"""Finding and reading evidence: a stranger may have made the files, so nothing waits or goes on for ever."""

import os
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from typing import BinaryIO, NamedTuple

from key_registry.errors import FormatError
from key_registry.evidence import EVIDENCE_BYTES
from key_registry.export import EXPORT_SUFFIX, LINE_BYTES, START_BYTES, from_line, is_export, lines
from key_registry.sorted_names import SortedNames

EVIDENCE_SUFFIX = ".tlog-proof"

_READ_ONLY = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # opening a FIFO would wait for a writer


class Piece(NamedTuple):
    """Where a piece of evidence is: a file, or a line of an export.

    Attributes:
        path: of the file.
        line: its number from 1; None for a whole file.
        offset, length: of the line in bytes.
        problem: why nothing can be read there; None when that is not known yet.
    """

    path: str
    line: int | None = None
    offset: int = 0
    length: int = 0
    problem: str | None = None

    @property
    def name(self) -> str:
        """The path, and the line's number behind a colon."""
        return self.path if self.line is None else f"{self.path}:{self.line}"


def open_regular(path: str) -> BinaryIO:
    """Open a regular file for reading; raises OSError for anything else, without waiting."""
    descriptor = os.open(path, _READ_ONLY | _AT_ONCE)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "expected a regular file, got something else")
        return open(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def read_regular(path: str, limit: int) -> bytes:
    """Return the first `limit` bytes of a regular file; raises OSError for anything else, without waiting."""
    with open_regular(path) as file:
        return file.read(limit)


class PieceReader:
    """Reads pieces of evidence, and keeps the last export open for the next of its lines."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._file: BinaryIO | None = None

    def close(self) -> None:
        """Let go of the export."""
        if self._file is not None:
            self._file.close()
        self._path = self._file = None

    def read(self, piece: Piece) -> bytes:
        """Return the evidence.

        Raises:
            OSError: nothing can be read there.
            FormatError: the line is not one of an export.
        """
        if piece.problem is not None:
            raise OSError(0, piece.problem)
        if piece.line is None:
            return read_regular(piece.path, EVIDENCE_BYTES + 1)
        if piece.length > LINE_BYTES:
            raise FormatError(f"expected a line of at most {LINE_BYTES} bytes, got {piece.length}")
        if self._file is None or self._path != piece.path:
            self.close()
            self._file, self._path = open_regular(piece.path), piece.path
        self._file.seek(piece.offset)
        return from_line(self._file.read(piece.length))


def find_evidence(paths: Iterable[str]) -> Iterator[Piece]:
    """Iterate over the files named and those below the folders named, sorted within each folder, line by line
    where a file is an export.

    Memory does not grow with the number of files, nor with what is in them.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _below(path)
        else:
            yield from _in_file(path)


def _in_file(path: str) -> Iterator[Piece]:
    try:
        with open_regular(path) as file:
            if not is_export(path, file.read(START_BYTES)):
                yield Piece(path)
                return
            file.seek(0)
            for number, offset, length in lines(file):
                yield Piece(path, number, offset, length)
    except OSError as error:
        yield Piece(path, problem=error.strerror or "cannot be read")


def _below(top: str) -> Iterator[Piece]:
    pending: list[Iterator[str]] = [iter([top])]  # a level each: the folders still to be entered
    while pending:
        folder = next(pending[-1], None)
        if folder is None:
            pending.pop()
            continue
        inner = SortedNames()
        yield from _in_folder(folder, inner)
        pending.append(map(partial(os.path.join, folder), inner))


def _in_folder(folder: str, folders: SortedNames) -> Iterator[Piece]:
    """Iterate over the evidence in one folder, and add the names of the folders in it to `folders`."""
    files, linked = SortedNames(), SortedNames()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
                elif entry.name.endswith((EVIDENCE_SUFFIX, EXPORT_SUFFIX)):
                    files.add(entry.name)
                elif entry.is_symlink() and os.path.isdir(entry.path):
                    linked.add(entry.name)
    except OSError as error:
        yield Piece(folder, problem=error.strerror or "cannot be listed")
        return
    for name in files:
        path = os.path.join(folder, name)
        if name.endswith(EXPORT_SUFFIX):
            yield from _in_file(path)
        else:
            yield Piece(path)  # not opened here: another process does, and there may be millions
    for name in linked:  # followed, it could lead round in a circle
        problem = "expected a folder, got a symbolic link to one; name it on its own"
        yield Piece(os.path.join(folder, name), problem=problem)
