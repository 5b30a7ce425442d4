"""The private cluster starts, stops, survives being killed, and lets nobody else in."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from key_registry.migrations import OWNER, ROLES, SERVICE
from witness_service.embedded_postgres import SUPERUSER, EmbeddedPostgres, EmbeddedPostgresError, cluster, programs

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")


@pytest.fixture(scope="module")
def made(reachable_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A cluster that was made once; each test starts it."""
    embedded = EmbeddedPostgres(reachable_folder / "embedded", fsync=False)
    embedded.start()
    yield embedded
    embedded.stop()


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]
        return row and row[0]


def test_every_role_gets_in_without_a_password(made: EmbeddedPostgres) -> None:
    """Whoever made the cluster is each of its roles, and each database belongs to the migration role."""
    made.start()
    made.ensure_database("roles")
    made.ensure_database("roles")
    for role in (SUPERUSER, *ROLES):
        assert ask(made.dsn(role, "roles"), "SELECT current_user") == role
    owner = ask(made.dsn(OWNER, "roles"), "SELECT datdba::regrole FROM pg_database WHERE datname = 'roles'")
    assert owner == OWNER


def test_it_listens_on_its_socket_alone(made: EmbeddedPostgres) -> None:
    """No port is open, and the folder of the socket is nobody else's."""
    made.start()
    dsn = made.dsn(SUPERUSER, "postgres")
    assert ask(dsn, "SHOW listen_addresses") == ""
    assert made.home.stat().st_mode & 0o077 == 0
    assert "password" not in dsn


def test_starting_again_changes_nothing(made: EmbeddedPostgres) -> None:
    """A running cluster keeps running."""
    made.start()
    pid = made.pid
    made.start()
    assert made.pid == pid


def test_what_was_stored_is_there_after_a_stop(made: EmbeddedPostgres) -> None:
    """Stop and start keep the data; stopping twice is stopping once."""
    made.start()
    made.ensure_database("kept")
    made.stop()
    made.stop()
    assert made.pid is None
    made.start()
    assert ask(made.dsn(SERVICE, "kept"), "SELECT current_database()") == "kept"


def test_a_cluster_left_running_is_adopted(made: EmbeddedPostgres) -> None:
    """A successor of a killed process uses the server that it left, and can stop it."""
    made.start()
    successor = EmbeddedPostgres(made.folder)
    successor.start()
    assert successor.pid == made.pid
    assert successor.dsn(SERVICE, "x") == made.dsn(SERVICE, "x")
    successor.stop()
    assert made.pid is None


@pytest.mark.faults
def test_a_killed_server_is_started_again(made: EmbeddedPostgres) -> None:
    """What a killed server left behind does not keep the next one from starting."""
    made.start()
    pid = made.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while made.pid is not None:
        assert time.monotonic() < deadline
    made.start()
    assert made.pid not in (None, pid)
    assert ask(made.dsn(SUPERUSER, "postgres"), "SELECT 1") == 1


@pytest.mark.faults
def test_the_process_id_of_a_stranger_is_no_server(made: EmbeddedPostgres) -> None:
    """A process id in postmaster.pid that meanwhile belongs to another program does not stop the start."""
    made.stop()
    left_behind = made.home / "data" / "postmaster.pid"
    left_behind.write_text(f"{os.getpid()}\n{made.home / 'data'}\n1\n5432\n{made.home}\n\n\nready\n")
    assert made.pid is None
    made.start()
    assert made.pid not in (None, os.getpid())


@pytest.mark.faults
def test_an_interrupted_first_start_is_begun_again(reachable_folder: Path) -> None:
    """A cluster that was made half way is made anew."""
    embedded = EmbeddedPostgres(reachable_folder / "half made", fsync=False)
    embedded.start()
    embedded.stop()
    (embedded.home / "data" / "base").rename(embedded.home / "base")
    (embedded.home / "data").rename(embedded.home / "data.new")
    try:
        embedded.start()
        assert ask(embedded.dsn(SUPERUSER, "postgres"), "SELECT 1") == 1
    finally:
        embedded.stop()


def test_a_server_that_does_not_start_says_why(made: EmbeddedPostgres) -> None:
    """The error holds the last lines of the server log."""
    made.stop()
    configuration = made.home / "data" / "postgresql.auto.conf"
    before = configuration.read_text()
    configuration.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
            made.start()
    finally:
        configuration.write_text(before)
    made.start()


def test_before_the_start_there_is_no_connection_string(tmp_path: Path) -> None:
    """The socket's place is known once the server runs."""
    with pytest.raises(EmbeddedPostgresError, match="call start first"):
        EmbeddedPostgres(tmp_path / "x").dsn(SERVICE, "x")


def test_stopping_what_never_was(tmp_path: Path) -> None:
    """Without a folder there is nothing to stop, and none is made."""
    EmbeddedPostgres(tmp_path / "x").stop()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["long " * 24, 'it\'s, "quoted" \\ and ünïcode'], ids=["long", "odd"])
def test_any_folder_will_do(reachable_folder: Path, name: str) -> None:
    """A path too long or too odd for a socket puts the socket elsewhere, in a private folder."""
    embedded = EmbeddedPostgres(reachable_folder / name, fsync=False)
    embedded.start()
    try:
        embedded.ensure_database("x")
        assert ask(embedded.dsn(SERVICE, "x"), "SELECT 1") == 1
        socket_folder = Path(str(ask(embedded.dsn(SUPERUSER, "x"), "SHOW unix_socket_directories")).strip('"'))
    finally:
        embedded.stop()
    assert socket_folder.stat().st_mode & 0o077 == 0
    shutil.rmtree(socket_folder)


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without PostgreSQL the error says which Debian package brings it."""
    monkeypatch.setattr(programs, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbeddedPostgresError, match="install the Debian package postgresql-15"):
        programs.find_programs("15")


def test_another_major_version_cannot_run_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster's own version is asked for by name."""
    with pytest.raises(EmbeddedPostgresError, match="PostgreSQL 9999"):
        programs.find_programs("9999")


@NEEDS_ROOT
def test_the_server_does_not_run_as_root(made: EmbeddedPostgres) -> None:
    """Neither the server nor its files belong to root."""
    made.start()
    assert made.pid is not None
    assert Path(f"/proc/{made.pid}").stat().st_uid != 0
    assert (made.home / "data").stat().st_uid != 0


@NEEDS_ROOT
@pytest.mark.attacks
def test_other_accounts_do_not_get_in(made: EmbeddedPostgres) -> None:
    """Neither the server's own account nor anybody else is let in as a role."""
    made.start()
    for account in ("postgres", "nobody"):
        answer = subprocess.run(
            [programs.find_programs() / "psql", "-c", "SELECT 1", made.dsn(SERVICE, "postgres")],
            user=account,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert answer.returncode != 0
        assert "Peer authentication failed" in answer.stderr or "Permission denied" in answer.stderr


@NEEDS_ROOT
def test_a_folder_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server's account cannot go the cluster lies elsewhere, and is found again."""
    with tempfile.TemporaryDirectory() as private, tempfile.TemporaryDirectory() as homes:
        Path(homes).chmod(0o755)
        monkeypatch.setattr(cluster, "UNREACHABLE_HOMES", Path(homes) / "homes")
        embedded = EmbeddedPostgres(Path(private) / "state" / "postgres", fsync=False)
        embedded.start()
        try:
            assert embedded.home.parent == Path(homes) / "homes"
            assert (embedded.folder / "cluster").is_symlink()
            embedded.stop()
            embedded.start()
            assert ask(embedded.dsn(SUPERUSER, "postgres"), "SELECT 1") == 1
        finally:
            embedded.stop()


@NEEDS_ROOT
@pytest.mark.attacks
def test_a_folder_of_somebody_else_is_refused(reachable_folder: Path) -> None:
    """A cluster folder that another account has put in place is not used."""
    (reachable_folder / "trap").mkdir()
    (reachable_folder / "trap" / "cluster").mkdir()
    os.chown(reachable_folder / "trap" / "cluster", 12345, 12345)
    with pytest.raises(EmbeddedPostgresError, match="user id 12345"):
        EmbeddedPostgres(reachable_folder / "trap").start()


AS_A_USER = """
import sys
from pathlib import Path
from witness_service.embedded_postgres import EmbeddedPostgres
import psycopg
embedded = EmbeddedPostgres(Path(sys.argv[1]), fsync=False)
embedded.start()
try:
    embedded.ensure_database("x")
    with psycopg.connect(embedded.dsn("witness_service", "x")) as connection:
        print(connection.execute("SELECT current_user").fetchone()[0])
finally:
    embedded.stop()
"""


PYTHONS = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")


def runs_here(python: str, user: pwd.struct_passwd, environment: dict[str, str]) -> bool:
    """Say whether a user can run a Python with this checkout and its libraries."""
    try:
        answer = subprocess.run(
            [python, "-c", "import witness_service.embedded_postgres"],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd="/",
            env=environment,
            capture_output=True,
            timeout=30,
        )
    except OSError:
        return False
    return answer.returncode == 0


@NEEDS_ROOT
def test_a_normal_user_needs_no_other_account(reachable_folder: Path) -> None:
    """Started by a normal user the server runs as that user."""
    user = pwd.getpwnam("nobody")
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[2]), *sys.path]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    python = next((path for path in PYTHONS if runs_here(path, user, environment)), None)
    if python is None:
        pytest.skip("the user nobody cannot read this checkout, or has no Python of this version")
    folder = reachable_folder / "of nobody"
    folder.mkdir()
    os.chown(folder, user.pw_uid, user.pw_gid)
    answer = subprocess.run(
        [python, "-c", AS_A_USER, str(folder)],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (answer.stdout, answer.returncode) == ("witness_service\n", 0), answer.stderr
    assert (folder / "cluster" / "data").stat().st_uid == user.pw_uid
