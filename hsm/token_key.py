"""One key that its owner put into a token, for a program that signs a few times and ends."""

import asyncio

from hsm.errors import HsmError
from hsm.key import FoundKey, KeyRef, KeySearch
from hsm.limits import Limits
from hsm.signer_process import SignerProcess
from hsm.token import TokenInfo, TokenRef


class TokenKey:
    """A key made elsewhere and the signer process that is logged in to its token; nothing is ever tried again."""

    def __init__(self, process: SignerProcess, found: FoundKey, token_info: TokenInfo, limits: Limits) -> None:
        """Take the parts; use `open`."""
        self._process = process
        self._limits = limits
        self.found = found
        self.token_info = token_info

    @classmethod
    async def open(cls, token: TokenRef, wanted: KeySearch, *, limits: Limits | None = None) -> "TokenKey":
        """Start a signer process, log in once, find the key and prove it by a self-test signature.

        Args:
            token: where it is.
            wanted: which key.
            limits: how long things may take.

        Raises:
            HsmError: PIN, after exactly one login attempt; CONFIGURATION when not exactly one key fits or it is
                none that may be used; DEVICE, HANG, CRASH, WRONG_RESULT.
        """
        limits = limits or Limits()
        process = SignerProcess(token, limits, lambda error: None)
        try:
            await process.connect()
            info = await process.start(token)
            found = await process.find(wanted)
            ref = KeyRef(found.cka_id, found.algorithm, found.public_key)
            await process.prove(ref, asyncio.get_running_loop().time() + limits.load)
        except BaseException:
            await process.stop()
            raise
        return cls(process, found, info, limits)

    async def sign(self, message: bytes) -> bytes:
        """Return a raw signature, 64 bytes, NOT verified; raises HsmError."""
        deadline = asyncio.get_running_loop().time() + self._limits.load
        (outcome,) = await self._process.sign([(self.found.cka_id, message)], deadline)
        if isinstance(outcome, HsmError):
            raise outcome.again()
        return outcome

    async def close(self) -> None:
        """Close the sessions and end the process."""
        await self._process.stop()
