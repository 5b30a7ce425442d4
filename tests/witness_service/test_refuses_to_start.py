"""What keeps `witness serve` from starting: an exit code, one clear line, no traceback, and no secret."""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hsm import softhsm
from key_registry.migrations import OWNER, SERVICE
from tests.fix_postgres import TEMPLATE
from tests.fix_service import DSN_PASSWORD, ServeService, until
from tests.witness_service.chain import Chain
from witness_service.embedded_postgres import EmbeddedPostgres
from witness_service.wire.client import WitnessClient

NOT_STARTED = 5
LATCHED = 6


def said(service: ServeService, exit_code: int) -> str:
    """Start a service that must refuse, and return its one line."""
    ended = service.refuses()
    lines = [line for line in ended.stderr.splitlines() if not is_log(line)]
    assert (ended.returncode, ended.stdout) == (exit_code, ""), ended.stderr
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("witness: cannot serve: ")
    assert len(lines[0]) < 500
    pin = Path(service.configuration["tokens"][0]["pin_file"])
    for secret in (DSN_PASSWORD, pin.read_text().strip() if pin.exists() else DSN_PASSWORD):
        assert secret not in ended.stderr
    assert "Traceback" not in ended.stderr
    return lines[0]


def is_log(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


# -- the configuration file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"service": {"listne": "x"}}, "service.listne: unknown key"),
        ({"database": {"password": DSN_PASSWORD}}, "database.password: unknown key"),
        ({"service": {"listen": "127.0.0.1"}}, "service.listen: expected HOST:PORT"),
    ],
)
def test_a_configuration_that_cannot_be(
    service: ServeService, change: dict[str, dict[str, str]], expected: str
) -> None:
    """The line names the file and the key, and never the value: it may be a secret."""
    for section, keys in change.items():
        service.configuration[section] |= keys
    line = said(service, NOT_STARTED)
    assert expected in line
    assert str(service.folder / "witness.toml") in line


def test_a_configuration_that_is_not_there(service: ServeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the file."""
    monkeypatch.setattr(service, "write_configuration", lambda: service.folder / "none.toml")
    assert f"cannot read {service.folder / 'none.toml'}" in said(service, NOT_STARTED)


# -- the token ------------------------------------------------------------------------------------------------------


def test_case_19_a_wrong_pin_is_offered_once(service: ServeService, fault_module: Path) -> None:
    """However many signer processes there are, the token sees one login; the exit code says not to try again."""
    token = service.behind(fault_module)
    service.configuration["tokens"][0]["processes"] = 4
    pin_file = Path(service.configuration["tokens"][0]["pin_file"])
    pin_file.write_text("wrong-SENTINEL-pin")
    line = said(service, LATCHED)
    assert "PIN" in line
    assert token.calls("C_Login") == 1


TOKENS: dict[str, tuple[Callable[[ServeService], object], str]] = {
    "no such token": (lambda service: token_section(service, label="another"), "another"),
    "another serial": (lambda service: token_section(service, serial="0123456789abcdef"), "0123456789abcdef"),
    "no module": (lambda service: token_section(service, module="/nowhere/module.so"), "/nowhere/module.so"),
    "a module that is none": (lambda service: token_section(service, module="/etc/passwd"), "module"),
    "no PIN file": (lambda service: token_section(service, pin_file="/nowhere/pin"), "/nowhere/pin"),
    "an emptied token": (lambda service: shutil.rmtree(service.folder / "token" / "tokens"), "module"),
}


def token_section(service: ServeService, **changes: str) -> None:
    service.configuration["tokens"][0] |= changes


@pytest.mark.parametrize("case", TOKENS)
def test_a_token_that_is_not_there(service: ServeService, case: str) -> None:
    """The line names what was looked for."""
    change, expected = TOKENS[case]
    change(service)
    assert expected in said(service, NOT_STARTED)


_DESTROY = """
import sys, pkcs11
module, label, pin_file, cka_id = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label=label)
with token.open(rw=True, user_pin=open(pin_file).read().strip()) as session:
    for found in session.get_objects({pkcs11.Attribute.ID: bytes.fromhex(cka_id)}):
        found.destroy()
"""


@pytest.mark.parametrize("which", ["witness", "log"])
def test_case_20_a_key_that_is_not_in_the_token(service: ServeService, which: str) -> None:
    """A registry key that the token has lost is named by its CKA_ID."""
    service.start()
    with service.auditor() as database:
        ((envelope,),) = database.execute(
            "SELECT envelope FROM witness.registry_records WHERE seq = %s", ({"log": 0, "witness": 1}[which],)
        )
    assert service.stop() == 0
    cka_id = cka_ids(bytes(envelope))[0]
    section = service.configuration["tokens"][0]
    subprocess.run(
        [sys.executable, "-c", _DESTROY, section["module"], section["label"], section["pin_file"], cka_id],
        env=section["environment"],
        check=True,
        timeout=30,
    )
    assert cka_id in said(service, NOT_STARTED)


def cka_ids(envelope: bytes) -> list[str]:
    """Return the CKA_IDs a stored record names, by nothing but its JSON."""
    return re.findall('"cka_id":"([0-9a-f]{32})"', base64.b64decode(json.loads(envelope)["payload"]).decode())


def test_a_registry_key_in_a_token_of_no_configuration(service: ServeService, tmp_path: Path) -> None:
    """A configured token that works, but is not the one the registry names, does not do."""
    other = softhsm.create_token(tmp_path / "other", "other")
    token_section(service, label="other", serial=other.serial, pin_file=other.pin_file)
    service.configuration["tokens"][0]["environment"] = dict(other.environment)
    assert "expected a configured token with serial" in said(service, NOT_STARTED)


# -- the database ---------------------------------------------------------------------------------------------------

DSNS: dict[str, tuple[Callable[[EmbeddedPostgres, str], str], str]] = {
    "nobody there": (lambda *_: "host=/nowhere user=x dbname=x", "expected the database to answer"),
    "a port where nobody listens": (
        lambda *_: "host=127.0.0.1 port=9 user=x dbname=x",
        "expected the database to answer",
    ),
    "no such database": (lambda cluster, _: cluster.dsn(SERVICE, "absent"), "expected the database to answer"),
    "no such role": (lambda cluster, _: cluster.dsn("nobody", "postgres"), "database"),
    "no connection string": (lambda *_: "what is this", "expected a libpq connection string"),
    "empty": (lambda *_: "host=''", "database"),
    "a database without the schema": (lambda cluster, _: cluster.dsn(SERVICE, "postgres"), "witness migrate"),
    "a database without a registry": (
        lambda cluster, _: cluster.dsn(SERVICE, TEMPLATE),
        "expected at least the genesis record",
    ),
    "the owner's role": (lambda _, dsn: dsn.replace(SERVICE, OWNER), "one that may change"),
}


@pytest.mark.parametrize("case", DSNS)
def test_case_30_a_database_that_is_not_the_right_one(
    service: ServeService, postgres: EmbeddedPostgres, case: str
) -> None:
    """The line says what was expected and what to check; the connection string is in none of it."""
    change, expected = DSNS[case]
    database = service.configuration["database"]
    dsn = change(postgres, database["dsn"])
    database |= {
        "dsn": dsn if case == "no connection string" else f"{dsn} password={DSN_PASSWORD}",
        "timeout_seconds": 2,
    }
    line = said(service, NOT_STARTED)
    assert expected in line
    assert dsn not in line


CHANGES = {
    "an older version": (
        "UPDATE witness.alembic_version SET version_num = '0000'",
        "expected schema version 0002, got 0000",
    ),
    "a newer version": (
        "UPDATE witness.alembic_version SET version_num = '9999'",
        "expected schema version 0002, got 9999",
    ),
    "no version": ("DELETE FROM witness.alembic_version", "expected schema version 0002, got none"),
    "a guard dropped": ("DROP TRIGGER append_only ON witness.claims", "claims.append_only"),
    "a guard disabled": ("ALTER TABLE witness.seals DISABLE TRIGGER continues", "seals.continues"),
    "a guard that replicas pass": ("ALTER TABLE witness.places ENABLE TRIGGER append_only", "places.append_only"),
    "an update granted": ("GRANT UPDATE ON witness.attestations TO witness_service", "may change attestations"),
    "a column granted": ("GRANT UPDATE (statement) ON witness.claims TO witness_service", "may change claims"),
    "truncate granted": ("GRANT TRUNCATE ON witness.places TO PUBLIC", "may change places"),
    "membership of the owner": ("GRANT witness_owner TO witness_service", "may change"),
    "read only": (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());"
        " END $$",
        "expected",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_case_30_a_schema_that_was_changed(service: ServeService, case: str) -> None:
    """Somebody who opened a way to change the record is noticed before anything is signed."""
    change, expected = CHANGES[case]
    service.configuration["database"]["timeout_seconds"] = 2
    with service.superuser() as database:
        database.execute(change)  # type: ignore[arg-type]
        try:
            assert expected in said(service, NOT_STARTED)
        finally:
            database.execute("REVOKE witness_owner FROM witness_service")  # of the whole cluster


# -- the registry ---------------------------------------------------------------------------------------------------


def test_the_id_of_another_registry(service: ServeService) -> None:
    """The database's registry must be the one the configuration pins."""
    service.configuration["service"]["registry_id"] = "ab" * 32
    line = said(service, NOT_STARTED)
    assert "ab" * 32 in line
    assert service.registry_id in line


def test_the_environment_of_another_registry(service: ServeService) -> None:
    """A development registry never signs for production."""
    service.configuration["service"]["environment"] = "production"
    assert "expected a production registry, got one for development" in said(service, NOT_STARTED)


# -- the network ----------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken(service: ServeService) -> None:
    """The line names the address; claims of a predecessor are not left half way for it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        service.configuration["service"]["listen"] = address
        assert f"cannot listen on {address}" in said(service, NOT_STARTED)


@pytest.mark.parametrize("listen", ["256.0.0.1:0", "192.0.2.1:0"])
def test_an_address_that_is_none(service: ServeService, listen: str) -> None:
    """An address that is not this machine's is refused by name, with the reason."""
    service.configuration["service"]["listen"] = listen
    assert re.search(f"cannot listen on {listen}: .*(assign|known|address)", said(service, NOT_STARTED))


def test_mended_it_starts(service: ServeService) -> None:
    """A refusal leaves nothing behind that would keep the next start from serving."""
    right = service.configuration["service"]["registry_id"]
    service.configuration["service"]["registry_id"] = "ab" * 32
    said(service, NOT_STARTED)
    with service.auditor() as database:
        until(lambda: connections(database) == 0)
    service.configuration["service"]["registry_id"] = right
    with WitnessClient(service.start().address) as client:
        assert client.sign(Chain().event(0))
    assert service.stop() == 0
    with service.auditor() as database:
        until(lambda: connections(database) == 0)


def connections(database: psycopg.Connection[Any]) -> int:
    ((count,),) = database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'witness_service' AND datname = current_database()"
    )
    return int(count)
