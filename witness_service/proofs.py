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
from witness_service.cosigning.handing_out import HandedOut, HandingOut
from witness_service.event import Attested
from witness_service.refusal import Code, Reason, Refused

PAGE = 256
"""Attestations proved per database page."""


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """The content of one .tlog-proof file, the attestation it proves, and the checkpoint it is under."""

    attested: Attested
    content: bytes
    checkpoint: HandedOut


class Proofs:
    """Reads attestations and proves them under a signed checkpoint."""

    def __init__(self, store: Store, handing_out: HandingOut) -> None:
        self._store = store
        self._handing_out = handing_out

    async def attestations(self, stream: str, sequence: int) -> tuple[Attested, ...]:
        """Return what was signed for a place; raises Refused NOT_FOUND."""
        attested = _sealed(await self._store.attestations_at(stream, sequence))
        if not attested:
            raise Refused(
                Code.NOT_FOUND, Reason.NOT_ATTESTED, f"nothing is attested at sequence {sequence} of this stream"
            )
        return tuple(attested)

    async def leaves(self, stream: str, sequence: int) -> int:
        """Return how many leaves a checkpoint must be over to prove a place; raises Refused NOT_FOUND."""
        return _leaves(await self.attestations(stream, sequence))

    async def evidence(self, stream: str, sequence: int) -> list[EvidenceFile]:
        """Return the evidence for a place, one file per attestation; raises Refused NOT_FOUND."""
        attested = await self.attestations(stream, sequence)
        return await self._prove(attested, await self._handing_out.over(_leaves(attested)))

    async def evidence_between(self, stream: str, first: int, last: int) -> AsyncIterator[list[EvidenceFile]]:
        """Give the evidence for the places first to last of a stream, in pages.

        It is under the newest checkpoint that counts; what lies beyond that is under one over the whole log.
        """
        cosigned, head = await self._handing_out.newest(), await self._handing_out.head()
        while first <= last:
            page = _sealed(await self._store.attestations_between(stream, first, last, PAGE))
            attested = [item for item in page if item.leaf_index < head.size]
            if not attested:
                return
            below = [item for item in attested if item.leaf_index < cosigned.size]
            beyond = [item for item in attested if item.leaf_index >= cosigned.size]
            files = [*await self._prove(below, cosigned), *await self._prove(beyond, head)]
            yield sorted(files, key=lambda file: (file.attested.sequence, file.attested.leaf_index))
            first = attested[-1].sequence + 1

    async def _prove(self, attested: Sequence[Attested], checkpoint: HandedOut) -> list[EvidenceFile]:
        if not attested:
            return []
        size = checkpoint.size
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
                    checkpoint=checkpoint.note,
                    extra=_envelope(item).to_json(),
                ).to_bytes(),
                checkpoint,
            )
            for item in attested
        ]


def _leaves(attested: Sequence[Attested]) -> int:
    return max(item.leaf_index for item in attested) + 1


def _sealed(stored: Sequence[StoredClaim]) -> list[Attested]:
    return [attested for attested in map(attested_of, stored) if attested is not None]


def _envelope(item: Attested) -> dsse.Envelope:
    return dsse.Envelope(STATEMENT_TYPE, item.statement, (dsse.Signature(item.key_id, item.signature),))
