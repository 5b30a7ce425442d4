"""The private cluster: making, starting, adopting and stopping it.

The server listens on a Unix socket in a private folder and nowhere else, and peer authentication maps the
account that made the cluster to its roles: there is no password to keep or to leak.

Started by root, the cluster belongs to the server's account. Where that account cannot reach the folder
(below /root, say), the cluster lies in /var/lib/witness-service/<hash of the folder's path>, and the folder
holds a symbolic link.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from key_registry.migrations import ROLES, create_database
from witness_service.embedded_postgres.account import EmbeddedPostgresError, ServerAccount
from witness_service.embedded_postgres.programs import find_programs

SUPERUSER = "postgres"
PORT = 5432  # names the socket file; nothing listens on a port
UNREACHABLE_HOMES = Path("/var/lib/witness-service")
LONGEST_SOCKET_PATH = 107  # bytes, sun_path of unix(7) without its NUL
START_SECONDS = 60.0  # recovery after a crash replays the log before it takes connections
STOP_SECONDS = 30.0
KILL_SECONDS = 5.0
POLL_SECONDS = 0.01


class Postmaster(NamedTuple):
    """A running server: process id, status in postmaster.pid ("ready" and others), folder of its socket."""

    pid: int
    status: str
    socket_folder: Path


class EmbeddedPostgres:
    """A private cluster in one folder.

    folder: made if missing, and the cluster's alone. fsync: False gives up durability for speed, for tests
    that do not crash the machine. Nothing runs before `start`; the server outlives this process unless it is
    stopped.
    """

    def __init__(self, folder: Path, *, fsync: bool = True) -> None:
        self.folder = folder.absolute()
        self._durability = "on" if fsync else "off"
        self._account = ServerAccount()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_folder: Path | None = None

    @property
    def home(self) -> Path:
        """Where the cluster lies: data, server log and, where the path is short enough, the socket."""
        return (self.folder / "cluster").resolve()

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.home / "server.log"

    @property
    def pid(self) -> int | None:
        """The process id of the running server, or None."""
        found = self._postmaster()
        return found.pid if found else None

    def start(self) -> None:
        """Make the cluster on first use and start it; adopt it where a killed predecessor left it running.

        Raises EmbeddedPostgresError, with the last lines of the server log, when it does not come up.
        """
        with self._locked():
            self._make_home()
            if not (self.home / "data").exists():
                self._initialise()
            if self.pid is None and _within(KILL_SECONDS, self._exited):
                self._process = None  # of a run before this one
            if not _within(START_SECONDS, self._ready):
                raise EmbeddedPostgresError(
                    f"PostgreSQL was not ready within {START_SECONDS:.0f} s; {self._log_tail()}"
                )

    def stop(self) -> None:
        """Stop the server, if one runs: connections are broken off, nothing committed is lost."""
        if not self.folder.exists():
            return
        with self._locked():
            for order, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, KILL_SECONDS)):
                pid = self.pid
                if pid is None:
                    break
                os.kill(pid, order)
                _within(seconds, lambda: self.pid is None and self._exited())
            if self.pid is not None:
                raise EmbeddedPostgresError(f"PostgreSQL did not stop, process {self.pid}; {self._log_tail()}")

    def dsn(self, role: str, database: str) -> str:
        """Return the libpq connection string of SUPERUSER or one of ROLES; it holds no secret."""
        if self._socket_folder is None:
            raise EmbeddedPostgresError("expected a started cluster, got one that is not; call start first")
        values = {"host": str(self._socket_folder), "port": str(PORT), "user": role, "dbname": database}
        return " ".join(f"{name}={_conninfo_value(value)}" for name, value in values.items())

    def ensure_database(self, name: str) -> None:
        """Make the roles and the database, which belongs to the migration role, unless they exist."""
        create_database(self.dsn(SUPERUSER, "postgres"), name)

    # -- making it
    # ----------------------------------------------------------------------------------------------

    def _make_home(self) -> None:
        home = self.folder / "cluster"
        if not os.path.lexists(home) and self._account.is_other and not self._account.reaches(self.folder):
            UNREACHABLE_HOMES.mkdir(mode=0o755, parents=True, exist_ok=True)
            home.symlink_to(UNREACHABLE_HOMES / _digest(self.folder))
        self._account.own(self.home)

    def _initialise(self) -> None:
        # Under another name first: a run that is killed half way leaves no cluster that looks complete.
        new = self.home / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        command = [str(find_programs() / "initdb"), "-D", str(new), "-U", SUPERUSER, "--auth=peer"]
        command += ["--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
        if self._durability == "off":
            command.append("--no-sync")
        made = self._account.run(command, folder=self.home)
        if made.returncode != 0:
            raise EmbeddedPostgresError(f"initdb failed: {made.stderr.decode(errors='replace').strip()}")
        client = pwd.getpwuid(os.geteuid()).pw_name
        self._account.write(new / "pg_hba.conf", "local all all peer map=witness\n")
        self._account.write(
            new / "pg_ident.conf", "".join(f'witness "{client}" {role}\n' for role in (SUPERUSER, *ROLES))
        )
        new.rename(self.home / "data")

    # -- running it
    # ---------------------------------------------------------------------------------------------

    def _ready(self) -> bool:
        """Return whether the server takes connections; launch it where none runs."""
        found = self._postmaster()
        if found is not None:
            self._socket_folder = found.socket_folder
            return found.status == "ready"
        if self._process is not None and self._process.poll() is not None:
            tail = self._log_tail()
            self._process = None
            # The processes of a server that was killed let go of its shared memory a moment after it.
            if "still in use" not in tail:
                raise EmbeddedPostgresError(f"PostgreSQL did not start; {tail}")
        if self._process is None:
            self._launch()
        return False

    def _launch(self) -> None:
        socket_folder = self.home
        socket_path = os.fsencode(socket_folder / f".s.PGSQL.{PORT}")
        if len(socket_path) > LONGEST_SOCKET_PATH or b"," in socket_path:  # a comma separates hosts in libpq
            socket_folder = Path(tempfile.gettempdir()) / f"witness-postgres-{_digest(self.home)}"
            self._account.own(socket_folder)
        quoted = str(socket_folder).replace('"', '""')
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": f'"{quoted}"',
            "unix_socket_permissions": "0700",
            "fsync": self._durability,
            "full_page_writes": self._durability,
        }
        data = self.home / "data"
        major = (data / "PG_VERSION").read_text().strip()
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(find_programs(major) / "postgres"), "-D", str(data), *options]
        self._process = self._account.spawn(command, folder=self.home, log=self.log)

    def _postmaster(self) -> Postmaster | None:
        """Return what postmaster.pid says, if the process it names lives and is this cluster's server."""
        self._exited()  # reaps it: a zombie looks alive
        data = self.home / "data"
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if len(lines) < 5:
            return None
        pid = int(lines[0])
        if not _lives(pid):
            return None
        if not _works_in(pid, data):
            # A zombie's or a stranger's process id, which PostgreSQL would take for a running server.
            (data / "postmaster.pid").unlink(missing_ok=True)
            return None
        return Postmaster(pid, lines[7].strip() if len(lines) > 7 else "starting", Path(lines[4]))

    def _exited(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _log_tail(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-12:]
        except FileNotFoundError:
            return f"it wrote no log at {self.log}"
        return "\n".join([f"the last lines of {self.log}:", *lines])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            if not _within(START_SECONDS + STOP_SECONDS, lambda: _lock(file.fileno())):
                raise EmbeddedPostgresError(
                    f"{file.name} did not come free; which process starts or stops this cluster?"
                )
            yield


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _works_in(pid: int, folder: Path) -> bool:
    """Return whether a process works in a folder, as a PostgreSQL server does in its data folder."""
    if not Path("/proc/self/cwd").exists():
        return True
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _conninfo_value(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
