"""A verified bundle, and the statement log's checkpoints seen by it: each verified once for all that share it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from key_registry import interval, note
from key_registry.checkpoint import Checkpoint, verify_checkpoint
from key_registry.coverage import Coverage
from key_registry.errors import SignatureError
from key_registry.policy import Policy
from key_registry.public_key import PublicKey
from key_registry.record import PolicyChange
from key_registry.replay import Registry
from key_registry.verdict import BY_COSIGNERS, BY_OPERATOR, AsOf


class BeyondBundle(SignatureError):
    """No key that the bundle names signed a checkpoint, of a size for which only a newer bundle names the keys."""


_HEADS_KEPT = 256
_HEAD_KEPT_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class LoggedHead:
    """A checkpoint of the statement log that a key of the log signed, and what else is known of it.

    Args:
        checkpoint: size and root.
        signed_by: the log's key.
        policy: that holds for its size; of several the one that is met.
        cosigned: when each cosigner of the policy cosigned it, POSIX seconds by name.
    """

    checkpoint: Checkpoint
    signed_by: PublicKey
    policy: Policy
    cosigned: Mapping[str, int]

    @property
    def is_quorum_met(self) -> bool:
        """Whether the cosigners have cosigned it that its policy asks for."""
        return self.policy.is_met(self.cosigned.keys())

    @property
    def cosigned_at(self) -> int | None:
        """POSIX seconds by which a quorum had cosigned it; None where no cosigner is asked."""
        return self.policy.met_at(self.cosigned)


class TrustedRegistry:
    """A registry whose bundle has been verified; made by open_bundle only.

    Args:
        registry: the registry of all records of the bundle.
        coverage: what the registry log said about how far they reach.
        cosigned: when each cosigner of the present policy cosigned the registry checkpoint, POSIX seconds by name.
    """

    def __init__(self, registry: Registry, coverage: Coverage, cosigned: Mapping[str, int]) -> None:
        self.registry = registry
        self.coverage = coverage
        self.cosigned = cosigned
        met_at = registry.policy.met_at(cosigned)
        self.as_of = AsOf(
            coverage.registry_size,
            coverage.statement_size,
            coverage.created_at,
            BY_COSIGNERS if registry.policy.asks_cosigners else BY_OPERATOR,
            None if met_at is None else interval.time_of(met_at),
        )
        self.latest_time = interval.shifted(coverage.created_at, interval.CLOCK_SKEW)
        self.heads: Mapping[int, bytes] = {
            **registry.heads,
            coverage.statement_size: bytes.fromhex(coverage.statement_root),
        }
        self._verified: dict[bytes, LoggedHead] = {}

    @property
    def policy(self) -> str:
        """The present cosigner policy as it stands in the record."""
        return self.registry.policy.text

    def logged_head(self, checkpoint: bytes) -> LoggedHead:
        """Return the checkpoint of the statement log in a note.

        Raises:
            FormatError: not a checkpoint of this log.
            SignatureError: not signed by a key that the log had at that size, BeyondBundle if it may have another by
                then; or a bad cosignature by a cosigner whom the policy for that size names.
        """
        known = self._verified.get(checkpoint)
        if known is not None:
            return known
        head = self._verify(note.parse(checkpoint))
        if len(checkpoint) <= _HEAD_KEPT_BYTES:  # bounds what hostile notes can make this keep
            while len(self._verified) >= _HEADS_KEPT:
                self._verified.pop(next(iter(self._verified)), None)
            self._verified[checkpoint] = head
        return head

    def _verify(self, opened: note.Note) -> LoggedHead:
        origin = self.registry.logs.statements.origin
        claimed = Checkpoint.parse(opened.text)
        is_by_another = self._names.isdisjoint((line.name, line.key_hash) for line in opened.signatures)
        # A record that is yet to come may name another key from the covered size itself on.
        if claimed.origin == origin and claimed.size >= self.coverage.statement_size and is_by_another:
            raise BeyondBundle("expected a checkpoint by a key that the bundle names, got one by another")
        checkpoint, key = verify_checkpoint(opened, origin, self._keys)
        cosigned = [(policy, policy.times(opened)) for policy in self._policies(checkpoint.size)]
        met = [it for it in cosigned if it[0].is_met(it[1].keys())]
        best = next((it for it in met if it[0].asks_cosigners), (met or cosigned)[0])
        return LoggedHead(checkpoint, key, *best)

    def _policies(self, size: int) -> list[Policy]:
        """Return the policies of which one must be met: at the very size of a policy record also the one it names.

        The leads themselves name the log's root there, and the cosigners of before may be gone.
        """
        named = [Policy.parse(record.policy) for at, record in self._changes if at == size]
        return [*reversed(named), self.registry.policy_at(size)]

    @cached_property
    def _changes(self) -> list[tuple[int, PolicyChange]]:
        """The policy records, each with the size of the statement log from which on it holds."""
        changes = (record for record in self.registry.records if isinstance(record, PolicyChange))
        return [(Checkpoint.parse(note.parse(record.checkpoint).text).size, record) for record in changes]

    @cached_property
    def _names(self) -> frozenset[tuple[str, bytes]]:
        """Name and key id in notes of every key that the statement log ever had."""
        logs = [self.registry.genesis.logs, *(record.logs for _, record in self._changes)]
        keys = {it.statements.public_key.raw for it in logs}
        return frozenset((logs[0].statements.origin, note.key_hash(logs[0].statements.origin, key)) for key in keys)

    def _keys(self, size: int) -> list[PublicKey]:
        return [log.public_key for log in self.registry.statement_keys(size)]

    def is_beyond(self, checkpoint: Checkpoint) -> bool:
        """Tell whether the statement log is larger there than the bundle is said to cover."""
        return checkpoint.size > self.coverage.statement_size

    def counts(self, head: LoggedHead) -> bool:
        """Tell whether more than a log key that has been replaced speaks for a checkpoint.

        Whoever has stolen such a key can sign as many histories of the old sizes as he likes, and replacing it is all
        that the leads can do about it.
        """
        is_present = head.signed_by == self.registry.logs.statements.public_key
        return is_present or head.policy.asks_cosigners or head.checkpoint.size in self.heads

    def is_fresh(self, head: LoggedHead) -> bool:
        """Tell whether the cosigners had seen the registry end where it does when the log had this head, or later.

        Each cosigner's time on the registry checkpoint is compared with its own on the head, so no two clocks need to
        agree. A cosigner that has cosigned a longer registry never cosigns a shorter one again, so a registry that is
        fresh for a head lacks nothing that a quorum of the cosigners knew when they saw the head.
        """
        policy, since = self.registry.policy, self._changes[-1][0] if self._changes else -1
        if not policy.asks_cosigners or head.checkpoint.size <= since:
            # The leads themselves say what came before the policy: every later record holds a head that is not smaller.
            return True
        seen = [name for name, time in head.cosigned.items() if self.cosigned.get(name, -1) >= time]
        return policy.is_met(seen)
