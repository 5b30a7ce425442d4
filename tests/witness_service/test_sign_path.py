"""The sign path in process, over a real database and a real token whose signatures are tampered with on their way.

What stands in for a token that signs wrongly is a pool that changes what the real one returns; nothing else is fake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hsm import Fault, HsmError, SignerPool
from key_registry import dsse
from key_registry.public_key import PublicKey
from key_registry.statement import STATEMENT_TYPE, Statement
from key_registry.store import Store
from tests.fix_service import Foundation, ServeService, serving
from tests.witness_service.chain import Chain
from tests.witness_service.judging import check_log, check_stored, stored
from witness_service import clock
from witness_service.config import Configuration, load
from witness_service.cosigning.rollback import RollbackGuard
from witness_service.custody import Custody
from witness_service.embedded_postgres import EmbeddedPostgres
from witness_service.event import Attested, Event
from witness_service.refusal import Code, Refused
from witness_service.registry_view import RegistryView
from witness_service.service import token_ref
from witness_service.sign_path import SignPath

Signed = list[bytes | HsmError]
Tamper = Callable[[Sequence[tuple[bytes, bytes]], Signed], Signed]


@dataclass
class HeldCall:
    """A call to the pool that waits."""

    messages: list[bytes]
    go: asyncio.Event = field(default_factory=asyncio.Event)


class TamperedPool:
    """A real pool, whose signatures go through `tamper` before they are handed on."""

    def __init__(self, pool: SignerPool) -> None:
        self._pool = pool
        self.tamper: Tamper = lambda _, signed: signed
        self.held: list[HeldCall] | None = None
        """While it is a list, every call appends itself and waits until it is let go."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def sign(self, requests: Sequence[tuple[bytes, bytes]], *, timeout: float) -> Signed:
        if self.held is not None:
            call = HeldCall([message for _, message in requests])
            self.held.append(call)
            await call.go.wait()
        return self.tamper(requests, await self._pool.sign(requests, timeout=timeout))


@dataclass
class Instance:
    """One instance of the service without its wire."""

    store: Store
    pool: TamperedPool
    view: RegistryView
    guard: RollbackGuard
    path: SignPath

    async def sign(self, *events: Event) -> list[Attested | Refused]:
        """Sign events of one message and return what became of each."""
        outcomes = await self.path.submit(events, 10.0)
        return [outcome if isinstance(outcome, Refused) else outcome[0] for outcome in outcomes]


@pytest.fixture
def files(foundation: Foundation, postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[ServeService]:
    """Database, token and configuration of a service that never runs as a process."""
    with serving(foundation, postgres, tmp_path / "service") as made:
        made.configuration["tokens"][0]["processes"] = 1
        yield made


@pytest_asyncio.fixture
async def opened(files: ServeService) -> AsyncIterator[Callable[[], Any]]:
    """Open instances, started, that are stopped after the test."""
    async with AsyncExitStack() as stack:

        async def instance() -> Instance:
            configuration = load(files.write_configuration())
            store = await Store.open(configuration.database.connection_string())
            stack.push_async_callback(store.close)
            section = configuration.tokens[0]
            pool = TamperedPool(await SignerPool.open(token_ref(section), processes=1))
            stack.push_async_callback(pool.close)
            made = assembled(store, pool, configuration)
            await made.view.refresh()
            await made.path.start()
            stack.push_async_callback(made.path.stop, 0.0)
            return made

        yield instance


def assembled(store: Store, pool: TamperedPool, configuration: Configuration) -> Instance:
    serial = configuration.tokens[0].serial
    custody = Custody({serial: pool}, sign_timeout=5.0)  # type: ignore[dict-item]  # stands in for a SignerPool
    view = RegistryView(store, custody, configuration.service.registry_id)
    guard = RollbackGuard(clock.now)
    return Instance(store, pool, view, guard, SignPath(store, custody, view, guard, configuration, clock.now))


Opened = Callable[[], Any]


def flip(signature: bytes) -> bytes:
    return bytes([signature[0] ^ 1]) + signature[1:]


def each(change: Callable[[bytes], bytes]) -> Tamper:
    """Return what changes every signature by itself."""
    return lambda _, signed: [change(item) if isinstance(item, bytes) else item for item in signed]


TAMPERED: dict[str, Tamper] = {
    "first bit": each(flip),
    "last bit": each(lambda signature: signature[:-1] + bytes([signature[-1] ^ 0x80])),
    "zeros": each(lambda signature: bytes(64)),
    "short": each(lambda signature: signature[:-1]),
    "long": each(lambda signature: signature + b"\0"),
    "empty": each(lambda signature: b""),
    "halves exchanged": each(lambda signature: signature[32:] + signature[:32]),
    "another message's": lambda _, signed: signed[1:] + signed[:1],
}


@pytest.mark.parametrize("case", TAMPERED)
async def test_case_18_a_wrong_signature_is_never_released(files: ServeService, opened: Opened, case: str) -> None:
    """Whatever the token returns that is no signature: nobody gets it, nothing of it is stored, its keys are not used.

    A later instance, with a token that signs rightly, completes the claims with the bytes they were made with.
    """
    first = await opened()
    chains = [Chain() for _ in range(20)]
    first.pool.tamper = TAMPERED[case]
    outcomes = await first.sign(*(chain.event(0) for chain in chains))
    assert {(item.code, item.reason) for item in outcomes if isinstance(item, Refused)} == {
        (Code.FAILED_PRECONDITION, "KEY_QUARANTINED")
    }
    assert [item for item in outcomes if isinstance(item, Attested)] == []
    first.pool.tamper = each(lambda signature: signature)
    (blocked,) = await first.sign(Chain().event(0))
    assert blocked.reason == "NO_WITNESS_AVAILABLE"
    with files.auditor() as database:
        claims = {chain.stream: stored(database, chain.stream) for chain in chains}
        assert all([row[2] for row in rows] == [None] for rows in claims.values())
        await opened()
        for chain in chains:
            (row,) = check_stored(database, chain.stream, [])
            assert row[1] == claims[chain.stream][0][1]
        check_log(database)


async def test_case_18_one_bad_key_does_not_stop_the_others(files: ServeService, opened: Opened) -> None:
    """Only the key with the wrong signatures is quarantined; events that fall to the others are attested."""
    instance = await opened()
    registry = instance.view.current
    bad = registry.signing_key(registry.witnesses[0])

    def tamper(requests: Sequence[tuple[bytes, bytes]], signed: Signed) -> Signed:
        return [
            flip(item) if cka_id == bad.cka_id and isinstance(item, bytes) else item
            for (cka_id, _), item in zip(requests, signed, strict=True)
        ]

    instance.pool.tamper = tamper
    outcomes = await instance.sign(*(Chain().event(0) for _ in range(60)))
    refused = [item for item in outcomes if isinstance(item, Refused)]
    assert refused
    assert {(item.reason, item.metadata["key_id"]) for item in refused} == {("KEY_QUARANTINED", bad.key_id)}
    good = [item for item in outcomes if isinstance(item, Attested)]
    assert len({item.key_id for item in good}) == 2
    after = await instance.sign(*(Chain().event(0) for _ in range(60)))
    assert all(isinstance(item, Attested) and item.key_id != bad.key_id for item in after)
    assert {Statement.decode(item.statement).round for item in after} >= {0, 1}
    for item in [*good, *after]:
        key: PublicKey = registry.keys[item.key_id].public_key
        key.verify(item.signature, dsse.pae(STATEMENT_TYPE, item.statement))


async def test_case_28_what_is_on_its_way_is_not_sealed_on_a_rolled_back_database(
    files: ServeService, opened: Opened
) -> None:
    """An event that is being signed when a cosigner speaks is refused, stays claimed, and is completed afterwards."""
    instance = await opened()
    chain = Chain()
    instance.pool.held = []
    signing = asyncio.create_task(instance.sign(chain.event(0)))
    async with asyncio.timeout(10):
        while not instance.pool.held:
            await asyncio.sleep(0.01)
    instance.guard.contradicted("cosigner", "statements", 9, other_root=False, ours=0)
    instance.pool.held[0].go.set()
    instance.pool.held = None
    (outcome,) = await signing
    assert (outcome.code, outcome.reason) == (Code.FAILED_PRECONDITION, "ROLLBACK_DETECTED")
    with pytest.raises(Refused, match="ROLLBACK_DETECTED"):
        await instance.sign(chain.event(1))
    with files.auditor() as database:
        await asyncio.sleep(0.5)  # in which a claim left behind would have been completed
        ((_, statement, leaf_index, _),) = stored(database, chain.stream)
        assert leaf_index is None
        instance.guard.agreed("cosigner", "statements", 9)
        (attested,) = await instance.sign(chain.event(0))
        assert attested.statement == statement
        check_stored(database, chain.stream, [attested])
        assert check_log(database) == 1


async def test_case_11_a_token_that_fails_once(files: ServeService, opened: Opened) -> None:
    """A caller is told to ask again; the claim is completed by itself, with nobody asking."""
    instance = await opened()
    failing = iter([True])

    def tamper(_: Sequence[tuple[bytes, bytes]], signed: Signed) -> Signed:
        return [HsmError(Fault.DEVICE, "gone")] * len(signed) if next(failing, False) else signed

    instance.pool.tamper = tamper
    chain = Chain()
    refused, unlinked = await instance.sign(chain.event(0), chain.event(1))
    assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "HSM_UNAVAILABLE")
    assert isinstance(unlinked, Refused)
    async with asyncio.timeout(10):
        while await instance.store.unsealed():
            await asyncio.sleep(0.01)
    with files.auditor() as database:
        rows = check_stored(database, chain.stream, [])
    assert len(rows) == 2
    again = await instance.sign(chain.event(0), chain.event(1))
    assert [(item.statement, item.leaf_index, item.signature) for item in again] == [row[1:] for row in rows]


@pytest.mark.parametrize("fails", [False, True])
async def test_asking_again_while_the_claims_are_completed(files: ServeService, opened: Opened, fails: bool) -> None:
    """Whoever asks for a claim that is being taken up again gets its answer, also when that fails another time."""
    files.configuration["limits"] = {"batch_events": 16}
    instance = await opened()
    chain = Chain()
    instance.pool.tamper = gone
    assert all(isinstance(item, Refused) for item in await instance.sign(*chain.events(0, 48)))
    held = await first_of_three(instance.pool)
    if not fails:
        instance.pool.tamper = each(lambda signature: signature)
    # The first third is being completed; the others are adopted by those who ask again meanwhile.
    before = len(held)
    answers = [instance.path.submit([event], 10.0) for event in chain.events(0, 48)]
    await reached(held, before + 2)
    held[before - 1].go.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*answers[:16])
        instance.pool.held = None
        for call in held:
            call.go.set()
        outcomes = [outcome for (outcome,) in await asyncio.gather(*answers)]
    assert all(isinstance(outcome, Refused) == fails for outcome in outcomes)
    assert instance.path.events_in_flight == 0
    instance.pool.tamper = each(lambda signature: signature)
    async with asyncio.timeout(10):
        while await instance.store.unsealed():
            await asyncio.sleep(0.01)
    with files.auditor() as database:
        assert len(check_stored(database, chain.stream, [])) == 48


def gone(_: Sequence[tuple[bytes, bytes]], signed: Signed) -> Signed:
    return [HsmError(Fault.DEVICE, "gone")] * len(signed)


async def first_of_three(pool: TamperedPool) -> list[HeldCall]:
    """Hold the calls to the pool, from the first one of a pass over all 48 unfinished claims on."""
    held: list[HeldCall] = []
    pool.held = held
    passes = 0  # the one that runs now may have begun when not all had failed
    while True:
        await reached(held, len(held) + 1)
        passes += b'"sequence":"0"' in held[-1].messages[0]
        if passes == 2:
            return held
        held[-1].go.set()


async def reached(held: list[HeldCall], calls: int) -> None:
    """Wait until so many calls have come to the pool."""
    async with asyncio.timeout(10):
        while len(held) < calls:
            await asyncio.sleep(0)


async def test_batches_form_by_themselves(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand events handed in one by one take a few transactions; bad input takes none."""
    instance = await opened()
    transactions = counted(instance.store, "claiming", monkeypatch)
    bad = [instance.path.submit([Event("", 0, "", None, "", "")], 10.0) for _ in range(10)]
    assert all(answer.done() for answer in bad)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(transactions) == 0
    chains = [Chain() for _ in range(10)]
    answers = [instance.path.submit([chain.event(sequence)], 10.0) for sequence in range(100) for chain in chains]
    for outcome in await asyncio.gather(*answers):
        assert isinstance(outcome[0], tuple), outcome
    assert len(transactions) < 20


def counted(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Count the calls of a method of a store, which goes on as before."""
    calls: list[None] = []
    method = getattr(store, name)

    def counting(*arguments: object) -> object:
        calls.append(None)
        return method(*arguments)

    monkeypatch.setattr(store, name, counting)
    return calls


async def test_case_38_who_stops_waiting_stops_nothing(files: ServeService, opened: Opened) -> None:
    """An answer that nobody waits for any more is made all the same."""
    instance = await opened()
    chain = Chain()
    for event in chain.events(0, 10):
        instance.path.submit([event], 10.0).cancel()
    (last,) = await instance.sign(chain.event(10))
    assert isinstance(last, Attested)
    with files.auditor() as database:
        assert len(check_stored(database, chain.stream, [last])) == 11


async def test_case_37_stopping_finishes_what_was_taken(files: ServeService, opened: Opened) -> None:
    """What was submitted before the stop is answered, what comes after it is refused, and nothing is in between."""
    instance = await opened()
    chains = [Chain() for _ in range(300)]
    answers = [instance.path.submit([chain.event(0)], 10.0) for chain in chains]
    stopping = asyncio.create_task(instance.path.stop(10.0))
    await asyncio.sleep(0)
    with pytest.raises(Refused) as caught:
        instance.path.submit([Chain().event(0)], 10.0)
    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, "STOPPING")
    assert await stopping
    assert all(answer.done() for answer in answers)
    assert all(isinstance(answer.result()[0], tuple) for answer in answers)


async def test_case_36_two_instances_complete_the_same_claims(files: ServeService, opened: Opened) -> None:
    """Started at once over the claims of one that failed, both complete them, and each claim has one leaf."""
    first = await opened()
    first.pool.tamper = gone
    chain = Chain()
    assert all(isinstance(item, Refused) for item in await first.sign(*chain.events(0, 200)))
    with files.auditor() as database:
        claims = stored(database, chain.stream)
        assert len(claims) == 200
        instances = await asyncio.gather(opened(), opened())
        rows = check_stored(database, chain.stream, [])
        assert [row[1] for row in rows] == [row[1] for row in claims]
        assert check_log(database) == 200
    answers = [await instance.sign(*chain.events(0, 200)) for instance in instances]
    assert answers[0] == answers[1]
    assert [(item.statement, item.leaf_index, item.signature) for item in answers[0]] == [row[1:] for row in rows]


async def test_case_36_two_instances_take_turns_in_one_stream(files: ServeService, opened: Opened) -> None:
    """Events sent to either instance, each after the answer before it: one chain, one log without gaps."""
    one, two = await opened(), await opened()
    chain = Chain()
    signed: list[Attested | Refused] = []
    for start in range(0, 60, 3):
        instance = (one, two)[start // 3 % 2]
        signed += await instance.sign(*chain.events(start, start + 3))
    assert [item.sequence for item in signed if isinstance(item, Attested)] == list(range(60))
    with files.auditor() as database:
        check_log(database)
        check_stored(database, chain.stream, [item for item in signed if isinstance(item, Attested)])


async def test_too_many_events_have_no_side_effect(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is refused as a whole, before anything of it is validated or stored."""
    instance = await opened()
    transactions = counted(instance.store, "claiming", monkeypatch)
    with pytest.raises(Refused) as caught:
        instance.path.submit([Chain().event(0)] * 8193, 10.0)
    assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    with pytest.raises(Refused) as caught:
        instance.path.submit([Chain().event(0)], 0.001)
    assert (caught.value.code, caught.value.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_TOO_NEAR")
    assert (instance.path.events_in_flight, len(transactions)) == (0, 0)
