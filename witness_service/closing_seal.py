"""The checkpoint that a record embeds: over the whole statement log, cosigned where that can be had at once."""

from __future__ import annotations

from typing import Protocol

from witness_service.log_signer import LogSigner

COSIGN_SECONDS = 2.0
"""How long a record waits for cosigners; keys must rotate while they are down."""


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
