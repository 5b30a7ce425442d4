"""A signer process or the token fails: what callers get, what the state says, how service comes back."""

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hsm import Algorithm, Fault, HsmError, PoolStatus, SignerPool, TokenRef
from tests.fix_softhsm import FaultyToken
from tests.hsm.conftest import LIMITS, OpenPool
from tests.hsm.signing import check, eventually, new_key, signer_pids

pytestmark = pytest.mark.faults

DEVICE_REMOVED, SESSION_HANDLE_INVALID, SESSION_COUNT = 0x32, 0xB3, 0xB1
KEY_HANDLE_INVALID, OPERATION_ACTIVE, MECHANISM_INVALID, DATA_LEN_RANGE = 0x60, 0x90, 0x70, 0x21
USER_NOT_LOGGED_IN, NOT_INITIALIZED, VENDOR = 0x101, 0x190, 0x80000042


def faults(outcomes: list[bytes | HsmError]) -> set[Fault | None]:
    """Return the fault classes among outcomes, None for a signature."""
    return {outcome.fault if isinstance(outcome, HsmError) else None for outcome in outcomes}


# -- the process ------------------------------------------------------------------------------------------


async def test_case_17_killed_signer(token: TokenRef, open_pool: OpenPool) -> None:
    """What was in flight is a CRASH; the next call is signed, without anybody doing anything."""
    pool = await open_pool(token)
    key = await new_key(pool)
    (pid,) = signer_pids()
    flying = asyncio.create_task(pool.sign([(key.cka_id, b"m")] * 2000, timeout=20))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    assert Fault.CRASH in faults(await flying)
    for _ in range(3):
        (signature,) = await pool.sign([(key.cka_id, b"next")], timeout=20)
        check(key, b"next", signature)
    assert signer_pids() != [pid]
    assert pool.state().status is PoolStatus.READY


async def test_case_17_module_crashes(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """A segmentation fault inside C_Sign takes one process; this one and the other signer live."""
    pool = await open_pool(faulty_token.ref, 2)
    key = await new_key(pool)
    faulty_token.order("C_Sign", "kill", signal.SIGSEGV, times=1)
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {Fault.CRASH}
    (signature,) = await pool.sign([(key.cka_id, b"m")], timeout=10)
    check(key, b"m", signature)
    await eventually(lambda: pool.state().status is PoolStatus.READY)


async def test_case_16_stopped_signer(token: TokenRef, open_pool: OpenPool) -> None:
    """A process that hangs is a HANG within the timeout; the other serves at once, and it is replaced."""
    pool = await open_pool(token, 2)
    key = await new_key(pool)
    before = signer_pids()
    os.kill(before[0], signal.SIGSTOP)
    started = time.monotonic()
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=0.1)) == {Fault.HANG}
    assert time.monotonic() - started < 2
    for _ in range(5):
        assert faults(await pool.sign([(key.cka_id, b"m")], timeout=20)) == {None}
    await eventually(lambda: before[0] not in signer_pids() and pool.state().status is PoolStatus.READY)
    assert before[1] in signer_pids()
    assert faults(await pool.sign([(key.cka_id, b"m")] * 16, timeout=20)) == {None}


@pytest.mark.parametrize("function", ["C_SignInit", "C_Sign"])
async def test_case_16_hang_in_the_module(function: str, faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """The caller has its answer at its own deadline; a replay is signed by the next process."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    (pid,) = signer_pids()
    faulty_token.order(function, "sleep", 60_000, times=1)
    started = time.monotonic()
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=0.1)) == {Fault.HANG}
    assert time.monotonic() - started < 2
    await eventually(lambda: signer_pids() not in ([pid], []))
    (signature,) = await pool.sign([(key.cka_id, b"m")], timeout=20)
    check(key, b"m", signature)


@pytest.mark.parametrize("function", ["C_Initialize", "C_Login"])
async def test_case_16_hang_while_starting(function: str, faulty_token: FaultyToken) -> None:
    """The process is killed at its limit and the error says that it hung; nothing is left behind."""
    faulty_token.order(function, "sleep", 60_000)
    limits = dataclasses.replace(LIMITS, start=0.7)
    with pytest.raises(HsmError, match="no sign of life") as caught:
        await SignerPool.open(faulty_token.ref, processes=1, limits=limits)
    assert caught.value.fault is Fault.HANG
    assert signer_pids() == []


async def test_a_slow_token_is_not_taken_for_a_hung_one(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """A batch that takes far longer than the limit for a hang is signed to its end, piece by piece."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    pids = signer_pids()
    faulty_token.order("C_SignInit", "sleep", 50)
    outcomes = await pool.sign([(key.cka_id, b"m")] * 16, timeout=30)
    assert faults(outcomes) == {None}
    assert signer_pids() == pids


PARENT = """
import asyncio, sys
from pathlib import Path
from hsm import SignerPool, softhsm
async def main():
    pool = await SignerPool.open(softhsm.open_token(Path(sys.argv[1]), sys.argv[2]), processes=2)
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("hung", [False, True])
async def test_signers_end_with_their_parent(hung: bool, token: TokenRef, softhsm_folder: Path) -> None:
    """A parent that is killed closes nothing; its signers notice, even one that hangs at that moment."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, softhsm_folder, token.label], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        assert await asyncio.to_thread(parent.stdout.readline) == b"ready\n"
        pids = signer_pids(parent.pid)
        assert len(pids) == 2
        if hung:
            os.kill(pids[0], signal.SIGSTOP)
        parent.kill()
    await eventually(lambda: not any(_lives(pid) for pid in pids))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_signals_meant_for_the_service_do_not_end_a_signer(token: TokenRef, open_pool: OpenPool) -> None:
    """Ctrl-C and a stop of the whole unit reach every process; the signers serve until the pool is closed."""
    pool = await open_pool(token)
    key = await new_key(pool)
    pids = signer_pids()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pids[0], number)
        assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {None}
    assert signer_pids() == pids


# -- session and login ------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["C_SignInit", "C_Sign"])
async def test_case_11_12_session_or_login_lost(function: str, faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """Signed after one silent retry, in a new session, by the same process; at most one login."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    pids = signer_pids()
    for code in (SESSION_HANDLE_INVALID, OPERATION_ACTIVE, USER_NOT_LOGGED_IN, KEY_HANDLE_INVALID):
        logins, sessions = faulty_token.calls("C_Login"), faulty_token.calls("C_OpenSession")
        faulty_token.order(function, "return", code, times=1)
        outcomes = await pool.sign([(key.cka_id, b"%d" % i) for i in range(20)], timeout=10)
        for i, outcome in enumerate(outcomes):
            check(key, b"%d" % i, outcome)
        assert faulty_token.calls("C_OpenSession") > sessions
        assert faulty_token.calls("C_Login") - logins == (code in (USER_NOT_LOGGED_IN, KEY_HANDLE_INVALID))
    assert signer_pids() == pids


async def test_a_session_that_stays_broken_costs_the_process(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """One retry, not more; then a new process, which serves once the cause is gone."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    (pid,) = signer_pids()
    inits = faulty_token.calls("C_SignInit")
    faulty_token.order("C_SignInit", "return", SESSION_HANDLE_INVALID)
    assert faults(await pool.sign([(key.cka_id, b"m")] * 3, timeout=10)) == {Fault.SESSION}
    assert faulty_token.calls("C_SignInit") - inits >= 2
    faulty_token.mend("C_SignInit")
    await eventually(lambda: pool.state().status is PoolStatus.READY)
    assert pid not in signer_pids()
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {None}


async def test_case_15_too_few_sessions(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """A process that gets no session is missing from the pool, and joins it when there is one."""
    pool = await open_pool(faulty_token.ref, 2)
    key = await new_key(pool)
    faulty_token.order("C_OpenSession", "return", SESSION_COUNT)
    os.kill(signer_pids()[0], signal.SIGKILL)
    await eventually(lambda: "SessionCount" in pool.state().reason)
    assert pool.state().status is PoolStatus.DEGRADED
    assert faults(await pool.sign([(key.cka_id, b"m")] * 20, timeout=10)) == {None}
    faulty_token.mend("C_OpenSession")
    await eventually(lambda: pool.state().status is PoolStatus.READY)


# -- the device -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [DEVICE_REMOVED, NOT_INITIALIZED, VENDOR])
async def test_case_14_21_device_fault(code: int, faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """While it lasts every call fails at once and the state says so; afterwards service is back by itself."""
    pool = await open_pool(faulty_token.ref, 2)
    keys = [await new_key(pool, algorithm) for algorithm in Algorithm]
    requests = [(key.cka_id, b"m") for key in keys] * 10
    faulty_token.order("C_GetTokenInfo", "return", code)
    faulty_token.order("C_SignInit", "return", code)
    assert faults(await pool.sign(requests, timeout=10)) == {Fault.DEVICE}
    await eventually(lambda: pool.state().status is PoolStatus.DOWN, 2)
    assert not pool.state().serving
    started = time.monotonic()
    assert faults(await pool.sign(requests, timeout=30)) == {Fault.DEVICE}
    assert time.monotonic() - started < 5
    with pytest.raises(HsmError) as caught:
        await pool.probe(timeout=10)
    assert caught.value.fault is Fault.DEVICE
    faulty_token.mend("C_GetTokenInfo")
    faulty_token.mend("C_SignInit")
    await eventually(lambda: pool.state().status is PoolStatus.READY)
    assert faults(await pool.sign(requests, timeout=10)) == {None}
    await pool.probe(timeout=10)


async def test_case_14_device_removed_once(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """One failure costs the rest of its batch and one process, and nothing after that."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    faulty_token.order("C_Sign", "return", DEVICE_REMOVED, times=1)
    assert faults(await pool.sign([(key.cka_id, b"m")] * 3, timeout=10)) == {Fault.DEVICE}
    assert faults(await pool.sign([(key.cka_id, b"m")] * 3, timeout=10)) == {None}


async def test_a_token_that_hides_its_keys_is_not_a_token_without_keys(
    faulty_token: FaultyToken, open_pool: OpenPool
) -> None:
    """After a silent logout nothing is found: no key is declared gone, and all sign again afterwards."""
    pool = await open_pool(faulty_token.ref)
    keys = [await new_key(pool), await new_key(pool)]
    faulty_token.order("C_FindObjects", "empty")
    faulty_token.order("C_SignInit", "return", KEY_HANDLE_INVALID, times=1)
    assert faults(await pool.sign([(keys[0].cka_id, b"m")], timeout=10)) == {Fault.DEVICE}
    await eventually(lambda: pool.state().status is PoolStatus.DOWN and "got none" in pool.state().reason)
    assert not pool.state().refused_keys
    faulty_token.mend("C_FindObjects")
    await eventually(lambda: pool.state().status is PoolStatus.READY)
    assert faults(await pool.sign([(key.cka_id, b"m") for key in keys], timeout=10)) == {None}


async def test_case_14_token_gone_for_a_while(token: TokenRef, open_pool: OpenPool, softhsm_folder: Path) -> None:
    """The token is not there when a signer starts; it is looked for until it is."""
    pool = await open_pool(token)
    key = await new_key(pool)
    tokens = softhsm_folder / "tokens"
    tokens.rename(softhsm_folder / "away")
    tokens.mkdir()
    os.kill(signer_pids()[0], signal.SIGKILL)
    await eventually(lambda: "labelled" in pool.state().reason)
    assert pool.state().status is PoolStatus.DOWN
    tokens.rmdir()
    (softhsm_folder / "away").rename(tokens)
    await eventually(lambda: pool.state().status is PoolStatus.READY)
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {None}


# -- wrong keys, wrong results, wrong tokens --------------------------------------------------------------


async def test_case_18_a_self_test_that_does_not_verify(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """A key that was loaded and now signs wrongly is refused at the next load; mended, it is taken again."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    faulty_token.order("C_Sign", "flip", 40)
    with pytest.raises(HsmError, match=key.cka_id.hex()) as caught:
        await pool.load(key)
    assert caught.value.fault is Fault.WRONG_RESULT
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {Fault.WRONG_RESULT}
    assert key.cka_id.hex() in pool.state().refused_keys
    faulty_token.mend("C_Sign")
    await pool.load(key)
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {None}
    assert pool.state().status is PoolStatus.READY


async def test_case_18_probe_notices_wrong_signatures(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """A session that opens and signs is no proof of health; a signature that verifies is."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    faulty_token.order("C_Sign", "flip", 3)
    with pytest.raises(HsmError) as caught:
        await pool.probe(timeout=10)
    assert caught.value.fault is Fault.WRONG_RESULT
    await eventually(lambda: key.cka_id.hex() in pool.state().refused_keys)


async def test_a_configuration_fault_latches_the_key(faulty_token: FaultyToken, open_pool: OpenPool) -> None:
    """A mechanism that is gone stays gone until a person acts: the token is not asked again."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    faulty_token.order("C_SignInit", "return", MECHANISM_INVALID)
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {Fault.CONFIGURATION}
    await eventually(lambda: key.cka_id.hex() in pool.state().refused_keys)
    faulty_token.mend("C_SignInit")
    inits = faulty_token.calls("C_SignInit")
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {Fault.CONFIGURATION}
    assert faulty_token.calls("C_SignInit") == inits
    await pool.load(key)
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {None}


async def test_a_message_the_token_refuses_does_not_latch_the_key(
    faulty_token: FaultyToken, open_pool: OpenPool
) -> None:
    """Otherwise one writer with one long message could shut a key for everybody."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    inits = faulty_token.calls("C_SignInit")
    faulty_token.order("C_Sign", "return", DATA_LEN_RANGE, times=1)
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {Fault.CONFIGURATION}
    await eventually(lambda: faulty_token.calls("C_SignInit") == inits + 2)
    assert faults(await pool.sign([(key.cka_id, b"m")], timeout=10)) == {None}
    assert pool.state().status is PoolStatus.READY


async def test_missing_token(token: TokenRef) -> None:
    """The error names the label that was looked for."""
    with pytest.raises(HsmError, match="labelled 'no such token'") as caught:
        await SignerPool.open(dataclasses.replace(token, label="no such token"), processes=2, limits=LIMITS)
    assert caught.value.fault is Fault.DEVICE


async def test_wrong_serial(faulty_token: FaultyToken) -> None:
    """Another token with the same label is not logged in to."""
    with pytest.raises(HsmError, match="with serial 00ff00ff") as caught:
        await SignerPool.open(dataclasses.replace(faulty_token.ref, serial="00ff00ff"), processes=2, limits=LIMITS)
    assert caught.value.fault is Fault.CONFIGURATION
    assert faulty_token.calls("C_Login") == 0


async def test_missing_module(token: TokenRef) -> None:
    """The error names the path."""
    with pytest.raises(HsmError, match="PKCS#11 module at /nowhere") as caught:
        await SignerPool.open(dataclasses.replace(token, module="/nowhere.so"), processes=1, limits=LIMITS)
    assert caught.value.fault is Fault.CONFIGURATION
