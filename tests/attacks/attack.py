"""One attack: a row of the table, and how what it presents is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from key_registry.bundle import Bundle
from key_registry.contradiction import Fork, compare
from key_registry.judge import judge, open_bundle
from key_registry.verdict import Code, Verdict
from tests.attacks.years import Years
from tests.key_registry.software_registry import event_hash

PRODUCTION = frozenset({"production"})


@dataclass(frozen=True)
class Presented:
    """What the auditor is given; what is None is genuine and the newest.

    Args:
        evidence: a file.
        bundle: as a bundle or as its file.
        other: a second piece of evidence, to be compared with the first.
        expected: the hash of the event that the auditor has.
    """

    evidence: bytes | None = None
    bundle: Bundle | bytes | None = None
    other: bytes | None = None
    expected: str | None = None


Make: TypeAlias = Callable[[Years], Presented | Bundle | bytes | tuple[bytes, Bundle]]


@dataclass(frozen=True)
class Attack:
    """A row of the table.

    Args:
        name: what the attacker holds and does.
        make: does it.
        none, cosigned: the code it must end in under either policy; None where it cannot be tried.
        because: part of the reason, where a code has many.
    """

    name: str
    make: Make
    none: Code | None
    cosigned: Code | None
    because: str = ""

    def expected(self, policy: str) -> Code | None:
        """Return the code under the policy "none" or "cosigned"."""
        return self.none if policy == "none" else self.cosigned


def row(name: str, make: Make, code: Code, because: str = "") -> Attack:
    """Return an attack that ends in the same code under every policy."""
    return Attack(name, make, code, code, because)


def verdict_on(world: Years, made: Presented | Bundle | bytes | tuple[bytes, Bundle]) -> Verdict:
    """Return what an auditor gets who pins the world's registry id and accepts production."""
    presented = _presented(made)
    bundle = world.now_published.bundle if presented.bundle is None else presented.bundle
    data = bundle if isinstance(bundle, bytes) else bundle.to_json()
    trusted = open_bundle(data, world.registry_id)
    if isinstance(trusted, Verdict):
        return trusted
    evidence = world.genuine(12) if presented.evidence is None else presented.evidence
    if presented.other is not None:
        found = compare(trusted, evidence, presented.other, environments=PRODUCTION)
        assert found is not None, "the two pieces do not contradict each other"
        return Verdict(Code.LOG_FORK if isinstance(found, Fork) else Code.EQUIVOCATION, found.reason)
    return judge(trusted, evidence, event_hash=presented.expected, environments=PRODUCTION)


def _presented(made: Presented | Bundle | bytes | tuple[bytes, Bundle]) -> Presented:
    if isinstance(made, Presented):
        return made
    if isinstance(made, Bundle):
        return Presented(bundle=made)
    if isinstance(made, bytes):
        return Presented(evidence=made)
    return Presented(evidence=made[0], bundle=made[1])


__all__ = ["Attack", "Presented", "event_hash", "row", "verdict_on"]
