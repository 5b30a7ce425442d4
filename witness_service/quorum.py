"""Who must sign a proposal before it takes effect, and whether that can still happen."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from key_registry import record
from key_registry.record import RECORD_TYPE, LeadsChange
from key_registry.replay import Registry
from key_registry.store import StoredProposal


@dataclass(frozen=True, slots=True)
class Quorum:
    """`threshold` of the voters, and every one of `named`.

    voters: key ids of the leads in office, without the one who proposed where more than one must sign: the second
    person is one who did not ask for the change. named: key ids of the leads a leads record names.
    """

    threshold: int
    voters: frozenset[str]
    named: frozenset[str]

    @classmethod
    def of(cls, registry: Registry, proposal: StoredProposal) -> Quorum:
        """Return who must sign a proposal under the registry's present leads."""
        proposer = proposal.proposer.key_id if proposal.proposer else None
        return cls.under(registry, proposer, _named_leads(proposal))

    @classmethod
    def under(cls, registry: Registry, proposer: str | None, named: Collection[str] = ()) -> Quorum:
        """Return who must sign what a lead, or with None an operator, proposes."""
        voters = frozenset(lead.public_key.key_id for lead in registry.leads)
        if registry.threshold > 1 and proposer is not None:
            voters -= {proposer}
        return cls(registry.threshold, voters, frozenset(named))

    @property
    def possible(self) -> bool:
        """Whether there are enough voters at all."""
        return len(self.voters) >= self.threshold

    def counts(self, lead_key_id: str) -> bool:
        """Whether this lead's signature counts."""
        return lead_key_id in self.voters or lead_key_id in self.named

    def reached(self, approved: Collection[str]) -> bool:
        """Whether these leads suffice."""
        return not self.missing(approved)

    def missing(self, approved: Collection[str]) -> int:
        """Return how many leads must still sign, at least."""
        unsigned = self.named - set(approved)
        votes = len(self.voters & set(approved))
        return max(len(unsigned), self.threshold - votes, len(unsigned - self.voters) + self.threshold - votes, 0)

    def reachable(self, rejected: Collection[str]) -> bool:
        """Whether it can still be reached without these leads."""
        return self.named.isdisjoint(rejected) and len(self.voters - set(rejected)) >= self.threshold


def _named_leads(proposal: StoredProposal) -> frozenset[str]:
    for document in proposal.documents:
        if document.payload_type == RECORD_TYPE:
            body = record.decode(document.body)
            if isinstance(body, LeadsChange):
                return frozenset(lead.public_key.key_id for lead in body.leads)
    return frozenset()
