"""What is checked on the own machine before a change is signed: the documents, not the service's word for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from key_registry import base64_strict, record
from key_registry.canonical_json import JSONValue
from key_registry.checkpoint import open_checkpoint
from key_registry.dsse import Envelope
from key_registry.errors import FormatError, RecordError, SignatureError, UnsupportedAlgorithm
from key_registry.public_key import PublicKey
from key_registry.record import (
    RECORD_TYPE,
    Compromise,
    Destroyed,
    KeyAdd,
    LeadsChange,
    Link,
    LogKey,
    PolicyChange,
    Record,
    Rotate,
    WitnessLink,
    previous_hash,
)
from key_registry.replay import KeyVersion, Registry
from key_registry.rules.roles import check_roles
from witness_service.orders import ProposalRequest, ResumeOrder

if TYPE_CHECKING:
    from witness_service.wire.proposal_answers import ListedDocument, ListedProposal

Body = Record | ResumeOrder

SHAPES: Mapping[str, tuple[type[Body], ...]] = {
    "add-witness": (KeyAdd, Rotate),
    "compromise": (Compromise,),
    "destroyed": (Destroyed,),
    "leads": (LeadsChange,),
    "policy": (PolicyChange,),
    "resume": (ResumeOrder,),
    "retire": (Rotate,),
    "rotate": (KeyAdd, Rotate),
}
"""What a proposal of each kind consists of."""


class BadProposal(ValueError):
    """A document is not what was asked for, or could not be stored; the message says in what it differs."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A proposal whose documents were checked. bodies: what they say; registry: what they were checked against."""

    proposal: ListedProposal
    request: ProposalRequest
    bodies: tuple[Body, ...]
    registry: Registry


def check_proposal(
    proposal: ListedProposal, registry: Registry, *, asked: ProposalRequest | None = None, lead: PublicKey | None = None
) -> Approval:
    """Return a proposal after checking its documents against the registry and against what was asked for.

    registry: replayed from the pinned id. asked: the request, where it was made on this machine. lead: who is about to
    sign. Raises BadProposal. That new keys signed too (possession) the registry's rules check later.
    """
    try:
        request = ProposalRequest.decode(proposal.request)
        bodies = tuple(_read(document) for document in proposal.documents)
    except (FormatError, UnsupportedAlgorithm) as error:
        raise BadProposal(f"document: {error}") from error
    if asked is not None and request != asked:
        raise BadProposal("request: expected the one that was made here, got another")
    if request.kind != proposal.kind or tuple(map(type, bodies)) != SHAPES.get(request.kind):
        expected = ", ".join(shape.__name__ for shape in SHAPES.get(request.kind, ()))
        raise BadProposal(f"documents: expected {expected or 'a known kind'}, got others")
    if proposal.proposal_id and request.proposal_id != proposal.proposal_id:  # a dry run has none
        raise BadProposal(f"proposal id: expected {proposal.proposal_id}, got a request for {request.proposal_id}")
    if request.registry_id != registry.registry_id:
        raise BadProposal(f"registry id: expected {registry.registry_id}, got {request.registry_id}")
    _check_places(proposal.documents, bodies, registry)
    try:
        _Check(registry, request.arguments).run(request.kind, bodies)
        _check_roles(bodies, registry)
    except (FormatError, RecordError, SignatureError, KeyError, TypeError) as error:
        raise BadProposal(f"document: {error}") from error
    if lead is not None:
        _check_lead(lead, bodies, registry)
    return Approval(proposal, request, bodies, registry)


def _read(document: ListedDocument) -> Body:
    if document.payload_type == ResumeOrder.PAYLOAD_TYPE:
        return ResumeOrder.decode(document.body)
    if document.payload_type != RECORD_TYPE:
        raise BadProposal("payload type: expected that of a record or of an order, got another")
    return record.decode(document.body)


def _check_roles(bodies: Sequence[Body], registry: Registry) -> None:
    """Require that no key gets a second role: the registry would not take the record, however many sign it."""
    for body in bodies:
        if not isinstance(body, ResumeOrder):
            check_roles(registry, body)


def _check_lead(lead: PublicKey, bodies: Sequence[Body], registry: Registry) -> None:
    known = {it.public_key.key_id for it in registry.leads}
    for body in bodies:
        if isinstance(body, LeadsChange):
            known |= {it.public_key.key_id for it in body.leads}
    if lead.key_id not in known:
        raise BadProposal(f"lead key: expected that of a lead of the registry, got {lead.key_id}")


def _check_places(documents: Sequence[ListedDocument], bodies: Sequence[Body], registry: Registry) -> None:
    """Require the next records of the registry, one after the other; or, of a change that goes on, those in it."""
    seq, prev = registry.size, registry.last_hash
    for document, body in zip(documents, bodies, strict=True):
        if isinstance(body, ResumeOrder):
            if body.registry_id != registry.registry_id:
                raise BadProposal(f"registry id: expected {registry.registry_id}, got {body.registry_id}")
            continue
        if not isinstance(body, Link):
            raise BadProposal(f"record: expected one that follows another, got {body.TYPE}")
        if body.registry_id != registry.registry_id:
            raise BadProposal(f"registry id: expected {registry.registry_id}, got {body.registry_id}")
        if body.seq < registry.size and registry.envelopes[body.seq].body == document.body:
            continue
        if (body.seq, body.prev) != (seq, prev):
            raise BadProposal(f"record: expected number {seq} after {prev}, got another place")
        seq, prev = seq + 1, previous_hash(Envelope(RECORD_TYPE, document.body, ()))


class _Check:
    """Compares documents with what was asked for; each kind has its method."""

    def __init__(self, registry: Registry, asked: Mapping[str, JSONValue]) -> None:
        self._registry = registry
        self._asked = asked

    def run(self, kind: str, bodies: Sequence[Body]) -> None:
        getattr(self, f"_{kind.replace('-', '_')}")(*bodies)

    def _rotate(self, key_add: KeyAdd, opening: Rotate) -> None:
        witness_id = self._asked["witness_id"]
        known = [key for key in self._registry.keys.values() if key.witness_id == witness_id]
        streams = {key.streams for key in known}
        if not known or key_add.streams not in streams:
            raise BadProposal("streams: expected those of the witness's keys, got others")
        algorithms = {key.public_key.algorithm for key in known}
        if key_add.algorithm not in ([self._asked["algorithm"]] if self._asked["algorithm"] else algorithms):
            raise BadProposal(f"algorithm: expected the one asked for, got {key_add.algorithm}")
        self._new_key(key_add, opening)
        _same("witness", key_add.witness_id, witness_id)
        if opening.close is not None:
            _same("old key", self._key(opening.close).witness_id, witness_id)

    def _add_witness(self, key_add: KeyAdd, opening: Rotate) -> None:
        if any(key.witness_id == key_add.witness_id for key in self._registry.keys.values()):
            raise BadProposal("witness: expected a new one, got one of the registry")
        _same("streams", list(key_add.streams), self._asked["streams"])
        if self._asked["algorithm"]:
            _same("algorithm", key_add.algorithm, self._asked["algorithm"])
        self._new_key(key_add, opening)
        _same("old key", opening.close, None)

    def _new_key(self, key_add: KeyAdd, opening: Rotate) -> None:
        known = self._registry.role_of(key_add.key_id) is not None
        if known and (key_add.seq >= self._registry.size or key_add.key_id not in self._registry.keys):
            raise BadProposal("key id: expected a key that is new to the registry, got one that has another role")
        _same("opened key", opening.open, key_add.key_id)
        _same("witness", opening.witness_id, key_add.witness_id)
        for name, body in (("reason", key_add), ("reason of the opening", opening)):
            _same(name, body.reason, self._asked["reason"])
        self._check_seal(opening.checkpoint, self._registry.logs.statements)

    def _retire(self, closing: Rotate) -> None:
        _same("opened key", closing.open, None)
        _same("key", closing.close, self._asked["key_id"])
        _same("reason", closing.reason, self._asked["reason"])
        self._of_witness(closing, self._key(closing.close or ""))
        self._check_seal(closing.checkpoint, self._registry.logs.statements)

    def _compromise(self, body: Compromise) -> None:
        for name in ("key_id", "reason", "suspected_since"):
            _same(name, getattr(body, name), self._asked[name])
        if self._asked["trusted_size"] is not None:
            _same("trusted size", str(body.trusted_size), self._asked["trusted_size"])
        key = self._key(body.key_id)
        self._of_witness(body, key)
        if not key.trusts(body.trusted_size):
            raise BadProposal(f"trusted size: expected one below {key.trusted_size}, got {body.trusted_size}")

    def _leads(self, body: LeadsChange) -> None:
        wanted = sorted((str(it["name"]), str(it["public_key"])) for it in self._asked["leads"])  # type: ignore[union-attr, index, call-overload]
        _same("leads", sorted((it.name, base64_strict.encode(it.public_key.spki)) for it in body.leads), wanted)
        _same("threshold", str(body.threshold), self._asked["threshold"])

    def _policy(self, body: PolicyChange) -> None:
        if self._asked["policy"] is not None:
            _same("policy", body.policy, self._asked["policy"])
        else:
            _same("policy", body.policy, self._registry.policy.text)
        renewed = self._asked["log_keys"]
        for name in ("registry", "statements"):
            new: LogKey = getattr(body.logs, name)
            present: LogKey = getattr(self._registry.logs, name)
            _same(f"origin of the {name} log", new.origin, present.origin)
            if (new != present) != (isinstance(renewed, list) and name in renewed) and body.seq >= self._registry.size:
                raise BadProposal(f"{name} log key: expected it to change exactly if that was asked for")
        self._check_seal(body.checkpoint, body.logs.statements)

    def _destroyed(self, body: Destroyed) -> None:
        _same("key", body.key_id, self._asked["key_id"])
        self._of_witness(body, self._key(body.key_id))

    def _resume(self, body: ResumeOrder) -> None:
        _same("key", body.key_id, self._asked["key_id"])
        _same("reason", body.reason, self._asked["reason"])
        self._key(body.key_id)

    def _key(self, key_id: str) -> KeyVersion:
        key = self._registry.keys.get(key_id)
        if key is None:
            raise BadProposal(f"key: expected one of the registry, got {key_id}")
        return key

    def _of_witness(self, body: WitnessLink, key: KeyVersion) -> None:
        _same("witness", body.witness_id, key.witness_id)

    def _check_seal(self, checkpoint: bytes, log: LogKey) -> None:
        """Require a checkpoint of the statement log that continues what the registry knows of it."""
        head, last = open_checkpoint(checkpoint, log.origin, log.public_key), self._registry.head
        root = self._registry.heads.get(head.size)
        if (root is not None and root != head.root) or (last is not None and head.size < last.size and root is None):
            raise BadProposal("checkpoint: expected one that continues the statement log, got another")


def _same(name: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise BadProposal(f"{name}: expected {wanted}, got {got}")
