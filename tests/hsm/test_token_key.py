"""One key of somebody else's making: found, proved, and signed with by one process that is never replaced."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from hsm import Algorithm, Fault, HsmError, KeyRef, KeySearch, Limits, TokenKey, TokenRef
from tests.fix_softhsm import FaultyToken
from tests.hsm.conftest import OpenPool
from tests.hsm.signing import check, new_key, signer_pids

LIMITS = Limits(start=20, hang=0.4)
SESSION_HANDLE_INVALID = 0xB3
DEVICE_ERROR = 0x30


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Closes what a test opens; no signer process is left."""
    async with AsyncExitStack() as opened:
        yield opened
    assert signer_pids() == []


async def found(stack: AsyncExitStack, token: TokenRef, wanted: KeySearch) -> TokenKey:
    key = await TokenKey.open(token, wanted, limits=LIMITS)
    stack.push_async_callback(key.close)
    return key


def ref(key: TokenKey) -> KeyRef:
    return KeyRef(key.found.cka_id, key.found.algorithm, key.found.public_key)


@pytest.mark.parametrize("algorithm", list(Algorithm))
async def test_a_key_is_found_by_what_its_owner_calls_it(
    token: TokenRef, open_pool: OpenPool, stack: AsyncExitStack, algorithm: Algorithm
) -> None:
    """By CKA_ID, by label, or as the only one there is; what was read of it is reported."""
    pool = await open_pool(token)
    made = await new_key(pool, algorithm)
    await pool.close()
    for wanted in (KeySearch(), KeySearch(label="test"), KeySearch(made.cka_id), KeySearch(made.cka_id, "test")):
        key = await found(stack, token, wanted)
        assert ref(key) == made
        assert key.found.attributes["extractable"] == "false"
        assert key.found.attributes["local"] == "true"
        assert key.token_info.serial == token.serial
        check(made, b"m", await key.sign(b"m"))
        await key.close()


async def test_a_lost_session_is_mended(faulty_token: FaultyToken, open_pool: OpenPool, stack: AsyncExitStack) -> None:
    """The key is looked for again in a new session, as one of ours would be."""
    pool = await open_pool(faulty_token.ref)
    made = await new_key(pool)
    await pool.close()
    key = await found(stack, faulty_token.ref, KeySearch(label="test"))
    logins = faulty_token.calls("C_Login")
    faulty_token.order("C_SignInit", "return", SESSION_HANDLE_INVALID, 1)
    check(made, b"m", await key.sign(b"m"))
    assert faulty_token.calls("C_Login") == logins


async def test_a_process_that_dies_or_hangs_is_not_replaced(
    faulty_token: FaultyToken, open_pool: OpenPool, stack: AsyncExitStack
) -> None:
    """Whoever signs a few times starts again by hand; nobody logs in behind the owner's back."""
    pool = await open_pool(faulty_token.ref)
    await new_key(pool)
    await pool.close()
    for fault, order in (
        (Fault.CRASH, None),
        (Fault.HANG, ("C_Sign", "sleep", 5000)),
        (Fault.DEVICE, ("C_Sign", "return", DEVICE_ERROR)),
    ):
        key = await found(stack, faulty_token.ref, KeySearch())
        logins = faulty_token.calls("C_Login")
        if order is None:
            os.kill(signer_pids()[0], 9)
        else:
            faulty_token.order(*order)
        with pytest.raises(HsmError) as caught:
            await key.sign(b"m")
        assert caught.value.fault is fault
        with pytest.raises(HsmError):
            await key.sign(b"m")
        await key.close()
        faulty_token.mend("C_Sign")
        assert faulty_token.calls("C_Login") == logins


async def test_a_key_that_signs_wrongly_is_not_opened(
    faulty_token: FaultyToken, open_pool: OpenPool, stack: AsyncExitStack
) -> None:
    """The self-test finds a private key that is not the public key's, before anybody relies on it."""
    pool = await open_pool(faulty_token.ref)
    await new_key(pool)
    await pool.close()
    faulty_token.order("C_Sign", "flip", 3)
    with pytest.raises(HsmError) as caught:
        await found(stack, faulty_token.ref, KeySearch())
    assert caught.value.fault is Fault.WRONG_RESULT


async def test_an_attended_login_may_follow_a_mistyped_pin(
    faulty_token: FaultyToken, open_pool: OpenPool, stack: AsyncExitStack
) -> None:
    """Few tries left: only a person who has just typed the PIN may take one; nobody takes the last."""
    pool = await open_pool(faulty_token.ref)
    await new_key(pool)
    await pool.close()
    logins = faulty_token.calls("C_Login")
    unattended = faulty_token.ref
    attended = replace(unattended, attended=True)
    for flag, token, tries in (
        (0x10000, unattended, 0),
        (0x10000, attended, 1),
        (0x20000, attended, 0),
        (0x40000, attended, 0),
    ):
        faulty_token.order("C_GetTokenInfo", "flags", flag)
        if tries:
            await (await found(stack, token, KeySearch())).close()
        else:
            with pytest.raises(HsmError) as caught:
                await found(stack, token, KeySearch())
            assert caught.value.fault is Fault.PIN
        assert faulty_token.calls("C_Login") == logins + tries
        logins = faulty_token.calls("C_Login")


def test_what_a_signer_process_is_told_is_what_was_meant() -> None:
    """The fields of a token reference, there and back; the environment is given another way."""
    full = TokenRef("/m", "label \u20ac", "0", "/pin", manufacturer="a", model="b", slot_id=0, attended=True)
    for token in (full, TokenRef("/m", "l", "s", "/p")):
        assert TokenRef.from_fields(token.fields()) == token
    with pytest.raises(ValueError, match="unpack"):
        TokenRef.from_fields([b""] * 4)
