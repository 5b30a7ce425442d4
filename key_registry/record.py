"""The key registry's records: what each type says, and how its body is written and read."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from key_registry import base64_strict, canonical_json, note
from key_registry.canonical_json import JSONValue
from key_registry.dsse import Envelope
from key_registry.errors import FormatError
from key_registry.public_key import ED25519, PublicKey
from key_registry.statement import (
    check_environment,
    check_hex,
    check_name,
    check_number,
    check_time,
    check_witness,
    read_number,
    read_object,
    read_text,
)

RECORD_TYPE = "application/vnd.witness-service.key-registry.v1+json"

_ALGORITHM = re.compile("[a-z0-9][a-z0-9-]{0,63}")
_HEX = re.compile("(?:[0-9a-f]{2})+")
_LINK = ("created_at", "prev", "registry_id", "seq", "type")


@dataclass(frozen=True)
class Lead:
    """A security lead: a name for people and the public key that counts towards the quorum."""

    name: str
    public_key: PublicKey


@dataclass(frozen=True)
class LogKey:
    """A log: its origin (C2SP tlog-checkpoint), its Ed25519 key, and where in the HSM that key is."""

    origin: str
    public_key: PublicKey
    cka_id: bytes
    token_serial: str

    def __post_init__(self) -> None:
        check_name("origin", self.origin)
        note.check_name(self.origin)
        if self.public_key.algorithm != ED25519:
            raise FormatError(f"logs: expected {ED25519} keys, got {self.public_key.algorithm}")
        _check_token_place(self.cka_id, self.token_serial)

    def to_object(self) -> dict[str, JSONValue]:
        """Return the log as it stands in the genesis record."""
        return {
            "cka_id": self.cka_id.hex(),
            "origin": self.origin,
            "public_key": base64_strict.encode(self.public_key.spki),
            "token_serial": self.token_serial,
        }

    @classmethod
    def from_object(cls, value: JSONValue) -> "LogKey":
        """Read what to_object writes; raises FormatError or UnsupportedAlgorithm."""
        body = read_object("log", value, ("cka_id", "origin", "public_key", "token_serial"))
        return cls(
            origin=read_text("origin", body["origin"]),
            public_key=PublicKey.from_spki(_read_bytes("public_key", body["public_key"])),
            cka_id=_read_cka_id(body["cka_id"]),
            token_serial=read_text("token_serial", body["token_serial"]),
        )


@dataclass(frozen=True)
class Logs:
    """The two logs of a registry: of its records, and of statements."""

    registry: LogKey
    statements: LogKey


@dataclass(frozen=True)
class Genesis:
    """The first record: who the leads are, how many make a quorum, and which logs belong to the registry.

    Args:
        created_at: time of the record, YYYY-MM-DDTHH:MM:SS.ffffffZ.
        environment: "production" or "development".
        leads: ascending by key id; no name and no key twice.
        threshold: how many distinct leads make a quorum, 1 to len(leads).
        logs: two origins and two keys, none of them a lead's.
        policy: the cosigner policy; only "none".

    Raises:
        FormatError: a field is not of its form.
    """

    TYPE: ClassVar[str] = "genesis"

    created_at: str
    environment: str
    leads: tuple[Lead, ...]
    threshold: int
    logs: Logs
    policy: str = "none"

    def __post_init__(self) -> None:
        check_time("created_at", self.created_at)
        check_environment("environment", self.environment)
        for lead in self.leads:
            check_name("leads.name", lead.name)
        key_ids = [lead.public_key.key_id for lead in self.leads]
        if key_ids != sorted(set(key_ids)) or len({lead.name for lead in self.leads}) != len(key_ids):
            raise FormatError("leads: expected ascending key ids and no name or key twice, got something else")
        if not 1 <= check_number("threshold", self.threshold) <= len(key_ids):
            raise FormatError(f"threshold: expected 1 to {len(key_ids)} leads, got {self.threshold}")
        registry, statements = self.logs.registry, self.logs.statements
        log_ids = {registry.public_key.key_id, statements.public_key.key_id}
        if registry.origin == statements.origin or len(log_ids) != 2 or not log_ids.isdisjoint(key_ids):
            raise FormatError("logs: expected two origins and two keys that no lead has, got one twice")
        if self.policy != "none":
            raise FormatError('policy: expected "none", got another; a newer program may know it')

    def encode(self) -> bytes:
        """Return the body of the record."""
        leads = [{"name": it.name, "public_key": base64_strict.encode(it.public_key.spki)} for it in self.leads]
        logs = {"registry": self.logs.registry.to_object(), "statements": self.logs.statements.to_object()}
        return canonical_json.encode(
            {
                "created_at": self.created_at,
                "environment": self.environment,
                "leads": leads,
                "logs": logs,
                "policy": self.policy,
                "prev": None,
                "registry_id": None,
                "seq": "0",
                "threshold": str(self.threshold),
                "type": self.TYPE,
            }
        )

    @classmethod
    def from_object(cls, value: JSONValue) -> "Genesis":
        """Read a parsed body; raises FormatError, UnsupportedAlgorithm for a key this program cannot use."""
        body = read_object("genesis", value, [*_LINK, "environment", "leads", "logs", "policy", "threshold"])
        if body["seq"] != "0" or body["prev"] is not None or body["registry_id"] is not None:
            raise FormatError('genesis: expected seq "0", prev null and registry_id null, got something else')
        logs = read_object("logs", body["logs"], ("registry", "statements"))
        return cls(
            created_at=read_text("created_at", body["created_at"]),
            environment=read_text("environment", body["environment"]),
            leads=tuple(map(_read_lead, _read_list("leads", body["leads"]))),
            threshold=read_number("threshold", body["threshold"]),
            logs=Logs(LogKey.from_object(logs["registry"]), LogKey.from_object(logs["statements"])),
            policy=read_text("policy", body["policy"]),
        )


@dataclass(frozen=True)
class Link:
    """What every record after the genesis says about its place in the registry.

    Args:
        seq: place in the registry; the genesis is 0.
        prev: hex SHA-256 of the previous record's PAE.
        registry_id: hex SHA-256 of the genesis record's PAE.
        created_at: time of the record.
        witness_id: the witness whose key history the record continues.
    """

    TYPE: ClassVar[str]

    seq: int
    prev: str
    registry_id: str
    created_at: str
    witness_id: str

    def __post_init__(self) -> None:
        check_number("seq", self.seq)
        check_hex("prev", self.prev)
        check_hex("registry_id", self.registry_id)
        check_time("created_at", self.created_at)
        check_witness("witness_id", self.witness_id)

    def _link_object(self) -> dict[str, JSONValue]:
        return {
            "created_at": self.created_at,
            "prev": self.prev,
            "registry_id": self.registry_id,
            "seq": str(self.seq),
            "type": self.TYPE,
            "witness_id": self.witness_id,
        }


@dataclass(frozen=True)
class KeyAdd(Link):
    """A key generated in the HSM joins a witness's history; it signs nothing until a rotation opens it.

    Args:
        algorithm: "ed25519", "ecdsa-p256", or one this program does not know.
        public_key: DER SubjectPublicKeyInfo, kept as bytes because its algorithm may be unknown.
        streams: which streams it may sign for: exact names, or prefixes ending in "*".
        cka_id: the key's CKA_ID on the token, 1 to 64 bytes.
        token_serial: the token's serial number.
        attributes: what the token said about the private key when it was read back.
    """

    TYPE: ClassVar[str] = "key-add"

    algorithm: str
    public_key: bytes
    streams: tuple[str, ...]
    cka_id: bytes
    token_serial: str
    attributes: Mapping[str, str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _ALGORITHM.fullmatch(self.algorithm):
            raise FormatError("algorithm: expected a name such as ed25519, got something else")
        for pattern in self.streams:
            check_name("streams", pattern)
        if not self.streams or len(set(self.streams)) != len(self.streams):
            raise FormatError("streams: expected at least one pattern and none twice, got something else")
        _check_token_place(self.cka_id, self.token_serial)
        for value in self.attributes.values():
            check_name("attributes", value)

    @property
    def key_id(self) -> str:
        """Hex SHA-256 of the DER SubjectPublicKeyInfo."""
        return hashlib.sha256(self.public_key).hexdigest()

    def encode(self) -> bytes:
        """Return the body of the record."""
        return canonical_json.encode(
            {
                **self._link_object(),
                "algorithm": self.algorithm,
                "attributes": dict(self.attributes),
                "cka_id": self.cka_id.hex(),
                "key_id": self.key_id,
                "public_key": base64_strict.encode(self.public_key),
                "streams": list(self.streams),
                "token_serial": self.token_serial,
            }
        )

    @classmethod
    def from_object(cls, value: JSONValue) -> "KeyAdd":
        """Read a parsed body; raises FormatError."""
        names = [
            "algorithm",
            "attributes",
            "cka_id",
            "key_id",
            "public_key",
            "streams",
            "token_serial",
            "witness_id",
        ]
        body = read_object("key-add", value, [*_LINK, *names])
        attributes = body["attributes"]
        if not isinstance(attributes, dict):
            raise FormatError("attributes: expected an object of strings, got something else")
        record = cls(
            **_read_link(body),
            algorithm=read_text("algorithm", body["algorithm"]),
            public_key=_read_bytes("public_key", body["public_key"]),
            streams=tuple(read_text("streams", pattern) for pattern in _read_list("streams", body["streams"])),
            cka_id=_read_cka_id(body["cka_id"]),
            token_serial=read_text("token_serial", body["token_serial"]),
            attributes={name: read_text("attributes", text) for name, text in attributes.items()},
        )
        if body["key_id"] != record.key_id:
            raise FormatError(f"key_id: expected the SHA-256 of the public key, {record.key_id}, got another value")
        return record


@dataclass(frozen=True)
class Rotate(Link):
    """A key opens, a key closes, or one of each, at the size of the embedded statement-log checkpoint.

    Args:
        open: key id of the key that is valid from that size on, or None.
        close: key id of the key that is valid only below that size, or None.
        count: how many statements the closing key signed; None when none closes.
        checkpoint: the statement log's checkpoint (C2SP signed note): the closing seal.
    """

    TYPE: ClassVar[str] = "rotate"

    open: str | None
    close: str | None
    count: int | None
    checkpoint: bytes

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, key_id in (("open", self.open), ("close", self.close)):
            if key_id is not None:
                check_hex(field, key_id)
        if self.open == self.close:
            raise FormatError("rotate: expected a key to open, to close, or one of each, got none or the same twice")
        if (self.count is None) != (self.close is None):
            raise FormatError("count: expected a number exactly when a key closes, got the opposite")
        if self.count is not None:
            check_number("count", self.count)
        note.parse(self.checkpoint)

    def encode(self) -> bytes:
        """Return the body of the record."""
        return canonical_json.encode(
            {
                **self._link_object(),
                "checkpoint": self.checkpoint.decode(),
                "close": self.close,
                "count": None if self.count is None else str(self.count),
                "open": self.open,
            }
        )

    @classmethod
    def from_object(cls, value: JSONValue) -> "Rotate":
        """Read a parsed body; raises FormatError."""
        body = read_object("rotate", value, [*_LINK, "checkpoint", "close", "count", "open", "witness_id"])
        return cls(
            **_read_link(body),
            open=None if body["open"] is None else read_text("open", body["open"]),
            close=None if body["close"] is None else read_text("close", body["close"]),
            count=None if body["count"] is None else read_number("count", body["count"]),
            checkpoint=read_text("checkpoint", body["checkpoint"]).encode(),
        )


Record: TypeAlias = Genesis | KeyAdd | Rotate

_TYPES: Mapping[str, type[Record]] = {record.TYPE: record for record in (Genesis, KeyAdd, Rotate)}


def decode(body: bytes) -> Record:
    """Read the body of a record.

    Raises:
        FormatError: not canonical JSON, an unknown type, other members, or a field not of its form.
        UnsupportedAlgorithm: a genesis with a lead or log key this program cannot use.
    """
    value = canonical_json.decode(body)
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _TYPES:
        raise FormatError(f"record: expected one of the types {sorted(_TYPES)}, got another")
    return _TYPES[kind].from_object(value)


def previous_hash(envelope: Envelope) -> str:
    """Return hex SHA-256 of a record's PAE: the next record's `prev`, and for the genesis the registry id."""
    return hashlib.sha256(envelope.pae()).hexdigest()


def _read_link(body: Mapping[str, JSONValue]) -> dict[str, Any]:
    texts = {name: read_text(name, body[name]) for name in ("prev", "registry_id", "created_at", "witness_id")}
    return {"seq": read_number("seq", body["seq"]), **texts}


def _read_lead(value: JSONValue) -> Lead:
    body = read_object("lead", value, ("name", "public_key"))
    return Lead(read_text("leads.name", body["name"]), PublicKey.from_spki(_read_bytes("leads", body["public_key"])))


def _read_list(field: str, value: JSONValue) -> list[JSONValue]:
    if not isinstance(value, list):
        raise FormatError(f"{field}: expected a list, got something else")
    return value


def _read_bytes(field: str, value: JSONValue) -> bytes:
    return base64_strict.decode(read_text(field, value))


def _read_cka_id(value: JSONValue) -> bytes:
    text = read_text("cka_id", value)
    if not _HEX.fullmatch(text):
        raise FormatError("cka_id: expected lower-case hex, got something else")
    return bytes.fromhex(text)


def _check_token_place(cka_id: bytes, token_serial: str) -> None:
    if not 1 <= len(cka_id) <= 64:
        raise FormatError(f"cka_id: expected 1 to 64 bytes, got {len(cka_id)}")
    check_name("token_serial", token_serial)
