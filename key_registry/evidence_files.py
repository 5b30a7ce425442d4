"""Finding and reading evidence files: a stranger may have made them, so nothing waits or goes on for ever."""

import os
import stat
from collections.abc import Iterable, Iterator

EVIDENCE_SUFFIX = ".tlog-proof"

_READ_ONLY = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # opening a FIFO would wait for a writer


def read_regular(path: str, limit: int) -> bytes:
    """Return the first `limit` bytes of a regular file; raises OSError for anything else, without waiting."""
    with open(os.open(path, _READ_ONLY | _AT_ONCE), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "expected a regular file, got something else")
        return file.read(limit)


def find_evidence(paths: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Iterate over the evidence files named, and those below the folders named, sorted within each folder.

    Memory grows with the largest single folder, not with the number of files.

    Yields:
        The path, and None or the reason why it cannot be read.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _below(path)
        else:
            yield path, None


def _below(top: str) -> Iterator[tuple[str, str | None]]:
    pending = [top]
    while pending:
        folder = pending.pop()
        files: list[str] = []
        folders: list[str] = []
        linked: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif entry.name.endswith(EVIDENCE_SUFFIX):
                        files.append(entry.name)
                    elif entry.is_symlink() and os.path.isdir(entry.path):
                        linked.append(entry.name)
        except OSError as error:
            yield folder, error.strerror or "cannot be listed"
            continue
        for name in sorted(files):
            yield os.path.join(folder, name), None
        for name in sorted(linked):  # followed, it could lead round in a circle
            yield (
                os.path.join(folder, name),
                "expected a folder, got a symbolic link to one; name it on its own",
            )
        pending.extend(os.path.join(folder, name) for name in sorted(folders, reverse=True))
