"""Which checkpoint evidence is given under: one that a quorum has cosigned, where there is one.

Whether it counts is asked of the judging itself, with the bundle that would be handed out at the same moment: quorum,
log key, and a registry checkpoint that is at least as fresh. So evidence and bundle that are fetched together agree.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from key_registry import note
from key_registry.coverage import Coverage
from key_registry.replay import Registry
from key_registry.store import Store
from key_registry.trusted_registry import TrustedRegistry
from witness_service.clock import Clock
from witness_service.cosigning.asking import cosigner_id
from witness_service.cosigning.lines import attached, cosignatures_of
from witness_service.log_signer import LogSigner
from witness_service.registry_view import RegistryView

LOOKED_AT = 48
"""Cosigned checkpoints looked at from either end, for one that a quorum has cosigned."""


@dataclass(frozen=True, slots=True)
class HandedOut:
    """A checkpoint as it is handed out.

    size: leaves. note: with cosignature lines. counts: whether the policy's quorum is met and a bundle of this moment
    is fresh enough for it. token: a timestamp authority's answer over its text, None when there is none.
    """

    size: int
    note: bytes
    counts: bool
    token: bytes | None

    @property
    def text(self) -> str:
        """What the log, the cosigners and the timestamp authority signed: three lines."""
        return note.parse(self.note).text


class HandingOut:
    """Chooses checkpoints for evidence."""

    def __init__(
        self, store: Store, view: RegistryView, signer: LogSigner, clock: Clock, *, prefers_timestamped: bool
    ) -> None:
        """prefers_timestamped: of several checkpoints that count, take one with a timestamp token."""
        self._store = store
        self._view = view
        self._signer = signer
        self._clock = clock
        self._prefers_timestamped = prefers_timestamped

    async def over(self, leaves: int) -> HandedOut:
        """Return a checkpoint over at least so many leaves.

        The smallest that counts: it says the most about when the leaves existed, and asks the least of a bundle.
        Where none counts, the newest one: its quorum may still come. Raises Refused, StoreError.
        """
        return await self._best(leaves, newest_first=False)

    async def newest(self) -> HandedOut:
        """Return the largest checkpoint that counts, or one over the whole log where none does."""
        return await self._best(0, newest_first=True)

    async def head(self) -> HandedOut:
        """Return a checkpoint over the whole log, whatever it counts for."""
        size, _ = await self._signer.newest_statement_checkpoint()
        return await self._read(size, await self._bundle_of_now())

    async def is_registry_cosigned(self) -> bool:
        """Say whether a bundle of this moment has the quorum that its policy asks for."""
        bundle = await self._bundle_of_now()
        return bundle.registry.policy.is_met(bundle.cosigned.keys())

    async def _best(self, leaves: int, *, newest_first: bool) -> HandedOut:
        bundle = await self._bundle_of_now()
        best: HandedOut | None = None
        async for size in self._candidates(leaves, newest_first):
            found = await self._read(size, bundle)
            if found.counts and (found.token is not None or not self._prefers_timestamped):
                return found
            if found.counts and best is None:
                best = found
        if best is not None:
            return best
        signer = self._signer
        size, _ = await (signer.newest_statement_checkpoint() if newest_first else signer.statement_checkpoint(leaves))
        return await self._read(size, bundle)

    async def _candidates(self, leaves: int, newest_first: bool) -> AsyncIterator[int]:
        """Give sizes of checkpoints that may count, each once: the likely ones first."""
        seen: set[int] = set()
        if self._prefers_timestamped:
            stamped = await (
                self._store.last_timestamped() if newest_first else self._store.first_timestamped(at_least=leaves)
            )
            if stamped is not None:
                seen.add(stamped)
                yield stamped
        if not self._view.current.policy.asks_cosigners:
            stored = await self._store.checkpoint("statements", at_least=leaves)
            if stored is not None and stored[0] not in seen and not newest_first:
                yield stored[0]
            return
        for descending in (newest_first, not newest_first):
            for size in await self._store.cosigned_sizes(at_least=leaves, newest_first=descending, limit=LOOKED_AT):
                if size not in seen:
                    seen.add(size)
                    yield size

    async def _read(self, size: int, bundle: TrustedRegistry) -> HandedOut:
        registry = bundle.registry
        own = await self._signer.statement_note(size)
        cosigners = (*registry.policy_at(size).cosigners, *registry.policy.cosigners)
        cosigned = attached(own, await cosignatures_of(self._store, "statements", size, cosigners))
        head = bundle.logged_head(cosigned)
        counts = bundle.counts(head) and head.is_quorum_met and bundle.is_fresh(head)
        return HandedOut(size, cosigned, counts, await self._store.timestamp(size))

    async def _bundle_of_now(self) -> TrustedRegistry:
        """Return what a verifier would make of a bundle fetched now, without having it signed."""
        heads = await self._store.heads()
        registry = await self._view.at_size(heads.registry_size)
        coverage = Coverage(
            created_at=self._clock(),
            registry_id=registry.registry_id,
            registry_root=registry.root().hex(),
            registry_size=registry.size,
            statement_root=heads.statement.root.hex(),
            statement_size=heads.statement.size,
        )
        return TrustedRegistry(registry, coverage, await registry_times(self._store, registry))


async def registry_times(store: Store, registry: Registry) -> dict[str, int]:
    """Return when each cosigner of the present policy last cosigned the registry, POSIX seconds by its name."""
    cosigners = registry.policy.cosigners
    names = {cosigner_id(cosigner): cosigner.name for cosigner in cosigners}
    found = await cosignatures_of(store, "registry", registry.size, cosigners)
    return {names[item.cosigner_id]: item.cosigned_at for item in found}
