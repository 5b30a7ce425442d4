"""Where the demo works: the service's state, and the files an auditor would get."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folder:
    """One folder. source: a copy of the log file as it was at the start; the real one may grow meanwhile."""

    path: Path

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def source(self) -> Path:
        return self.path / "source.log"

    @property
    def bundle(self) -> Path:
        return self.path / "bundle.json"

    @property
    def events(self) -> Path:
        return self.path / "events.tsv"

    @property
    def evidence(self) -> Path:
        return self.path / "evidence"

    @property
    def forgeries(self) -> Path:
        return self.path / "forgeries"


@contextmanager
def working_folder(keep: Path | None) -> Iterator[Folder]:
    """Make the folder to work in: keep, which must be new, or a temporary one that is removed at the end."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield Folder(keep.absolute())
        return
    path = Path(tempfile.mkdtemp(prefix="witness-demo-"))
    # The database's account must be able to pass through: started by root, the database does not run as root.
    path.chmod(0o711)
    try:
        yield Folder(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
