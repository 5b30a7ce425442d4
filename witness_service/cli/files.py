"""Files that commands write: complete or not at all, under names that any stream can have."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from witness_service.cli.failure import InputProblem

LONGEST_NAME = 200
"""Bytes of a folder name; file systems allow 255."""


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file so that its name never stands for half of it; raises InputProblem."""
    with writing_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def writing_file(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file in portions, so that its name never stands for part of it; raises InputProblem."""
    # Plain calls and strings: evidence comes in tens of thousands of files, and pathlib doubles their cost.
    folder, name = os.path.split(path)
    part = os.path.join(folder, f".{name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        with open(descriptor, "wb") as file:
            yield file
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        if isinstance(error, OSError):
            raise InputProblem(f"{path}: cannot be written: {error.strerror}") from error
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it; raises InputProblem."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputProblem(f"{path}: expected a folder or room for one: {error.strerror}") from error


def stream_folder(stream: str) -> str:
    """Return a file name for a stream: percent-encoded, and two streams never share one.

    A name too long for a file system is cut, with its SHA-256 behind the cut.
    """
    name = quote(stream, safe="")
    if name.startswith("."):  # "." and ".." are no names, and others would be hidden
        name = "%2E" + name[1:]
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(stream.encode()).hexdigest()
    return f"{name[: LONGEST_NAME - len(digest) - 1]}%{digest}"
