"""The PIN: tried once, latched when refused, and never seen outside the signer process."""

import asyncio
import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm import Fault, HsmError, PoolStatus, SignerPool, TokenRef
from tests.fix_softhsm import FaultyToken
from tests.hsm.conftest import LIMITS, OpenPool
from tests.hsm.signing import check, eventually, new_key, signer_pids

pytestmark = pytest.mark.faults

WRONG = "sentinel-not-the-pin"
COUNT_LOW, FINAL_TRY, LOCKED = 0x10000, 0x20000, 0x40000
PIN_EXPIRED, PIN_LOCKED = 0xA3, 0xA4
USER_NOT_LOGGED_IN = 0x101


async def refused(token: TokenRef, processes: int = 2) -> HsmError:
    """Open a pool that must be refused for its PIN; returns the error."""
    with pytest.raises(HsmError) as caught:
        await SignerPool.open(token, processes=processes, limits=LIMITS)
    assert caught.value.fault is Fault.PIN
    assert signer_pids() == []
    return caught.value


async def test_case_19_pin_wrong_at_start(faulty_token: FaultyToken) -> None:
    """Four processes, one login attempt, and the file to correct is named but not its content."""
    Path(faulty_token.ref.pin_file).write_text(WRONG)
    error = await refused(faulty_token.ref, processes=4)
    assert faulty_token.calls("C_Login") == 1
    assert faulty_token.ref.pin_file in str(error)
    assert WRONG not in str(error)


async def test_case_19_pin_corrected_after_a_wrong_one(
    token: TokenRef, faulty_token: FaultyToken, open_pool: OpenPool, on_token: Callable[..., str]
) -> None:
    """The token still warns, so nobody logs in before a person has; then it works again."""
    pin = Path(token.pin_file).read_text()
    Path(token.pin_file).write_text(WRONG)
    await refused(token)
    Path(token.pin_file).write_text(pin)
    assert "CKF_USER_PIN_COUNT_LOW" in str(await refused(faulty_token.ref))
    assert faulty_token.calls("C_Login") == 0
    on_token("")
    assert (await open_pool(token)).state().status is PoolStatus.READY


@pytest.mark.parametrize("flag", [COUNT_LOW, FINAL_TRY, LOCKED])
async def test_case_19_flags(flag: int, faulty_token: FaultyToken) -> None:
    """A token that says its PIN is about to lock, or has, is not logged in to at all."""
    faulty_token.order("C_GetTokenInfo", "flags", flag)
    assert "CKF_USER_PIN_" in str(await refused(faulty_token.ref))
    assert faulty_token.calls("C_Login") == 0


@pytest.mark.parametrize("code", [PIN_EXPIRED, PIN_LOCKED])
async def test_case_19_locked_and_expired(code: int, faulty_token: FaultyToken) -> None:
    """Whatever the token has against the PIN, it is asked once."""
    faulty_token.order("C_Login", "return", code)
    await refused(faulty_token.ref)
    assert faulty_token.calls("C_Login") == 1


async def test_case_19_pin_wrong_later(faulty_token: FaultyToken, token: TokenRef, open_pool: OpenPool) -> None:
    """Two signers die after the PIN was changed: one attempt, no more starts; the third serves on."""
    pool = await open_pool(faulty_token.ref, 3)
    key = await new_key(pool)
    logins = faulty_token.calls("C_Login")
    Path(token.pin_file).write_text(WRONG)
    first, second, third = signer_pids()
    os.kill(first, 9)
    os.kill(second, 9)
    await eventually(lambda: "refused the PIN" in pool.state().reason)
    (signature,) = await pool.sign([(key.cka_id, b"m")], timeout=10)
    check(key, b"m", signature)
    assert pool.state().status is PoolStatus.DEGRADED

    os.kill(third, 9)
    await eventually(lambda: pool.state().status is PoolStatus.LATCHED)
    (outcome,) = await pool.sign([(key.cka_id, b"m")], timeout=10)
    assert isinstance(outcome, HsmError)
    assert outcome.fault is Fault.PIN
    with pytest.raises(HsmError, match="refused the PIN"):
        await pool.probe(timeout=5)
    assert faulty_token.calls("C_Login") == logins + 1
    await eventually(lambda: signer_pids() == [])


async def test_case_19_pin_wrong_at_a_new_login(
    faulty_token: FaultyToken, token: TokenRef, open_pool: OpenPool
) -> None:
    """The token forgot the login and now refuses the PIN: one attempt, latched."""
    pool = await open_pool(faulty_token.ref)
    key = await new_key(pool)
    logins = faulty_token.calls("C_Login")
    faulty_token.order("C_SignInit", "return", USER_NOT_LOGGED_IN)
    faulty_token.order("C_Login", "return", 0xA0)
    outcomes = await pool.sign([(key.cka_id, b"m")] * 3, timeout=10)
    assert {outcome.fault for outcome in outcomes if isinstance(outcome, HsmError)} == {Fault.PIN}
    await eventually(lambda: signer_pids() == [])
    assert pool.state().status is PoolStatus.LATCHED
    assert faulty_token.calls("C_Login") == logins + 1


async def test_the_signer_process_ends_with_the_status_that_says_pin(token: TokenRef) -> None:
    """A supervisor that only sees exit statuses must not start it again either."""
    import socket
    import sys

    from hsm.frame import Kind, encode
    from hsm.signer import PIN_EXIT

    Path(token.pin_file).write_text(WRONG)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "hsm.signer", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, **token.environment},
        )
        ours.sendall(encode(1, Kind.START, token.fields()))
        assert await asyncio.to_thread(process.wait, 20) == PIN_EXIT


async def test_an_unusable_pin_file_is_no_login_attempt(faulty_token: FaultyToken) -> None:
    """Absent, empty, not text, open to others: said, and the token is not asked."""
    file = Path(faulty_token.ref.pin_file)
    pin = file.read_text()

    async def reason() -> str:
        with pytest.raises(HsmError) as caught:
            await SignerPool.open(faulty_token.ref, processes=1, limits=LIMITS)
        assert caught.value.fault is Fault.CONFIGURATION
        assert pin.strip() not in str(caught.value)
        return str(caught.value)

    file.chmod(0o604)
    assert "set its mode to 0600" in await reason()
    file.chmod(0o600)
    file.write_text("\n")
    assert "expected a PIN" in await reason()
    file.write_bytes(b"\xff\xfe")
    assert "expected a PIN" in await reason()
    file.unlink()
    assert "expected a readable PIN file" in await reason()
    assert faulty_token.calls("C_Login") == 0


async def test_case_45_the_pin_is_nowhere_but_in_its_file(
    token: TokenRef,
    open_pool: OpenPool,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """On no argument list, in no environment, repr, error, log or output."""
    pin = Path(token.pin_file).read_text().strip()
    caplog.set_level(logging.DEBUG)
    pool = await open_pool(token, 2)
    key = await new_key(pool)
    os.kill(signer_pids()[0], 9)
    outcomes = await pool.sign([(key.cka_id, b"m"), (b"?", b"m")], timeout=10)
    seen = [repr(value) for value in (token, pool, vars(pool), pool.state(), pool.token_info, key, outcomes)]
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                seen.append((folder / name).read_bytes().decode(errors="replace"))
            except OSError:
                continue
    seen += [caplog.text, *capfd.readouterr()]
    assert not [text for text in seen if pin in text]
