"""The key-add record: a key generated in the HSM joins a witness's history."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from key_registry import base64_strict, canonical_json
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.record.fields import check_token_place, read_bytes, read_cka_id, read_list
from key_registry.record.link import WITNESS_LINK_MEMBERS, WitnessLink, read_witness_link
from key_registry.statement import check_name, read_object, read_text

_ALGORITHM = re.compile("[a-z0-9][a-z0-9-]{0,63}")
_MEMBERS = (
    *WITNESS_LINK_MEMBERS,
    "algorithm",
    "attributes",
    "cka_id",
    "key_id",
    "public_key",
    "reason",
    "streams",
    "token_serial",
)


@dataclass(frozen=True)
class KeyAdd(WitnessLink):
    """A key generated in the HSM joins a witness's history; it signs nothing until a rotation opens it.

    Args:
        algorithm: "ed25519", "ecdsa-p256", or one this program does not know.
        public_key: DER SubjectPublicKeyInfo, kept as bytes because its algorithm may be unknown.
        streams: which streams it may sign for: exact names, or prefixes ending in "*".
        cka_id: the key's CKA_ID on the token, 1 to 64 bytes.
        token_serial: the token's serial number.
        attributes: what the token said about the private key when it was read back.
        reason: why, in the leads' words; DRILL in a drill.
    """

    TYPE: ClassVar[str] = "key-add"

    algorithm: str
    public_key: bytes
    streams: tuple[str, ...]
    cka_id: bytes
    token_serial: str
    attributes: Mapping[str, str]
    reason: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _ALGORITHM.fullmatch(self.algorithm):
            raise FormatError("algorithm: expected a name such as ed25519, got something else")
        for pattern in self.streams:
            check_name("streams", pattern)
        if not self.streams or len(set(self.streams)) != len(self.streams):
            raise FormatError("streams: expected at least one pattern and none twice, got something else")
        check_token_place(self.cka_id, self.token_serial)
        for value in self.attributes.values():
            check_name("attributes", value)
        check_name("reason", self.reason)

    @property
    def key_id(self) -> str:
        """Hex SHA-256 of the DER SubjectPublicKeyInfo."""
        return hashlib.sha256(self.public_key).hexdigest()

    def encode(self) -> bytes:
        """Return the body of the record."""
        return canonical_json.encode(
            {
                **self.link_object(),
                "algorithm": self.algorithm,
                "attributes": dict(self.attributes),
                "cka_id": self.cka_id.hex(),
                "key_id": self.key_id,
                "public_key": base64_strict.encode(self.public_key),
                "reason": self.reason,
                "streams": list(self.streams),
                "token_serial": self.token_serial,
            }
        )

    @classmethod
    def from_object(cls, value: JSONValue) -> "KeyAdd":
        """Read a parsed body; raises FormatError."""
        body = read_object("key-add", value, _MEMBERS)
        attributes = body["attributes"]
        if not isinstance(attributes, dict):
            raise FormatError("attributes: expected an object of strings, got something else")
        record = cls(
            **read_witness_link(body),
            algorithm=read_text("algorithm", body["algorithm"]),
            public_key=read_bytes("public_key", body["public_key"]),
            streams=tuple(read_text("streams", pattern) for pattern in read_list("streams", body["streams"])),
            cka_id=read_cka_id(body["cka_id"]),
            token_serial=read_text("token_serial", body["token_serial"]),
            attributes={name: read_text("attributes", text) for name, text in attributes.items()},
            reason=read_text("reason", body["reason"]),
        )
        if body["key_id"] != record.key_id:
            raise FormatError(f"key_id: expected the SHA-256 of the public key, {record.key_id}, got another value")
        return record
