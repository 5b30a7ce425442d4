"""The two logs of a registry and their keys, as the genesis and the policy record name them."""

from dataclasses import dataclass

from key_registry import base64_strict, note
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.public_key import ED25519, PublicKey
from key_registry.record.fields import check_token_place, read_cka_id, read_public_key
from key_registry.statement import check_name, read_object, read_text


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
        check_token_place(self.cka_id, self.token_serial)

    def to_object(self) -> dict[str, JSONValue]:
        """Return the log as it stands in a record."""
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
            public_key=read_public_key("public_key", body["public_key"]),
            cka_id=read_cka_id(body["cka_id"]),
            token_serial=read_text("token_serial", body["token_serial"]),
        )


@dataclass(frozen=True)
class Logs:
    """The two logs of a registry: of its records, and of statements. They share neither origin, key nor place."""

    registry: LogKey
    statements: LogKey

    def __post_init__(self) -> None:
        if self.registry.origin == self.statements.origin or len(self.key_ids) != 2:
            raise FormatError("logs: expected two origins and two keys, got one twice")
        if (self.registry.token_serial, self.registry.cka_id) == (self.statements.token_serial, self.statements.cka_id):
            raise FormatError("logs: expected two places on tokens, got one twice")

    @property
    def key_ids(self) -> frozenset[str]:
        """The key ids of both log keys."""
        return frozenset((self.registry.public_key.key_id, self.statements.public_key.key_id))

    def to_object(self) -> dict[str, JSONValue]:
        """Return the logs as they stand in a record."""
        return {"registry": self.registry.to_object(), "statements": self.statements.to_object()}

    @classmethod
    def from_object(cls, value: JSONValue) -> "Logs":
        """Read what to_object writes; raises FormatError or UnsupportedAlgorithm."""
        body = read_object("logs", value, ("registry", "statements"))
        return cls(LogKey.from_object(body["registry"]), LogKey.from_object(body["statements"]))
