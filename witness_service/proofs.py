"""Evidence files: an attestation with its place in the statement log, ready to be judged offline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from key_registry import dsse
from key_registry.merkle import Coordinates, inclusion_proof
from key_registry.statement import STATEMENT_TYPE
from key_registry.store import Store, StoredClaim
from key_registry.tlog_proof import TlogProof
from witness_service.claimed import attested_of
from witness_service.event import Attested
from witness_service.log_signer import LogSigner
from witness_service.refusal import Code, Reason, Refused

PAGE = 256
"""Attestations proved per database page."""


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """The content of one .tlog-proof file and the attestation it proves."""

    attested: Attested
    content: bytes


class Proofs:
    """Reads attestations and proves them under a signed checkpoint."""

    def __init__(self, store: Store, signer: LogSigner) -> None:
        self._store = store
        self._signer = signer

    async def attestations(self, stream: str, sequence: int) -> tuple[Attested, ...]:
        """Return what was signed for a place; raises Refused NOT_FOUND."""
        attested = _sealed(await self._store.attestations_at(stream, sequence))
        if not attested:
            raise Refused(
                Code.NOT_FOUND, Reason.NOT_ATTESTED, f"nothing is attested at sequence {sequence} of this stream"
            )
        return tuple(attested)

    async def evidence(self, stream: str, sequence: int) -> list[EvidenceFile]:
        """Return the evidence for a place, one file per attestation; raises Refused NOT_FOUND."""
        attested = await self.attestations(stream, sequence)
        size, note = await self._signer.statement_checkpoint(max(item.leaf_index for item in attested) + 1)
        return await self._prove(attested, size, note)

    async def evidence_between(self, stream: str, first: int, last: int) -> AsyncIterator[list[EvidenceFile]]:
        """Give the evidence for the places first to last of a stream, in pages, all under one checkpoint."""
        size, note = await self._signer.newest_statement_checkpoint()
        while first <= last:
            page = await self._store.attestations_between(stream, first, last, PAGE)
            attested = [item for item in _sealed(page) if item.leaf_index < size]
            if not attested:
                return
            yield await self._prove(attested, size, note)
            first = attested[-1].sequence + 1

    async def _prove(self, attested: Sequence[Attested], size: int, note: bytes) -> list[EvidenceFile]:
        needed = Coordinates()
        for item in attested:
            inclusion_proof(item.leaf_index, size, needed)
        node = await self._store.nodes(needed.asked)
        return [
            EvidenceFile(
                item,
                TlogProof(
                    index=item.leaf_index,
                    hashes=tuple(inclusion_proof(item.leaf_index, size, node)),
                    checkpoint=note,
                    extra=_envelope(item).to_json(),
                ).to_bytes(),
            )
            for item in attested
        ]


def _sealed(stored: Sequence[StoredClaim]) -> list[Attested]:
    return [attested for attested in map(attested_of, stored) if attested is not None]


def _envelope(item: Attested) -> dsse.Envelope:
    return dsse.Envelope(STATEMENT_TYPE, item.statement, (dsse.Signature(item.key_id, item.signature),))
