"""The operating system account that the server runs as, and what it may do with files.

PostgreSQL refuses to run as root. Started by root, it runs as the account `postgres`, or `nobody` where there
is none.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

RUN_SECONDS = 60.0


class EmbeddedPostgresError(RuntimeError):
    """The private cluster could not be made, started or stopped; the message says what to do."""


class ServerAccount:
    """Runs programs as the server's account: the caller's own, unless that is root."""

    def __init__(self) -> None:
        self._other: pwd.struct_passwd | None = None
        if os.geteuid() == 0:
            self._other = _other_account()

    @property
    def is_other(self) -> bool:
        """Whether the account is not the caller's own."""
        return self._other is not None

    @property
    def user_id(self) -> int:
        """The numeric id of the account."""
        return self._other.pw_uid if self._other else os.geteuid()

    def run(self, command: list[str], *, folder: Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a program in a folder to its end, with `data` on its standard input."""
        try:
            return subprocess.run(
                command,
                input=data,
                capture_output=True,
                cwd=folder,
                env=_environment(),
                timeout=RUN_SECONDS,
                check=False,
                user=self._other.pw_uid if self._other else None,
                group=self._other.pw_gid if self._other else None,
                extra_groups=[] if self._other else None,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EmbeddedPostgresError(f"expected {command[0]} to run, got {error}") from error

    def spawn(self, command: list[str], *, folder: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a program in a folder and a session of its own, its output appended to `log`.

        In a session of its own, because an interrupt at the terminal is for the service, which stops the
        server last.
        """
        return subprocess.Popen(
            ["sh", "-c", 'exec "$@" >> "$0" 2>&1', str(log), *command],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            user=self._other.pw_uid if self._other else None,
            group=self._other.pw_gid if self._other else None,
            extra_groups=[] if self._other else None,
        )

    def write(self, file: Path, text: str) -> None:
        """Write a file as the account: root, writing into that account's folder, would follow its links."""
        done = self.run(["sh", "-c", 'cat > "$1"', "sh", str(file)], folder=file.parent, data=text.encode())
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"cannot write {file}: {done.stderr.decode(errors='replace').strip()}")

    def reaches(self, folder: Path) -> bool:
        """Whether the account can go to the folder."""
        return self.run(["sh", "-c", 'cd "$1"', "sh", str(folder)], folder=Path("/")).returncode == 0

    def own(self, folder: Path) -> None:
        """Make a folder that belongs to the account alone; raise if one is there that does not."""
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            pass
        else:
            if self._other is not None:
                os.chown(folder, self._other.pw_uid, self._other.pw_gid)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.user_id or found.st_mode & 0o077:
            raise EmbeddedPostgresError(
                f"expected {folder} to be a folder of user id {self.user_id} with mode 0700, got user id "
                f"{found.st_uid} with mode {found.st_mode & 0o7777:04o}; move it away and start again"
            )


def _other_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedPostgresError(
        "expected an account postgres or nobody to run the server as, got neither; PostgreSQL refuses root"
    )


def _environment() -> dict[str, str]:
    # Nothing else is inherited: PGDATA, PGOPTIONS and their like would change what is started.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
