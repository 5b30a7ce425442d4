"""The folder that is published: nothing in it is ever half of a file, and what is immutable is never written again.

New files are made in a hidden folder beside the published ones, and take their names only when all of them have been
verified. So a service that gives wrong entries leaves nothing that a later, right one would contradict.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from witness_service import durable_file

INCOMING = ".incoming"
"""Folder of files that are not published yet."""

MAX_FILE_BYTES = 64 * 2**20
"""More than any file of a publication has."""

_MODE = 0o644


class FolderProblem(Exception):
    """The folder cannot be used as it is; the message names the file, what was expected and what to do."""


class Contradicted(Exception):
    """The service's log is not a continuation of the published one; the folder is left as it was and is evidence.

    reason: "LOG_FORK", or "LOG_ROLLED_BACK" where the service's log is shorter than the published one.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Folder:
    """A folder to publish in. Paths are relative to it, with slashes. dry_run: nothing is written."""

    def __init__(self, path: Path, *, dry_run: bool = False) -> None:
        self.path = path
        self.dry_run = dry_run
        self._touched: set[Path] = set()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other publication out of the folder, which is made; raises FolderProblem."""
        if self.dry_run and not self.path.is_dir():
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise FolderProblem(f"{self.path}: expected a folder or room for one: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise FolderProblem(f"{self.path}: expected to publish alone, got another publication at work") from None
        finally:
            os.close(descriptor)

    def read(self, path: str) -> bytes | None:
        """Return a published file, None if there is none; raises FolderProblem."""
        return self._read(self.path / path)

    def incoming(self, path: str) -> bytes | None:
        """Return a file that an interrupted publication left, None if there is none; raises FolderProblem."""
        return self._read(self.path / INCOMING / path)

    def stage(self, path: str, content: bytes) -> bool:
        """Make an immutable file ready to be published, and say whether it is new.

        Raises Contradicted when it is published with another content, FolderProblem.
        """
        published = self.read(path)
        if published is not None and published != content:
            raise Contradicted(
                "LOG_FORK",
                f"expected {self.path / path} as it was published, got other content from the service: the log has "
                "forked, or the folder was changed; keep the folder as evidence and compare it with other copies",
            )
        if published is None and not self.dry_run:
            self.replace(f"{INCOMING}/{path}", content)
        return published is None

    def publish(self, paths: Iterable[str]) -> None:
        """Give staged files their names; those that are published already are passed over."""
        with self._problems("published"):
            for path in paths:
                staged, final = self.path / INCOMING / path, self.path / path
                if not self.dry_run and staged.exists():
                    self._make(final.parent)
                    staged.rename(final)
                    self._touched.add(final.parent)

    def flush(self) -> None:
        """Return when every name given so far is on disk."""
        with self._problems("flushed"):
            for folder in self._touched:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        self._touched.clear()

    def replace(self, path: str, content: bytes) -> None:
        """Put a file in the place of whatever has its name, durably; raises FolderProblem."""
        if self.dry_run:
            return
        with self._problems(path):
            final = self.path / path
            self._make(final.parent)
            durable_file.replace(final, content, mode=_MODE)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all in it, if it is there."""
        if self.dry_run:
            return
        with self._problems(path):
            found = self.path / path
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for made in reversed(missing):
            made.mkdir(exist_ok=True)
            self._touched.add(made.parent)

    def _read(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FolderProblem(f"{path}: cannot be read: {error.strerror}") from error
        if len(content) > MAX_FILE_BYTES:
            raise FolderProblem(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got more")
        return content

    @contextmanager
    def _problems(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FolderProblem(f"{self.path}: {what}: cannot be written: {error.strerror}") from error
