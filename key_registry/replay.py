"""The registry: what its records say together, built by replaying them one after the other."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from key_registry import rules
from key_registry.checkpoint import Checkpoint
from key_registry.dsse import Envelope
from key_registry.errors import FormatError, RecordError, SignatureError, UnsupportedAlgorithm
from key_registry.key_version import KeyVersion
from key_registry.merkle import EMPTY_ROOT, CompactRange, leaf_hash
from key_registry.policy import Policy
from key_registry.record import (
    RECORD_TYPE,
    Genesis,
    Lead,
    LeadsChange,
    Link,
    LogKey,
    Logs,
    PolicyChange,
    Record,
    decode,
    decode_link,
    previous_hash,
)

__all__ = ["KeyVersion", "Registry"]

ENTRY_BYTES = 65_535
"""The largest entry that can be published: an entry bundle gives its length in 16 bits (C2SP tlog-tiles)."""


@dataclass(frozen=True)
class _Step:
    """One record, what it changed, and what is true of the registry after it."""

    envelope: Envelope
    record: Record
    change: rules.Change
    hash: str
    root: bytes
    head: Checkpoint | None
    cosigned: int | None
    leads: Genesis | LeadsChange
    key_count: int
    term_count: int


@dataclass(frozen=True)
class _Term:
    """Log keys and policy from a size of the statement log on."""

    since: int
    logs: Logs
    policy: Policy


class _History:
    """The steps of a registry; it only grows, so that every Registry that is a prefix of it can share it."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []
        self.tree = CompactRange()
        self.key_ids: list[str] = []
        self.versions: dict[str, list[tuple[int, KeyVersion]]] = {}
        self.terms: list[_Term] = []
        self.roles: dict[str, tuple[int, rules.Role]] = {}
        self.token_places: dict[rules.TokenPlace, tuple[int, str]] = {}

    def add(self, envelope: Envelope, record: Record, change: rules.Change) -> None:
        self._index(record, change)
        self.tree.append(leaf_hash(envelope.entry()))
        head, cosigned = (self.steps[-1].head, self.steps[-1].cosigned) if self.steps else (None, None)
        if change.seal is not None:
            head, cosigned = change.seal.head, _later(cosigned, change.seal.cosigned)
        leads = record if isinstance(record, Genesis | LeadsChange) else self.steps[-1].leads
        counts = len(self.key_ids), len(self.terms)
        step = _Step(
            envelope, record, change, previous_hash(envelope), self.tree.root(), head, cosigned, leads, *counts
        )
        self.steps.append(step)

    def _index(self, record: Record, change: rules.Change) -> None:
        seq = len(self.steps)
        for key in change.keys:
            if key.key_id not in self.versions:
                self.key_ids.append(key.key_id)
            self.versions.setdefault(key.key_id, []).append((seq, key))
        for key_id, role in rules.roles_in(record):
            self.roles.setdefault(key_id, (seq, role))
        for place, key_id in rules.token_places_in(record):
            self.token_places.setdefault(place, (seq, key_id))
        if isinstance(record, Genesis | PolicyChange):
            since = 0 if change.seal is None else change.seal.head.size
            self.terms.append(_Term(since, record.logs, Policy.parse(record.policy)))

    def prefix(self, size: int) -> "_History":
        copy = _History()
        for step in self.steps[:size]:
            copy.add(step.envelope, step.record, step.change)
        return copy


def _later(one: int | None, other: int | None) -> int | None:
    times = [time for time in (one, other) if time is not None]
    return max(times, default=None)


class _Keys(Mapping[str, KeyVersion]):
    """The keys of a registry by key id, in the order they were added."""

    def __init__(self, history: _History, size: int) -> None:
        self._history = history
        self._size = size

    def __getitem__(self, key_id: str) -> KeyVersion:
        versions = self._history.versions[key_id]
        number = bisect_left(versions, self._size, key=lambda version: version[0])
        if not number:
            raise KeyError(key_id)
        return versions[number - 1][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._history.key_ids[: len(self)])

    def __len__(self) -> int:
        return self._history.steps[self._size - 1].key_count


class Registry:
    """The key registry after a number of verified records; an immutable value.

    Made by `replay` and `append`. Appending costs the new record only: registries share their past.
    """

    def __init__(self, history: _History, size: int) -> None:
        self._history = history
        self._size = size

    @classmethod
    def replay(cls, envelopes: Iterable[Envelope], *, registry_id: str | None) -> "Registry":
        """Return the registry that `envelopes` make, every signature and rule checked.

        Args:
            envelopes: the records by `seq`, from the genesis.
            registry_id: hex SHA-256 of the genesis record's PAE, as pinned; None trusts the genesis given.

        Raises:
            RecordError: no records, another genesis, or a record that does not follow.
            UnsupportedAlgorithm: the genesis or a quorum names a key that this program cannot use.
        """
        registry: Registry | None = None
        for envelope in envelopes:
            registry = cls._begin(envelope, registry_id) if registry is None else registry.append(envelope)
        if registry is None:
            raise RecordError("expected at least the genesis record, got none")
        return registry

    @classmethod
    def _begin(cls, envelope: Envelope, registry_id: str | None) -> "Registry":
        if registry_id is not None and previous_hash(envelope) != registry_id:
            raise RecordError(f"record 0: expected registry {registry_id}, got {previous_hash(envelope)}")
        history = _History()
        with _naming(0):
            record = _read(envelope)
            if not isinstance(record, Genesis):
                raise RecordError(f"expected a genesis record first, got {record.TYPE}")
            change = rules.begin(envelope, record)
            _check_publishable(envelope)
            history.add(envelope, record, change)
        return cls(history, 1)

    def append(self, envelope: Envelope) -> "Registry":
        """Return the registry with one more record; this one stays as it is.

        Raises:
            RecordError: the record is not of its form, not the next one, not entitled, or against a rule.
            UnsupportedAlgorithm: a quorum says something about a key that this program cannot use.
        """
        with _naming(self._size):
            record, change = self._follow(envelope)
            _check_publishable(envelope)
        history = self._history
        if len(history.steps) != self._size:  # this registry has been appended to before
            history = history.prefix(self._size)
        history.add(envelope, record, change)
        return Registry(history, self._size + 1)

    def _follow(self, envelope: Envelope) -> tuple[Record, rules.Change]:
        try:
            record = _read(envelope)
            if isinstance(record, Genesis):
                raise RecordError(f"expected a record that follows another, got {record.TYPE}")
            self._check_link(record)
            return record, rules.RULES[type(record)](self, envelope, record)
        except UnsupportedAlgorithm:
            # Reading stopped at a key, before any signature was looked at. Only a quorum of the leads may make this
            # program call itself too old; by anybody else the record is a bad one.
            self._check_link(decode_link(envelope.body))
            rules.require_quorum_among(self, envelope)
            raise

    def _check_link(self, record: Link) -> None:
        if record.seq != self._size:
            raise RecordError(f"expected seq {self._size}, got {record.seq}")
        if record.registry_id != self.registry_id:
            raise RecordError(f"expected registry {self.registry_id}, got {record.registry_id}")
        if record.prev != self.last_hash:
            raise RecordError(f"expected prev {self.last_hash}, got {record.prev}")
        if record.created_at < self.last_time:
            raise RecordError(f"expected a time not before {self.last_time}, got {record.created_at}")

    @property
    def _last(self) -> _Step:
        return self._history.steps[self._size - 1]

    @property
    def _terms(self) -> list[_Term]:
        return self._history.terms

    @property
    def size(self) -> int:
        """How many records."""
        return self._size

    @property
    def registry_id(self) -> str:
        """Hex SHA-256 of the genesis record's PAE."""
        return self._history.steps[0].hash

    @property
    def last_hash(self) -> str:
        """Hex SHA-256 of the last record's PAE: the `prev` of the record that can follow."""
        return self._last.hash

    @property
    def last_time(self) -> str:
        """Time of the last record; the record that can follow is not before it."""
        return self._last.record.created_at

    @property
    def genesis(self) -> Genesis:
        """The first record."""
        genesis = self._history.steps[0].record
        assert isinstance(genesis, Genesis)
        return genesis

    @property
    def environment(self) -> str:
        """ "production" or "development"."""
        return self.genesis.environment

    @property
    def leads(self) -> tuple[Lead, ...]:
        """The security leads in office, ascending by key id."""
        return self._last.leads.leads

    @property
    def threshold(self) -> int:
        """How many distinct leads make a quorum."""
        return self._last.leads.threshold

    @property
    def logs(self) -> Logs:
        """Origins and present keys of the two logs."""
        return self._terms[self._last.term_count - 1].logs

    @property
    def policy(self) -> Policy:
        """The present cosigner policy: that of the registry log's checkpoint, and of larger statement logs."""
        return self._terms[self._last.term_count - 1].policy

    def statement_keys(self, size: int) -> tuple[LogKey, ...]:
        """Return the statement log's keys whose checkpoint of this size counts, in the order they were named.

        More than one only at the very size of a policy record, where the key before it and the key after it count.
        """
        first, last = self._terms_at(size)
        return tuple({it.logs.statements: None for it in self._terms[first : last + 1]})

    def policy_at(self, size: int) -> Policy:
        """Return the cosigner policy for the statement log's checkpoints of this size.

        A policy record counts for sizes above that of the checkpoint in it.
        """
        return self._terms[self._terms_at(size)[0]].policy

    def _terms_at(self, size: int) -> tuple[int, int]:
        """Return the first and last of the terms that meet this size; a term reaches to where the next starts."""
        count = self._last.term_count
        first = bisect_left(self._terms, size, 1, count, key=lambda term: term.since)
        last = bisect_right(self._terms, size, 1, count, key=lambda term: term.since)
        return first - 1, last - 1

    def cosigned_before(self, size: int) -> int | None:
        """Return the latest time at which a quorum of cosigners had seen a checkpoint that a record embeds.

        Whoever names the registry root at `size` has seen these cosignatures, and so made their statement after it.
        For each rotate and policy record among the first `size`: the policy is `policy_at` the checkpoint's size, in
        the registry before the record, and the time the latest that a quorum of it reached (`Policy.met_since`).

        Args:
            size: number of records, 1 to `self.size`.

        Returns:
            POSIX seconds by the cosigners' clocks; None if no checkpoint has a quorum.

        Raises:
            ValueError: another size.
        """
        return self.at_size(size)._last.cosigned

    @property
    def envelopes(self) -> tuple[Envelope, ...]:
        """The records as signed, by `seq`."""
        return tuple(step.envelope for step in self._history.steps[: self._size])

    @property
    def records(self) -> tuple[Record, ...]:
        """The records' bodies, by `seq`."""
        return tuple(step.record for step in self._history.steps[: self._size])

    @property
    def keys(self) -> Mapping[str, KeyVersion]:
        """Every key version by key id, in the order they were added."""
        return _Keys(self._history, self._size)

    @property
    def head(self) -> Checkpoint | None:
        """The statement log's checkpoint in the last rotate or policy record, None before the first."""
        return self._last.head

    @cached_property
    def heads(self) -> Mapping[int, bytes]:
        """Root by size of every statement-log checkpoint the records embed."""
        heads = (step.head for step in self._history.steps[: self._size])
        return {head.size: head.root for head in heads if head is not None}

    @cached_property
    def witnesses(self) -> list[str]:
        """The ids of all witnesses that ever had a key, ascending."""
        return sorted({key.witness_id for key in self.keys.values()})

    @cached_property
    def _open_keys(self) -> Mapping[str, list[KeyVersion]]:
        by_witness: dict[str, list[KeyVersion]] = {witness_id: [] for witness_id in self.witnesses}
        for key in self.keys.values():
            if key.is_open:
                by_witness[key.witness_id].append(key)
        for keys in by_witness.values():
            keys.sort(key=_opened_seq)
        return by_witness

    def role_of(self, key_id: str) -> rules.Role | None:
        """Return what the key is or was in this registry, None for a key it never named."""
        seq, role = self._history.roles.get(key_id, (self._size, None))
        return role if seq < self._size else None

    def key_at(self, token_serial: str, cka_id: bytes) -> str | None:
        """Return the id of the key, a past or present log key included, with this CKA_ID on this token."""
        seq, key_id = self._history.token_places.get((token_serial, cka_id), (self._size, None))
        return key_id if seq < self._size else None

    def has_token_place(self, token_serial: str, cka_id: bytes) -> bool:
        """Whether a key of the registry, a past or present log key included, has this CKA_ID on this token."""
        return self.key_at(token_serial, cka_id) is not None

    def root(self) -> bytes:
        """Return the Merkle root of the registry log."""
        return self.root_at(self._size)

    def root_at(self, size: int) -> bytes:
        """Return the root the registry log had at `size` records; raises ValueError beyond `self.size`."""
        if not 0 <= size <= self._size:
            raise ValueError(f"expected a size from 0 to {self._size}, got {size}")
        return self._history.steps[size - 1].root if size else EMPTY_ROOT

    def at_size(self, size: int) -> "Registry":
        """Return the registry as it was with `size` records; raises ValueError unless 1 to `self.size`."""
        if not 1 <= size <= self._size:
            raise ValueError(f"expected a size from 1 to {self._size}, got {size}")
        return Registry(self._history, size)

    def at_time(self, time: str) -> "Registry":
        """Return the registry of the records made until `time`; raises ValueError before the genesis."""
        size = self._size
        while size and self._history.steps[size - 1].record.created_at > time:
            size -= 1
        return self.at_size(size)

    def open_keys(self, witness_id: str, *, at: int | None = None) -> list[KeyVersion]:
        """Return the witness's open keys, or those valid at index `at`, in the order they were opened.

        By position alone: a compromised key is among them.
        """
        if at is None:
            return list(self._open_keys.get(witness_id, ()))
        keys = (key for key in self.keys.values() if key.witness_id == witness_id and key.active(at))
        return sorted(keys, key=_opened_seq)

    def signing_key(self, witness_id: str, *, stream: str | None = None) -> KeyVersion | None:
        """Return the key the witness signs with: opened last, not compromised, covering `stream` if one is given."""
        for key in reversed(self._open_keys.get(witness_id, ())):
            if key.may_sign and (stream is None or key.covers(stream)):
                return key
        return None


def _opened_seq(key: KeyVersion) -> int:
    return -1 if key.opened_seq is None else key.opened_seq


@contextmanager
def _naming(seq: int) -> Iterator[None]:
    """Let whatever is wrong with a record come out as an error that names the record."""
    try:
        yield
    except UnsupportedAlgorithm as error:
        raise UnsupportedAlgorithm(f"record {seq}: {error}") from None
    except (FormatError, SignatureError, RecordError) as error:
        raise RecordError(f"record {seq}: {error}") from None


def _read(envelope: Envelope) -> Record:
    if envelope.payload_type != RECORD_TYPE:
        raise RecordError(f"expected payload type {RECORD_TYPE}, got another")
    return decode(envelope.body)


def _check_publishable(envelope: Envelope) -> None:
    size = len(envelope.entry())
    if size > ENTRY_BYTES:
        raise RecordError(f"expected a log entry of at most {ENTRY_BYTES} bytes, got {size}")
