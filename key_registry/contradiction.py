"""Contradictions: two attested hashes for one place, and two histories that a log signed for one size.

Nothing in one file shows them; both files together prove them to anybody, whoever made them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeAlias

from key_registry import note
from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint, verify_checkpoint
from key_registry.coverage import Coverage
from key_registry.errors import FormatError, SignatureError
from key_registry.judge import judge
from key_registry.public_key import PublicKey
from key_registry.record import PolicyChange, Rotate
from key_registry.replay import Registry
from key_registry.trusted_registry import TrustedRegistry
from key_registry.verdict import Outcome, Verdict

REGISTRY = "registry"
STATEMENTS = "statements"

_PROOF_START = b"c2sp.org/tlog-proof@"
_KEPT_BYTES = 16_384  # of a note; longer ones are hostile, and keeping them would let memory grow


@dataclass(frozen=True)
class SignedHead:
    """A head of one of the two logs, whose signature has been verified.

    Args:
        log: REGISTRY or STATEMENTS.
        checkpoint: the head.
        signed: what the log signed, as text: the note without other people's lines, or a coverage's envelope.
        source: where it was found.
        counts: False if it lacks the cosigners that its policy asks for, or if no policy asks for any and the log key
            has been replaced since: whoever has stolen a log key can sign as many histories as he likes, and must not
            be able to spoil the evidence of others with them.
    """

    log: str
    checkpoint: Checkpoint
    signed: str
    source: str
    counts: bool = True


@dataclass(frozen=True)
class Witnessed:
    """A piece of evidence with the verdict that it has on its own."""

    source: str
    evidence: bytes
    verdict: Verdict


@dataclass(frozen=True)
class Equivocation:
    """Two pieces of evidence, each VALID on its own, that give one place two hashes."""

    first: Witnessed
    second: Witnessed

    @property
    def place(self) -> tuple[str, int]:
        """Stream and sequence; raises ValueError if a side is no statement."""
        said = self.first.verdict.statement
        if said is None:
            raise ValueError("expected evidence with a statement, got evidence that could not be read")
        return said.stream, said.sequence

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return "expected one event hash for one place, got two, each validly witnessed"


@dataclass(frozen=True)
class Fork:
    """Two heads of one log and size with different roots."""

    first: SignedHead
    second: SignedHead

    @property
    def reason(self) -> str:
        """One sentence for people."""
        size, roots = self.first.checkpoint.size, (self.first.checkpoint.root.hex(), self.second.checkpoint.root.hex())
        log = self.first.log.removesuffix("s")
        return f"expected one root of the {log} log at size {size}, got {roots[0]} and {roots[1]}"


Contradiction: TypeAlias = Equivocation | Fork


def compare(
    trusted: TrustedRegistry, first: bytes, second: bytes, *, environments: frozenset[str]
) -> Contradiction | None:
    """Return how two pieces of evidence contradict each other; None if they do not.

    Args:
        trusted: what open_bundle returned.
        first, second: .tlog-proof files or envelopes.
        environments: which environments the caller accepts.

    Returns:
        An equivocation, if both are VALID on their own; otherwise a fork, if both hold a genuine checkpoint of the
        log. Where one of its sides does not count, it shows no more than that a log key was abused.
    """
    sides = [
        Witnessed(name, data, judge(trusted, data, event_hash=None, environments=environments))
        for name, data in (("first", first), ("second", second))
    ]
    if is_equivocation(*(side.verdict for side in sides)):
        return Equivocation(*sides)
    heads = (evidence_head(trusted, side.evidence, side.source) for side in sides)
    return next(forks(head for head in heads if head is not None), None)


def is_equivocation(first: Verdict, second: Verdict) -> bool:
    """Tell whether both are VALID, about one place, and about different hashes."""
    if first.statement is None or second.statement is None or {first.outcome, second.outcome} != {Outcome.VALID}:
        return False
    one, other = first.statement, second.statement
    return (one.stream, one.sequence) == (other.stream, other.sequence) and one.event_hash != other.event_hash


def forks(heads: Iterable[SignedHead]) -> Iterator[Fork]:
    """Iterate over the contradictions among heads, each with the first head seen for the log and size."""
    known: dict[tuple[str, int], SignedHead] = {}
    for head in heads:
        first = known.setdefault((head.log, head.checkpoint.size), head)
        if first.checkpoint.root != head.checkpoint.root:
            yield Fork(first, head)


def checkpoint_in(evidence: bytes) -> bytes | None:
    """Return the checkpoint in a proof file, whatever else is wrong with it, not verified; None without a proof."""
    if not evidence.startswith(_PROOF_START):
        return None
    # By the form of the file (C2SP tlog-proof) it is what follows the first blank line.
    return evidence.partition(b"\n\n")[2]


def evidence_head(trusted: TrustedRegistry, evidence: bytes, source: str) -> SignedHead | None:
    """Return the statement log's checkpoint in a piece of evidence; None unless there is a genuine one.

    Args:
        trusted: what open_bundle returned.
        evidence: a .tlog-proof file or an envelope.
        source: where it was found, for people.
    """
    data = checkpoint_in(evidence)
    try:
        head = None if data is None else trusted.logged_head(data)
    except (FormatError, SignatureError):
        return None
    if data is None or head is None:
        return None
    is_present = head.signed_by == trusted.registry.logs.statements.public_key
    counts = head.is_quorum_met if head.policy.asks_cosigners else is_present
    signed = _without_others(data, head.checkpoint.origin, head.signed_by)
    return SignedHead(STATEMENTS, head.checkpoint, signed, source, counts)


def genuine_head(registry: Registry, data: bytes, source: str) -> SignedHead:
    """Return the head in a note by one of the two logs of a registry.

    Args:
        registry: whose logs are meant.
        data: a C2SP checkpoint; what others signed below it is ignored.
        source: where it was found, for people.

    Raises:
        FormatError: not a checkpoint, or of another log.
        SignatureError: not signed by the log's key for that size.
    """
    opened = note.parse(data)
    origin = Checkpoint.parse(opened.text).origin
    for log in (REGISTRY, STATEMENTS):
        if origin == getattr(registry.logs, log).origin:
            checkpoint, key = verify_checkpoint(opened, origin, partial(_keys, registry, log))
            return SignedHead(log, checkpoint, _without_others(data, origin, key), source)
    raise FormatError("expected a checkpoint of one of the registry's two logs, got one of another origin")


def _keys(registry: Registry, log: str, size: int) -> Sequence[PublicKey]:
    """Return the keys whose signature makes a checkpoint of this size one of the log."""
    if log == STATEMENTS:
        return [key.public_key for key in registry.statement_keys(size)]
    return [registry.at_size(min(max(size, 1), registry.size)).logs.registry.public_key]


def _without_others(data: bytes, origin: str, key: PublicKey) -> str:
    """Return a verified note with the one signature by a key, which is all that proves what the log said."""
    signed_by = _signed_by if len(data) <= _KEPT_BYTES else _signed_by.__wrapped__
    return signed_by(data, origin, key)


@lru_cache(maxsize=256)
def _signed_by(data: bytes, origin: str, key: PublicKey) -> str:
    opened = note.parse(data)
    own = note.key_hash(origin, key.raw)
    line = next(line for line in opened.signatures if (line.name, line.key_hash) == (origin, own))
    return note.serialize(opened.text, [line]).decode("utf-8")


@dataclass(frozen=True)
class History:
    """A copy of a registry that has been verified.

    Args:
        source: where it was found, for people.
        bundle: as it was read.
        registry: of its records.
        coverage: None if the bundle lacks the cosignatures that would make it worth reading.
    """

    source: str
    bundle: Bundle
    registry: Registry
    coverage: Coverage | None

    def heads(self) -> Iterator[SignedHead]:
        """Iterate over every head of the two logs in it."""
        yield genuine_head(self.registry, self.bundle.checkpoint, f"{self.source}, registry checkpoint")
        if self.coverage is not None:
            root = bytes.fromhex(self.coverage.statement_root)
            covered = Checkpoint(self.registry.logs.statements.origin, self.coverage.statement_size, root)
            signed = self.bundle.coverage.to_json().decode("utf-8")
            yield SignedHead(STATEMENTS, covered, signed, f"{self.source}, coverage")
        for seq, record in enumerate(self.registry.records):
            if isinstance(record, Rotate | PolicyChange):
                yield _embedded(record.checkpoint, f"{self.source}, record {seq}")


def _embedded(data: bytes, source: str) -> SignedHead:
    """Return the head in a note that has been verified with the record it stands in."""
    opened = note.parse(data)
    checkpoint = Checkpoint.parse(opened.text)
    own = [line for line in opened.signatures if line.name == checkpoint.origin]
    return SignedHead(STATEMENTS, checkpoint, note.serialize(opened.text, own).decode("utf-8"), source)


def compare_histories(first: History, second: History) -> Fork | None:
    """Return how two copies of one registry contradict each other; None if one continues the other.

    At the first record that differs the roots of the registry log differ too, so that is a fork of this log; what is
    signed is then the registry checkpoint of each copy, which covers all of its records.
    """
    one, other = first.registry, second.registry
    common = min(one.size, other.size)
    if one.root_at(common) != other.root_at(common):
        size = next(size for size in range(1, common + 1) if one.root_at(size) != other.root_at(size))
        return Fork(_record_head(first, size), _record_head(second, size))
    return next(forks([*first.heads(), *second.heads()]), None)


def _record_head(history: History, size: int) -> SignedHead:
    registry, record = history.registry, history.registry.records[size - 1]
    checkpoint = Checkpoint(registry.logs.registry.origin, size, registry.root_at(size))
    source = f"{history.source}, record {size - 1} ({record.TYPE} of {record.created_at})"
    return SignedHead(REGISTRY, checkpoint, genuine_head(registry, history.bundle.checkpoint, source).signed, source)
