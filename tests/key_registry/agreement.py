"""Judging twice: by the product, and by the second verifier, which knows docs/format.md alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from key_registry.bundle import Bundle
from key_registry.coverage import COVERAGE_TYPE
from key_registry.dsse import Envelope
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.verdict import Bound, Verdict
from tests.key_registry.software_registry import MemoryLog, SoftwareRegistry, envelope
from tests.second_verifier import verifier
from tests.second_verifier.bundle import Refused, read_bundle

PRODUCTION = frozenset({"production"})


class Opened(NamedTuple):
    """A bundle as each verifier has read it: its registry, or what it refuses the bundle with."""

    ours: TrustedRegistry | Verdict
    theirs: dict[str, Any] | Refused


def opened(bundle: bytes, registry_id: str) -> Opened:
    """Read a bundle twice; fail unless both accept it, or both refuse it with one code."""
    ours = open_bundle(bundle, registry_id)
    theirs: dict[str, Any] | Refused
    try:
        theirs = read_bundle(bundle, registry_id)
    except Refused as refused:
        theirs = refused
    code = ours.code.name if isinstance(ours, Verdict) else None
    assert code == (theirs.code if isinstance(theirs, Refused) else None), ours
    return Opened(ours, theirs)


def agreed_on_bundle(bundle: bytes, registry_id: str) -> str | None:
    """Return the code by which both refuse a bundle, None if both accept it."""
    ours = opened(bundle, registry_id).ours
    return ours.code.name if isinstance(ours, Verdict) else None


def agreed(
    bundle: bytes | Opened,
    registry_id: str,
    evidence: bytes,
    event_hash: str | None = None,
    environments: Collection[str] = PRODUCTION,
    seen_by: Mapping[str, str] | None = None,
) -> str:
    """Return the code that both verifiers give; fail if they do not agree in everything the page defines.

    Args:
        bundle: the file, or what opened() returned of it.
        seen_by: what a timestamp authority says, by the text of a checkpoint.
    """
    ours, theirs = bundle if isinstance(bundle, Opened) else opened(bundle, registry_id)
    if isinstance(ours, Verdict) or isinstance(theirs, Refused):
        assert isinstance(ours, Verdict)
        return ours.code.name
    seen = dict(seen_by or {})
    verdict = judge(
        ours,
        evidence,
        event_hash=event_hash,
        environments=frozenset(environments),
        stamped_at=lambda checkpoint: seen.get(checkpoint.text()),
    )
    judged = verifier.judge(theirs, evidence, event_hash, environments, seen)
    assert judged.code == verdict.code.name, verdict.reason
    said = (_bound(verdict.not_before), _bound(verdict.existed_by), verdict.completeness)
    assert (judged.not_before, judged.existed_by, judged.completeness) == said
    return judged.code


def _bound(said: Bound | None) -> verifier.Bound:
    return None if said is None else (said.time, said.source)


def bundle_of(world: SoftwareRegistry, records: Iterable[Envelope]) -> Bundle:
    """Return the bundle of an operator who signs that whatever these records are is the registry."""
    log = MemoryLog(world.registry_log.origin, world.registry_log.key, world.now)
    kept = tuple(records)
    for record in kept:
        log.append(record.entry())
    body = world.coverage(registry_size=log.size, registry_root=log.root().hex())
    covered = envelope(COVERAGE_TYPE, body.encode(), world.registry_log.key)
    return Bundle(kept, log.checkpoint(), covered)
