"""The rollback guard: a cosigner that knows more than the database means that the database has lost something.

A restored backup has forgotten places that were signed. Whoever signs on it can sign a second hash for one of them,
and forks the log, which nobody can undo. So while a cosigner contradicts the database nothing is claimed, signed by a
witness, sealed or put on record here, not even claims left behind: they are completed when the database is whole.

The word of one cosigner is enough to stop. Nothing proves it: `409` is not signed, and a cosigner that lies can stop
the service. That is chosen: the loss from a false stop is a pause that names who caused it and that the operator ends
by configuration; the loss from waiting for a second cosigner is a fork.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import structlog

from witness_service.clock import Clock
from witness_service.refusal import Code, Reason, Refused

log = structlog.get_logger(__name__)

THIS_INSTANCE = "this instance"
"""Stands for the cosigner where the service itself has seen more; no cosigner is called so, for the space in it."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What a cosigner said that the database does not know.

    cosigner: its name in the policy, or THIS_INSTANCE. log: "registry" or "statements". size: of the tree it says it
    cosigned. other_root: whether its tree differs from the database's of that size, instead of being larger. ours:
    entries in the database then. seen_at: YYYY-MM-DDTHH:MM:SS.ffffffZ.
    """

    cosigner: str
    log: str
    size: int
    other_root: bool
    ours: int
    seen_at: str

    def __str__(self) -> str:
        names = {"statements": "statement log", "registry": "registry log"}
        if self.other_root:
            claim = f"that the {names[self.log]} had another root at {self.size} entries"
        else:
            claim = f"that the {names[self.log]} had {self.size} entries; the database has {self.ours}"
        return f"{self.cosigner} says {claim}"


class RollbackGuard:
    """Holds what contradicts the database; while it holds anything, this instance refuses to sign."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[tuple[str, str], Contradiction] = {}

    @property
    def contradictions(self) -> tuple[Contradiction, ...]:
        """What is held, by cosigner and log."""
        return tuple(self._held.values())

    def contradicted(self, cosigner: str, log_name: str, size: int, *, other_root: bool, ours: int) -> None:
        """Take down what a cosigner said; arguments as in Contradiction."""
        known = self._held.get((cosigner, log_name))
        if known is not None and (known.size >= size or known.other_root):
            return
        found = Contradiction(cosigner, log_name, size, other_root, ours, self._clock())
        self._held[cosigner, log_name] = found
        log.critical("rollback detected, nothing is signed any more", contradiction=str(found))

    def agreed(self, cosigner: str, log_name: str, size: int) -> None:
        """Take down that a cosigner cosigned a checkpoint: it has verified that what it knew is the beginning of it.

        Only a tree at least as large as the one it spoke of takes its word back. A smaller one would mean that it
        has forgotten, as after a restored backup of its own, and that shows nothing about the database.
        """
        known = self._held.get((cosigner, log_name))
        if known is not None and size >= known.size:
            del self._held[cosigner, log_name]
            log.warning("contradiction resolved", contradiction=str(known), cosigned=size)

    def holds(self, cosigner: str, log_name: str) -> bool:
        """Say whether what a cosigner said about a log still stands."""
        return (cosigner, log_name) in self._held

    def keep(self, cosigners: Collection[str]) -> None:
        """Drop what was said by cosigners that no policy and no configuration names any more."""
        for key in [key for key in self._held if key[0] not in (*cosigners, THIS_INSTANCE)]:
            log.warning("contradiction dropped with its cosigner", contradiction=str(self._held.pop(key)))

    def refusal(self) -> Refused | None:
        """Return why nothing may be signed, None while nothing contradicts the database."""
        return _refusal(self.contradictions)

    def registry_refusal(self) -> Refused | None:
        """Return why it may not be said how far the registry reaches, None while nobody knows a longer one."""
        return _refusal(tuple(found for found in self.contradictions if found.log == "registry"))

    def check(self) -> None:
        """Raise Refused while something contradicts the database."""
        if (refused := self.refusal()) is not None:
            raise refused


def _refusal(found: tuple[Contradiction, ...]) -> Refused | None:
    if not found:
        return None
    return Refused(
        Code.FAILED_PRECONDITION,
        Reason.ROLLBACK_DETECTED,
        f"the database lacks what was there ({'; '.join(map(str, found))}); "
        "bring back the newest database, see docs/cosigning.md",
        {"cosigner": found[0].cosigner, "log": found[0].log, "cosigned_size": str(found[0].size)},
    )
