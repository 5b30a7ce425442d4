"""The PIN and the connection string show up nowhere but in their files, whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from psycopg import sql

from tests.fix_service import DSN_PASSWORD, DevService, ServeService, until
from tests.witness_service.chain import Chain, sign_at_once
from tests.witness_service.rotating import rotate, witness_ids
from tests.witness_service.test_health import serving
from witness_service.refusal import Refused
from witness_service.wire.client import WitnessClient


def pin(service: ServeService) -> str:
    return Path(service.configuration["tokens"][0]["pin_file"]).read_text().strip()


def shown_by(pid: int) -> str:
    """Return what other accounts of the machine, or whoever keeps its records, may see of a process."""
    return "".join(
        (Path("/proc") / str(pid) / name).read_text(errors="replace") for name in ("cmdline", "environ", "comm")
    )


def in_memory(pid: int, wanted: bytes) -> bool:
    """Say whether a process holds bytes in memory it may write to."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found is None or "[vvar]" in line:
                continue
            first, end = (int(number, 16) for number in found.groups())
            memory.seek(first)
            try:
                if wanted in memory.read(end - first):
                    return True
            except OSError:
                continue
    return False


def test_case_45_where_secrets_are_not(service: ServeService, fault_module: Path) -> None:
    """Neither argument lists nor environments nor the log nor any answer holds a secret, after every fault there is.

    The PIN is not even in the memory of the process that the network reaches.
    """
    token = service.behind(fault_module)
    service.configuration["database"]["timeout_seconds"] = 1.0
    service.start()
    said: list[str] = []

    def attempt() -> None:
        (answer,) = sign_at_once(service.address, [Chain().event(0)], timeout=5)
        said.append(f"{answer!r} {getattr(answer, 'message', '')}")

    with WitnessClient(service.address) as client:
        attempt()
        rotate(service.address, service.lead_key, witness_ids(service.address)[0])
        said.append(repr((client.status(), client.keys(), client.history(), client.bundle())))
        bad_bytes(service.address, said)

        token.order("C_Sign", "return", 0x80000001)
        attempt()
        token.mend("C_Sign")
        until(lambda: serving(service.address))

        token.order("C_Sign", "flip", 3, 2)
        attempt()

        for pid in service.signers():
            os.kill(pid, signal.SIGKILL)
        until(lambda: serving(service.address))

        assert in_memory(service.pid, DSN_PASSWORD.encode()), "what is there would be found"
        assert not in_memory(service.pid, pin(service).encode())
        seen = "".join(shown_by(pid) for pid in [service.pid, *service.signers()])

        database_lost(service, attempt)
        attempt()

        wrong = Path(service.configuration["tokens"][0]["pin_file"])
        right = pin(service)
        wrong.write_text("SENTINEL-wrong-pin")
        for pid in service.signers():
            os.kill(pid, signal.SIGKILL)
        until(lambda: client.status().tokens[0].state == "latched")
        attempt()
        said.append(repr(client.status()))
    assert service.stop() == 0
    for secret in (right, DSN_PASSWORD, "SENTINEL"):
        assert secret not in seen
        assert secret not in service.said()
        assert secret not in "".join(said)
    for line in service.said().splitlines():
        assert line.startswith("serving on ") or isinstance(json.loads(line), dict), line
    assert "postgres/cluster" not in service.said(), "where the database is"


def bad_bytes(address: str, said: list[str]) -> None:
    with grpc.insecure_channel(address) as channel:
        for method in ("Witness/Sign", "KeyAdmin/Approve", "KeyRegistry/GetHistory"):
            call: Any = channel.unary_unary(f"/witness_service.v1.{method}")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\xff\xff", timeout=5)
            said.append(str(caught.value))


def database_lost(service: ServeService, attempt: Callable[[], None]) -> None:
    """Shut the database while the service runs, ask for everything, and open it again."""
    elsewhere = psycopg.conninfo.make_conninfo(service.superuser_dsn, dbname="postgres")
    with service.superuser() as inside, psycopg.connect(elsewhere, autocommit=True) as outside:
        name = sql.Identifier(inside.info.dbname)
        outside.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        inside.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'witness_service'")
        attempt()
        with WitnessClient(service.address) as client:
            for ask in (client.bundle, client.keys, client.history, client.status, client.proposal):
                with pytest.raises(Refused) as caught:
                    ask()
                assert caught.value.reason == "STORE_UNAVAILABLE"
                assert DSN_PASSWORD not in str(caught.value)
        until(lambda: not serving(service.address))
        outside.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        until(lambda: serving(service.address))


def test_the_files_of_dev_are_closed_to_others(dev_service: DevService) -> None:
    """PIN, lead key and configuration are for their owner only, and no other file of the folder holds the PIN."""
    secret = (dev_service.state / "token" / "pin").read_bytes().strip()
    for name in ("token/pin", "lead.pem", "witness.toml"):
        assert stat.S_IMODE((dev_service.state / name).stat().st_mode) == 0o600
    for file in dev_service.state.rglob("*"):
        if file.is_file() and file.name != "pin":
            assert secret not in file.read_bytes(), file
    assert secret.decode() not in shown_by(dev_service.pid) + dev_service.said()
