"""Generating, loading and signing through a pool of signer processes on a real token."""

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from hsm import Algorithm, Fault, HsmError, KeyRef, PoolStatus, SignerPool, TokenRef
from tests.fix_softhsm import FaultyToken
from tests.hsm.conftest import OpenPool
from tests.hsm.signing import check, eventually, new_key, signer_pids

EXPECTED_ATTRIBUTES = {
    "token": "true",
    "private": "true",
    "sensitive": "true",
    "extractable": "false",
    "modifiable": "false",
    "copyable": "false",
    "destroyable": "true",
    "sign": "true",
    "decrypt": "false",
    "unwrap": "false",
    "derive": "false",
    "sign_recover": "false",
    "always_sensitive": "true",
    "never_extractable": "true",
    "local": "true",
}
MECHANISM = {
    Algorithm.ED25519: "CKM_EC_EDWARDS_KEY_PAIR_GEN",
    Algorithm.ECDSA_P256: "CKM_EC_KEY_PAIR_GEN",
}


@pytest.mark.parametrize("algorithm", Algorithm)
async def test_a_key_is_generated_loaded_and_signs(algorithm: Algorithm, token: TokenRef, open_pool: OpenPool) -> None:
    """Both algorithms, two processes, messages of 0 to 70,000 bytes; cryptography accepts all signatures."""
    pool = await open_pool(token, 2)
    generated = await pool.generate(algorithm, "test key")
    assert len(generated.cka_id) == 16
    assert generated.attributes == EXPECTED_ATTRIBUTES | {"key_gen_mechanism": MECHANISM[algorithm]}
    key = KeyRef(generated.cka_id, generated.algorithm, generated.public_key)
    assert await pool.load(key) == generated.attributes
    messages = [b"", b"\0", os.urandom(1000), os.urandom(70_000)] * 5
    signatures = await pool.sign([(key.cka_id, message) for message in messages], timeout=10)
    for message, signature in zip(messages, signatures, strict=True):
        check(key, message, signature)


async def test_token_info_is_what_the_token_says(token: TokenRef, open_pool: OpenPool) -> None:
    """Label and serial of the reference, and who made it."""
    info = (await open_pool(token)).token_info
    assert (info.label, info.serial, info.manufacturer) == (token.label, token.serial, "SoftHSM project")


async def test_one_bad_item_does_not_fail_the_others(token: TokenRef, open_pool: OpenPool) -> None:
    """Order is kept; a key that is not loaded and a message that is too long fail alone."""
    pool = await open_pool(token, 2)
    first, second = await new_key(pool), await new_key(pool, Algorithm.ECDSA_P256)
    requests = [
        (first.cka_id, b"a"),
        (b"?" * 16, b"b"),
        (second.cka_id, b"c"),
        (first.cka_id, bytes(1 << 21)),
        (first.cka_id, b"d"),
    ]
    outcomes = await pool.sign(requests, timeout=10)
    for index, key in ((0, first), (2, second), (4, first)):
        check(key, requests[index][1], outcomes[index])
    unknown, long = outcomes[1], outcomes[3]
    assert isinstance(unknown, HsmError)
    assert "3f3f3f3f" in str(unknown)
    assert isinstance(long, HsmError)
    assert {unknown.fault, long.fault} == {Fault.CONFIGURATION}
    assert pool.state().status is PoolStatus.READY


async def test_an_empty_batch_has_an_empty_answer(token: TokenRef, open_pool: OpenPool) -> None:
    """Nothing asked, nothing signed."""
    assert await (await open_pool(token)).sign([], timeout=1) == []


async def test_many_callers_get_their_own_signatures(token: TokenRef, open_pool: OpenPool) -> None:
    """A hundred calls at once over three processes: no answer goes to another caller."""
    pool = await open_pool(token, 3)
    keys = [await new_key(pool, algorithm) for algorithm in Algorithm]
    work = [(keys[i % 2], f"call {i} message {j}".encode()) for i in range(100) for j in range(i % 7)]
    calls = [[item for item in work if item[1].startswith(b"call %d " % i)] for i in range(100)]
    answers = await asyncio.gather(
        *(pool.sign([(key.cka_id, message) for key, message in call], timeout=20) for call in calls)
    )
    for call, answer in zip(calls, answers, strict=True):
        for (key, message), signature in zip(call, answer, strict=True):
            check(key, message, signature)


async def test_a_message_beyond_the_deadline_is_not_signed(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """What was signed in time is returned, the rest is HANG and costs the token nothing; nobody is killed."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    pids, before = signer_pids(), faulty_token.calls("C_SignInit")
    messages = [b"%d" % i for i in range(5000)]
    outcomes = await pool.sign([(key.cka_id, message) for message in messages], timeout=0.3)
    missing = [outcome for outcome in outcomes if isinstance(outcome, HsmError)]
    assert 0 < len(missing) < len(messages)
    assert {outcome.fault for outcome in missing} == {Fault.HANG}
    check(key, messages[0], outcomes[0])
    (after,) = await pool.sign([(key.cka_id, b"after")], timeout=10)
    check(key, b"after", after)
    assert faulty_token.calls("C_SignInit") - before < len(messages)
    assert signer_pids() == pids


async def test_a_cancelled_call_leaves_the_pool_usable(token: TokenRef, open_pool: OpenPool) -> None:
    """The answer of a caller who has left goes nowhere; the next caller gets its own."""
    pool = await open_pool(token)
    key = await new_key(pool)
    call = asyncio.create_task(pool.sign([(key.cka_id, b"left")] * 500, timeout=10))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (signature,) = await pool.sign([(key.cka_id, b"next")], timeout=10)
    check(key, b"next", signature)


async def test_probe_signs_in_every_process(token: TokenRef, open_pool: OpenPool) -> None:
    """Without a key there is no proof of health; with one there is."""
    pool = await open_pool(token, 2)
    with pytest.raises(HsmError, match="expected a loaded key") as caught:
        await pool.probe(timeout=5)
    assert caught.value.fault is Fault.CONFIGURATION
    await new_key(pool)
    await pool.probe(timeout=5)


async def test_a_closed_pool_has_no_processes_and_signs_nothing(token: TokenRef) -> None:
    """Closing ends every process at once; calls in flight and later ones get an error, not a hang."""
    pool = await SignerPool.open(token, processes=3)
    key = await new_key(pool)
    assert len(signer_pids()) == 3
    flying = asyncio.create_task(pool.sign([(key.cka_id, b"x")] * 3000, timeout=10))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await pool.close()
    assert signer_pids() == []
    assert any(isinstance(outcome, HsmError) for outcome in await flying)
    (outcome,) = await pool.sign([(key.cka_id, b"x")], timeout=10)
    assert isinstance(outcome, HsmError)
    assert "closed" in str(outcome)
    assert not pool.state().serving
    await pool.close()


async def test_a_key_generated_in_one_process_loads_in_all(token: TokenRef, open_pool: OpenPool) -> None:
    """Also in a second pool, as of another replica, that was logged in before the key was there."""
    first, second = await open_pool(token, 2), await open_pool(token, 2)
    key = await new_key(first)
    await second.load(key)
    (signature,) = await second.sign([(key.cka_id, b"m")], timeout=10)
    check(key, b"m", signature)


@pytest.mark.faults
async def test_processes_that_start_together_all_log_in(token: TokenRef, open_pool: OpenPool) -> None:
    """Several pools at once, as of several services: SoftHSM rewrites a file of the token at every login."""
    for _ in range(2):
        pools = await asyncio.gather(open_pool(token, 4), *(open_pool(token) for _ in range(6)))
        assert [pool.state().processes_serving for pool in pools] == [4, 1, 1, 1, 1, 1, 1]
        for pool in pools:
            await pool.close()


@pytest.mark.faults
async def test_a_login_waits_for_the_one_before(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """While another process holds the lock the module is not even initialised."""
    with open(faulty_token.ref.pin_file) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        opening = asyncio.ensure_future(open_pool(faulty_token.ref))
        await eventually(lambda: any(_waits_for_a_lock(pid) for pid in signer_pids()))
        assert faulty_token.calls("C_Initialize") == 0
    await opening
    assert faulty_token.calls("C_Initialize") == 1


def _waits_for_a_lock(pid: int) -> bool:
    locks = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and str(pid) in line.split() for line in locks)


async def test_no_process_at_all_is_refused(token: TokenRef) -> None:
    """A pool of nothing would wait for ever."""
    with pytest.raises(ValueError, match="at least 1"):
        await SignerPool.open(token, processes=0)
