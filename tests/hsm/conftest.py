"""Pools of signer processes for the tests of hsm."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from hsm import Limits, SignerPool, TokenRef

OpenPool = Callable[..., Awaitable[SignerPool]]

LIMITS = Limits(start=20, hang=0.4, back_off_first=0.05, back_off_longest=0.2)
"""Short enough for tests to meet, long enough for a busy machine."""


@pytest.fixture
async def open_pool() -> AsyncIterator[OpenPool]:
    """Open pools that are closed after the test."""
    async with AsyncExitStack() as stack:

        async def opened(token: TokenRef, processes: int = 1, limits: Limits = LIMITS) -> SignerPool:
            pool = await SignerPool.open(token, processes=processes, limits=limits)
            stack.push_async_callback(pool.close)
            return pool

        yield opened
