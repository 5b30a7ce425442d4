"""Files that are there whole or not at all, also after the machine has crashed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not exist; raises FileExistsError, OSError."""
    part = _part(path, content, mode)
    try:
        os.link(part, path)  # unlike a rename, this refuses a name that is taken
    finally:
        part.unlink()
    _sync(path.parent)


def replace(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file in the place of whatever has its name; raises OSError."""
    _part(path, content, mode).rename(path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file that may be there; raises OSError."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def _part(path: Path, content: bytes, mode: int) -> Path:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return part


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
