"""The statement: the exact bytes a witness signs about one event; and the forms of signed fields."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from key_registry import canonical_json, decimal_strict
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError

STATEMENT_TYPE = "application/vnd.witness-service.statement.v1+json"
ENVIRONMENTS = ("production", "development")
NAME_BYTES = 255

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_EVENT_HASH = re.compile("(?:sha256|blake3):[0-9a-f]{64}")
_HEX_32_BYTES = re.compile("[0-9a-f]{64}")
# Newer Pythons take hour 24 for the midnight after.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?!24)[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_WITNESS = re.compile("WITNESS:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def check_name(field: str, value: object) -> str:
    """Return `value` if it may stand as a name: 1 to 255 bytes of UTF-8 without control characters.

    Nothing is trimmed, folded or normalised: two spellings are two names.

    Raises:
        FormatError: no string, empty, too long, or with a control character (Unicode Cc) or lone surrogate.
    """
    name = read_text(field, value)
    if _UNPRINTABLE.search(name):
        raise FormatError(f"{field}: expected no control characters or lone surrogates, got at least one")
    size = len(name) if name.isascii() else len(name.encode())
    if not 1 <= size <= NAME_BYTES:
        raise FormatError(f"{field}: expected 1 to {NAME_BYTES} bytes of UTF-8, got {size}")
    return name


def check_hash(field: str, value: object) -> str:
    """Return `value` if it is an event hash: "sha256:" or "blake3:" and 64 lower-case hex digits.

    Raises:
        FormatError: anything else.
    """
    return _match(field, value, _EVENT_HASH, '"sha256:" or "blake3:" and 64 lower-case hex digits')


def check_hex(field: str, value: object) -> str:
    """Return `value` if it is 32 bytes as 64 lower-case hex digits; raises FormatError otherwise."""
    return _match(field, value, _HEX_32_BYTES, "64 lower-case hex digits")


def check_witness(field: str, value: object) -> str:
    """Return `value` if it is "WITNESS:" and a lower-case UUID; raises FormatError otherwise."""
    return _match(field, value, _WITNESS, '"WITNESS:" and a lower-case UUID')


def check_environment(field: str, value: object) -> str:
    """Return `value` if it is "production" or "development"; raises FormatError otherwise."""
    if not isinstance(value, str) or value not in ENVIRONMENTS:
        raise FormatError(f'{field}: expected "production" or "development", got something else')
    return value


def check_time(field: str, value: object) -> str:
    """Return `value` if it is a UTC time YYYY-MM-DDTHH:MM:SS.ffffffZ, so that text order is time order.

    Raises:
        FormatError: another form, or no such day or second (a leap second cannot be written).
    """
    time = _match(field, value, _TIME, "a time YYYY-MM-DDTHH:MM:SS.ffffffZ")
    try:
        datetime.fromisoformat(time)
    except ValueError:
        raise FormatError(f"{field}: expected a time of the calendar, got one that does not exist") from None
    return time


def check_number(field: str, value: object) -> int:
    """Return `value` if it is an int from 0 to 2**63 - 1; raises FormatError otherwise."""
    if type(value) is not int:
        raise FormatError(f"{field}: expected a whole number, got {_kind(value)}")
    decimal_strict.check(value, field)
    return value


def read_number(field: str, value: object) -> int:
    """Return the number of a decimal string without leading zeros, below 2**63; raises FormatError."""
    return decimal_strict.decode(read_text(field, value), field)


def read_text(field: str, value: object) -> str:
    """Return `value` if it is a string; raises FormatError otherwise."""
    if not isinstance(value, str):
        raise FormatError(f"{field}: expected a string, got {_kind(value)}")
    return value


def read_object(what: str, value: object, names: Collection[str]) -> Mapping[str, JSONValue]:
    """Return `value` if it is an object with exactly the members `names`.

    Raises:
        FormatError: not an object, a member missing, or a member nobody defined.
    """
    if not isinstance(value, dict):
        raise FormatError(f"{what}: expected an object, got {_kind(value)}")
    if value.keys() != set(names):
        missing = sorted(set(names) - value.keys())
        unknown = len(value.keys() - set(names))
        raise FormatError(f"{what}: expected exactly its members, got {unknown} unknown and none of {missing}")
    return value


@dataclass(frozen=True)
class Statement:
    """What one witness says about one event; every field is checked when it is made.

    Args:
        environment: "production" or "development"; inside the signature, so that it cannot be stripped.
        event_hash: "sha256:" or "blake3:" and 64 hex digits.
        event_id: the event's name in its own store.
        event_type: the event's kind in its own store.
        key_id: hex SHA-256 of the signing key's DER SubjectPublicKeyInfo; its record names the algorithm.
        previous_event_hash: the hash the event continues, None where there is none.
        registry_id: hex SHA-256 of the genesis record's PAE.
        registry_root: hex root of the registry log at `registry_size`: the registry the signer believed in.
        registry_size: how many records that registry had.
        round: which choice of the witness selection this is, from 0.
        sequence: the event's place in its stream.
        signed_at: the signer's clock; a claim, never decisive.
        stream: the event log the event belongs to.
        witness_id: "WITNESS:" and a UUID.

    Raises:
        FormatError: a field is not of its form.
    """

    environment: str
    event_hash: str
    event_id: str
    event_type: str
    key_id: str
    previous_event_hash: str | None
    registry_id: str
    registry_root: str
    registry_size: int
    round: int
    sequence: int
    signed_at: str
    stream: str
    witness_id: str

    def __post_init__(self) -> None:
        check_environment("environment", self.environment)
        check_hash("event_hash", self.event_hash)
        check_name("event_id", self.event_id)
        check_name("event_type", self.event_type)
        check_hex("key_id", self.key_id)
        if self.previous_event_hash is not None:
            check_hash("previous_event_hash", self.previous_event_hash)
        check_hex("registry_id", self.registry_id)
        check_hex("registry_root", self.registry_root)
        check_number("registry_size", self.registry_size)
        check_number("round", self.round)
        check_number("sequence", self.sequence)
        check_time("signed_at", self.signed_at)
        check_name("stream", self.stream)
        check_witness("witness_id", self.witness_id)

    def encode(self) -> bytes:
        """Return the statement's canonical JSON: the body a witness key signs under `STATEMENT_TYPE`."""
        fields: dict[str, JSONValue] = dict(self.__dict__)
        for name in _NUMBERS:
            fields[name] = str(fields[name])
        return canonical_json.encode(fields)

    @classmethod
    def decode(cls, data: bytes) -> "Statement":
        """Read the body of a statement.

        Raises:
            FormatError: not canonical JSON, other members, or a field not of its form.
        """
        fields: dict[str, object] = {**read_object("statement", canonical_json.decode(data), _FIELDS)}
        for name in _NUMBERS:
            fields[name] = read_number(name, fields[name])
        return cls(**fields)  # type: ignore[arg-type]  # __post_init__ checks every field


_FIELDS = frozenset(Statement.__dataclass_fields__)
_NUMBERS = ("registry_size", "round", "sequence")


def _match(field: str, value: object, form: re.Pattern[str], expected: str) -> str:
    text = read_text(field, value)
    if not form.fullmatch(text):
        raise FormatError(f"{field}: expected {expected}, got {len(text)} other characters")
    return text


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
