"""The database breaks, stalls or lies about a commit: the store says so, in time, and goes on when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from key_registry.migrations import OWNER, SERVICE, migrate
from key_registry.store import Conflict, Store, StoreError, StoreUnavailable
from tests.key_registry.cutting_proxy import Cut, CuttingProxy
from tests.key_registry.stored_events import (
    attest,
    claim,
    new_claim,
    new_place,
    places_of,
    seal,
)
from witness_service.embedded_postgres import SUPERUSER, EmbeddedPostgres

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def fragile(reachable_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A cluster that may be killed, with one database."""
    cluster = EmbeddedPostgres(reachable_folder / "fragile", fsync=False)
    cluster.start()
    cluster.ensure_database("fragile")
    migrate(cluster.dsn(OWNER, "fragile"))
    yield cluster
    cluster.stop()


@pytest.fixture
async def fragile_store(fragile: EmbeddedPostgres) -> AsyncIterator[Store]:
    """A store on the cluster that may be killed; it starts again for each test."""
    fragile.start()
    store = await Store.open(fragile.dsn(SERVICE, "fragile"), timeout=1)
    yield store
    await store.close()


@pytest.fixture
async def impatient(database: str) -> AsyncIterator[Store]:
    """A store that waits for a second at most."""
    store = await Store.open(database, timeout=1, max_connections=2)
    yield store
    await store.close()


async def until_it_answers(store: Store) -> None:
    """Ask again until the database answers; bounded by ten seconds."""
    async with asyncio.timeout(10):
        while True:
            try:
                await store.statement_head()
            except StoreUnavailable:
                continue
            return


def kill(cluster: EmbeddedPostgres) -> None:
    """Kill the server without warning and wait until it is gone."""
    pid = cluster.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while cluster.pid is not None:
        assert time.monotonic() < deadline


async def test_case_23_no_database(fragile: EmbeddedPostgres) -> None:
    """A store cannot be opened on a server that does not run, and says so at once."""
    dsn = fragile.dsn(SERVICE, "fragile")
    fragile.stop()
    with pytest.raises(StoreUnavailable):
        await Store.open(dsn, timeout=2)


async def test_case_23_database_down_before_the_claim(fragile: EmbeddedPostgres, fragile_store: Store) -> None:
    """Without a server every call is refused in bounded time; with one again the same store goes on."""
    await claim(fragile_store, "case 23", [0])
    fragile.stop()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await claim(fragile_store, "case 23", [1])
    with pytest.raises(StoreUnavailable):
        await fragile_store.heads()
    assert time.monotonic() - began < 6
    fragile.start()
    await until_it_answers(fragile_store)
    await claim(fragile_store, "case 23", [1])


async def test_case_23_no_connection_is_free(impatient: Store) -> None:
    """When every connection is in use, the next caller is refused after its wait, and served when one is back."""
    database = impatient._database
    async with database.connection(), database.connection():
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no free connection"):
            await impatient.statement_head()
        assert time.monotonic() - began < 2
    await impatient.statement_head()


@pytest.mark.parametrize("cut", Cut)
async def test_case_24_connection_lost_during_the_claims_commit(database: str, cut: Cut) -> None:
    """The outcome is unknown, reading the place again finds it, and there are never two claims."""
    async with CuttingProxy.before(database) as (proxy, dsn):
        store = await Store.open(dsn)
        proxy.cut = cut
        with pytest.raises(StoreUnavailable):
            await claim(store, "a", [0])
        await store.settle()
        found = await store.unsealed()
        assert places_of(found) == ([("a", 0)] if cut is Cut.AFTER else [])
        if not found:
            await claim(store, "a", [0])
        assert places_of(await store.unsealed()) == [("a", 0)]
        await store.close()


@pytest.mark.parametrize("cut", Cut)
async def test_case_25_connection_lost_during_the_seals_commit(database: str, cut: Cut) -> None:
    """Either the attestation is there, or the claim still waits to be sealed; never both, never neither."""
    async with CuttingProxy.before(database) as (proxy, dsn):
        store = await Store.open(dsn)
        ids = await claim(store, "a", [0])
        proxy.cut = cut
        with pytest.raises(StoreUnavailable):
            await seal(store, ids)
        await store.settle()
        sealed, waiting = await store.attestations_at("a", 0), await store.unsealed()
        assert (len(sealed), len(waiting)) == ((1, 0) if cut is Cut.AFTER else (0, 1))
        assert (await store.statement_head()).size == len(sealed)
        await store.close()


async def test_case_23_a_restarted_database_serves_the_first_caller(
    fragile: EmbeddedPostgres, fragile_store: Store
) -> None:
    """A pool full of connections that a restart has cut does not make anybody wait for each of them."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(fragile_store._database.connection())
    fragile.stop()
    fragile.start()
    await fragile_store.statement_head()


async def test_case_26_deadlock(store: Store) -> None:
    """Of two transactions that wait for each other one is told to start again, and the other goes on."""
    await claim(store, "a", [0])
    await claim(store, "b", [0])
    both_hold_one = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> str:
        try:
            async with store.claiming() as transaction:
                await transaction.lock_streams({first: "witnessed"})
                await both_hold_one.wait()
                await transaction.lock_streams({second: "witnessed"})
        except Conflict:
            return "lost"
        return "won"

    assert sorted(await asyncio.gather(lock("a", "b"), lock("b", "a"))) == ["lost", "won"]


async def test_case_29_cancelled_wait_for_the_standby(fragile: EmbeddedPostgres, fragile_store: Store) -> None:
    """A COMMIT that succeeds only here does not count as one, and `settle` waits for what reading would show."""
    with psycopg.connect(fragile.dsn(SUPERUSER, "fragile"), autocommit=True) as superuser:

        def configure(standby: str) -> None:
            superuser.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'")  # type: ignore[arg-type]
            superuser.execute("SELECT pg_reload_conf()")

        async def cancel_the_wait() -> None:
            async with asyncio.timeout(10):
                while not superuser.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                ).fetchall():
                    await asyncio.sleep(0.01)

        configure("nobody")
        try:
            with pytest.raises(StoreUnavailable, match="synchronous standby"):
                await asyncio.gather(claim(fragile_store, "case 29", [0]), cancel_the_wait())
            assert ("case 29", 0) in places_of(await fragile_store.unsealed())
            with pytest.raises(StoreUnavailable, match="synchronous standby"):
                await asyncio.gather(fragile_store.settle(), cancel_the_wait())
        finally:
            configure("")
    await fragile_store.settle()


async def test_case_29_an_endless_wait_for_the_standby(fragile: EmbeddedPostgres, fragile_store: Store) -> None:
    """A COMMIT that waits for a standby that never answers ends in bounded time, with its outcome unknown."""
    with psycopg.connect(fragile.dsn(SUPERUSER, "fragile"), autocommit=True) as superuser:
        superuser.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        superuser.execute("SELECT pg_reload_conf()")
        try:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await claim(fragile_store, "case 29 endless", [0])
            assert time.monotonic() - began < 6
            assert ("case 29 endless", 0) not in places_of(await fragile_store.unsealed())
        finally:
            superuser.execute("ALTER SYSTEM RESET synchronous_standby_names")
            superuser.execute("SELECT pg_reload_conf()")


async def test_case_33_killed_between_claim_and_seal(fragile: EmbeddedPostgres, fragile_store: Store) -> None:
    """After a crash of the server what was claimed is there to be sealed, and the same store seals it."""
    ids = await claim(fragile_store, "case 33", range(3))
    head = await fragile_store.statement_head()
    kill(fragile)
    fragile.start()
    await until_it_answers(fragile_store)
    assert await fragile_store.statement_head() == head
    await seal(fragile_store, ids)
    assert len(await fragile_store.attestations_between("case 33", 0, 9, 9)) == 3


async def test_case_33_killed_inside_transactions(fragile: EmbeddedPostgres, fragile_store: Store) -> None:
    """A claim and a seal that the crash interrupted never happened."""
    ids = await claim(fragile_store, "case 33 inside", [0])
    head = await fragile_store.statement_head()

    async def be_interrupted() -> None:
        async with fragile_store.claiming() as claiming, fragile_store.sealing() as sealing:
            stream = (await claiming.lock_streams({"case 33 inside": "witnessed"}))["case 33 inside"]
            await sealing.take(ids)
            kill(fragile)
            await claiming.insert(
                [new_place(stream.stream_id, "case 33 inside", 1)],
                [new_claim(stream.stream_id, "case 33 inside", 1)],
            )

    with pytest.raises(StoreUnavailable):
        await be_interrupted()
    fragile.start()
    await until_it_answers(fragile_store)
    assert await fragile_store.statement_head() == head
    assert [found.claim_id for found in await fragile_store.unsealed()][-1:] == ids


CLAIMANT = """
import asyncio, sys
from key_registry.store import Store

async def main():
    store = await Store.open(sys.argv[1], timeout=1)
    async with store.claiming() as transaction:
        await transaction.lock_streams({"a": "witnessed"})
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_case_36_a_replica_paused_past_its_lease(database: str) -> None:
    """A replica that is stopped while it waits for a stream gets it, and loses it again to those that run."""
    store = await Store.open(database, timeout=10)
    await attest(store, "a", [0])
    async with store.claiming() as transaction:
        await transaction.lock_streams({"a": "witnessed"})
        claimant = await asyncio.create_subprocess_exec(sys.executable, "-c", CLAIMANT, database)
        await until_somebody_waits_for_a_lock(store)
        claimant.send_signal(signal.SIGSTOP)
    try:
        await claim(store, "a", [1])
    finally:
        claimant.kill()
        await claimant.wait()
    assert places_of(await store.unsealed()) == [("a", 1)]
    await store.close()


async def test_case_36_a_replica_that_comes_back_too_late(database: str, impatient: Store) -> None:
    """A claim that stalled past its lease is refused when it goes on, and the stream has gone on without it."""
    patient = await Store.open(database, timeout=10)

    async def stall() -> None:
        async with impatient.claiming() as transaction:
            head = (await transaction.lock_streams({"a": "witnessed"}))["a"]
            await claim(patient, "a", [0])
            await transaction.insert([new_place(head.stream_id, "a", 0)], [new_claim(head.stream_id, "a", 0)])

    await claim(patient, "b", [0])
    with pytest.raises(StoreUnavailable):
        await stall()
    assert places_of(await patient.unsealed()) == [("b", 0), ("a", 0)]
    await patient.close()


async def until_somebody_waits_for_a_lock(store: Store) -> None:
    """Return when some session of the database waits for an advisory lock; bounded by ten seconds."""
    async with asyncio.timeout(10):
        while not await store._database.read(
            """
            SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """
        ):
            await asyncio.sleep(0)


async def test_a_hung_server_process_does_not_hang_the_store(superuser_dsn: str, impatient: Store) -> None:
    """A server process that stops answering costs its connection and a bounded wait; others serve."""
    async with impatient._database.connection() as connection:
        pid = connection.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await asyncio.gather(*(impatient.statement_head() for _ in range(2)))
        await impatient.statement_head()
        assert time.monotonic() - began < 5
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_cancelled_caller_leaves_nothing_behind(store: Store) -> None:
    """Cancelling a task inside a transaction takes it back and gives up its locks."""
    await claim(store, "a", [0])
    inside = asyncio.Event()

    async def hold() -> None:
        async with store.claiming() as transaction:
            head = (await transaction.lock_streams({"a": "witnessed"}))["a"]
            await transaction.insert([new_place(head.stream_id, "a", 1)], [])
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
    await claim(store, "a", [1])


async def test_asynchronous_commit_is_overruled(superuser_dsn: str, database: str) -> None:
    """A role set to commit asynchronously would release what a crash can lose."""
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        superuser.execute("ALTER ROLE witness_service SET synchronous_commit = off")
        try:
            store = await Store.open(database)
            assert await store._database.read("SHOW synchronous_commit") == [("on",)]
            await store.close()
        finally:
            superuser.execute("ALTER ROLE witness_service RESET synchronous_commit")


@pytest.mark.parametrize(
    "dsn",
    ["password=sentinel-4711 host=/nonexistent", "postgresql://u:sentinel-4711@[", "sentinel-4711"],
    ids=["no server", "broken URL", "no connection string"],
)
async def test_case_45_no_message_holds_the_connection_string(dsn: str) -> None:
    """Whatever is wrong with it, its password is not repeated, in the chain of causes neither."""
    with pytest.raises(StoreError) as failure:
        await Store.open(dsn, timeout=1)
    error: BaseException | None = failure.value
    while error is not None:
        assert "sentinel-4711" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


async def test_giving_up_while_the_server_hangs(impatient: Store) -> None:
    """A caller that fails inside a transaction gets its own error back in bounded time, rollback or not."""

    async def give_up() -> None:
        async with impatient._database.transaction() as connection:
            await connection.begin()
            stopped.append(connection.info.backend_pid)
            os.kill(stopped[0], signal.SIGSTOP)
            raise ZeroDivisionError

    stopped: list[int] = []
    began = time.monotonic()
    try:
        with pytest.raises(ZeroDivisionError):
            await give_up()
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    assert time.monotonic() - began < 5
