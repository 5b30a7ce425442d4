"""The checkpoint that a record embeds: over the whole statement log, cosigned, which it must be to close a key."""

from __future__ import annotations

import asyncio
from typing import Protocol

from key_registry import note
from key_registry.policy import Policy
from witness_service.log_signer import LogSigner
from witness_service.refusal import Code, Reason, Refused

COSIGN_SECONDS = 2.0
"""How long a record waits for cosigners; a key must open while they are down."""

CLOSING_SECONDS = 8.0
"""How long the closing of a key waits for a quorum of them before it is left for later."""


class Cosigns(Protocol):
    """Asks the cosigners of the present policy about a checkpoint."""

    async def cosign(self, log_name: str, checkpoint: bytes, timeout: float) -> bytes:
        """Return a stored checkpoint ("statements", as the log signed it) with what the cosigners say in time."""


class ClosingSeal:
    """Makes the checkpoints that records embed."""

    def __init__(self, signer: LogSigner, cosigns: Cosigns | None = None) -> None:
        """cosigns: who asks the cosigners, None where nobody does."""
        self._signer = signer
        self._cosigns = cosigns

    async def checkpoint(self) -> tuple[int, bytes]:
        """Return size and note of a checkpoint over the whole statement log."""
        size, note = await self._signer.newest_statement_checkpoint()
        if self._cosigns is None:
            return size, note
        return size, await self._cosigns.cosign("statements", note, COSIGN_SECONDS)

    async def closing_checkpoint(self, policy: Policy) -> tuple[int, bytes]:
        """Return size and note of such a checkpoint that a quorum has cosigned, as a record has that closes a key.

        policy: the present one. Raises Refused UNAVAILABLE when the cosigners do not come to a quorum in time.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + CLOSING_SECONDS
        while True:
            size, signed = await self.checkpoint()
            if policy.is_met(policy.times(note.parse(signed)).keys()):
                return size, signed
            if loop.time() >= end:
                raise Refused(
                    Code.UNAVAILABLE,
                    Reason.SEAL_NOT_COSIGNED,
                    "expected a quorum of the cosigners to cosign the closing seal, got too few answers; "
                    "the key closes when they are back",
                )
            # The log may have grown meanwhile, and a cosigner that has seen more of it signs no smaller checkpoint.
            await asyncio.sleep(0.2)

    async def unstored_checkpoint(self) -> tuple[int, bytes]:
        """Return the same, kept nowhere and shown to no cosigner: for what is only tried."""
        return await self._signer.unstored_statement_checkpoint()
