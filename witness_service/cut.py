"""Where a key stops being trusted: a position chosen from a suspected time, and what lies on either side of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from key_registry.replay import KeyVersion, Registry
from key_registry.store import Store
from witness_service.clock import moment_of
from witness_service.cosigning.asking import cosigner_id
from witness_service.refusal import invalid

PAGE = 16
"""Checkpoints among which one with a quorum is looked for: while cosigners are down there may be some without."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut, and how many attestations of the key lie where.

    trusted_size: leaves at or above it are distrusted. chosen_by: how it was found. below, from_cut: attestations by
    the key on either side. log_size: of the statement log.
    """

    trusted_size: int
    chosen_by: str
    below: int
    from_cut: int
    log_size: int

    def facts(self) -> Mapping[str, str]:
        """Return what the leads should know, by name."""
        return {
            "attestations": str(self.below + self.from_cut),
            "attestations_below_cut": str(self.below),
            "attestations_from_cut": str(self.from_cut),
            "chosen_by": self.chosen_by,
            "log_size": str(self.log_size),
        }


async def choose(
    store: Store, registry: Registry, key: KeyVersion, *, suspected_since: str | None, trusted_size: int | None
) -> Cut | None:
    """Return the cut that is given, or the largest one below which everything was sealed before a time.

    A key that never opened signs nothing that counts, so its cut is 0. Returns None when neither is given for a key
    that did. Raises Refused for a position the log does not have yet.
    """
    size = (await store.statement_head()).size
    if trusted_size is not None:
        if trusted_size > size:
            raise invalid("trusted_size", f"trusted_size: expected at most {size}, the size of the statement log")
        return await _counted(store, key, trusted_size, "given", size)
    if key.opened is None:
        return await _counted(store, key, 0, "never opened", size)
    if suspected_since is None:
        return None
    time = moment_of(suspected_since)
    by_database = await store.sealed_before(time)
    if not registry.policy.asks_cosigners:
        return await _counted(store, key, by_database, "times of the database", size)
    by_cosigners = await _cosigned_before(store, registry, int(time.timestamp()), by_database)
    if by_cosigners < by_database:
        return await _counted(store, key, by_cosigners, "times of the cosigners", size)
    return await _counted(store, key, by_database, "times of the database, which the cosigners bear out", size)


async def _counted(store: Store, key: KeyVersion, trusted_size: int, chosen_by: str, log_size: int) -> Cut:
    """Count the attestations of a key on either side, reading the side that can hold fewer."""
    first = log_size if key.opened is None else key.opened
    end = log_size if key.closed is None else key.closed
    middle = min(max(trusted_size, first), end)
    total = await store.signed_count(key.key_id)
    if middle - first <= end - middle:
        below = await store.signed_between(key.key_id, first, middle)
    else:
        below = total - await store.signed_between(key.key_id, middle, end)
    return Cut(trusted_size, chosen_by, below, total - below, log_size)


async def _cosigned_before(store: Store, registry: Registry, time: int, largest: int) -> int:
    """Return a size, at most `largest`, of which a quorum of cosigners said before a time that it existed; 0: none.

    time: POSIX seconds. Searched by halves, for larger checkpoints are cosigned later; where that is not so, the size
    found is smaller than it might be, and still proved.
    """
    names = {cosigner_id(cosigner): cosigner.name for cosigner in registry.policy.cosigners}
    low, high, best = 1, largest, 0
    while low <= high:
        middle = (low + high) // 2
        size, cosigned_at = await _next_cosigned(store, registry, names, middle)
        if size <= largest and cosigned_at is not None and cosigned_at < time:
            best, low = size, size + 1
        else:
            high = middle - 1
    return best


async def _next_cosigned(
    store: Store, registry: Registry, names: Mapping[bytes, str], at_least: int
) -> tuple[int, int | None]:
    """Return the smallest size among the next checkpoints that has a quorum, and by when it had it."""
    sizes = await store.cosigned_sizes(at_least=at_least, newest_first=False, limit=PAGE)
    found = await store.first_cosignatures(sizes, list(names))
    for size in sizes:
        times = {names[item.cosigner_id]: item.cosigned_at for item in found[size]}
        met_at = registry.policy_at(size).met_at(times)
        if met_at is not None:
            return size, met_at
    return at_least, None
