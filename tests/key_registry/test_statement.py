"""The statement: its bytes are fixed, every field has one form, and nothing else is read as a statement."""

import json
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry import base64_strict, canonical_json
from key_registry.errors import FormatError
from key_registry.merkle import leaf_hash
from key_registry.statement import STATEMENT_TYPE, Statement, check_name
from tests.key_registry.software_registry import SoftwareKey, envelope

STATEMENT = Statement(
    environment="production",
    event_hash="sha256:" + "ab" * 32,
    event_id="event 7",
    event_type="order.placed",
    key_id="01" * 32,
    previous_event_hash="blake3:" + "cd" * 32,
    registry_id="02" * 32,
    registry_root="03" * 32,
    registry_size=3,
    round=0,
    sequence=7,
    signed_at="2026-01-02T03:04:05.000006Z",
    stream="orders",
    witness_id="WITNESS:00000000-0000-4000-8000-000000000001",
)

NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=60,  # four bytes each at most
)
HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
HASHES = st.builds("{}:{}".format, st.sampled_from(["sha256", "blake3"]), HEX)
NUMBERS = st.integers(0, 2**63 - 1)
STATEMENTS = st.builds(
    Statement,
    environment=st.sampled_from(["production", "development"]),
    event_hash=HASHES,
    event_id=NAMES,
    event_type=NAMES,
    key_id=HEX,
    previous_event_hash=st.none() | HASHES,
    registry_id=HEX,
    registry_root=HEX,
    registry_size=NUMBERS,
    round=NUMBERS,
    sequence=NUMBERS,
    signed_at=st.datetimes().map(lambda time: time.isoformat(timespec="microseconds") + "Z"),
    stream=NAMES,
    witness_id=st.uuids().map("WITNESS:{}".format),
)


def test_the_bytes_are_fixed() -> None:
    """Members in order, numbers as strings, no white space: these bytes are signed and may never change."""
    expected = (
        '{"environment":"production","event_hash":"sha256:' + "ab" * 32 + '","event_id":"event 7",'
        '"event_type":"order.placed","key_id":"'
        + "01" * 32
        + '","previous_event_hash":"blake3:'
        + "cd" * 32
        + '","registry_id":"'
        + "02" * 32
        + '","registry_root":"'
        + "03" * 32
        + '","registry_size":"3",'
        '"round":"0","sequence":"7","signed_at":"2026-01-02T03:04:05.000006Z","stream":"orders",'
        '"witness_id":"WITNESS:00000000-0000-4000-8000-000000000001"}'
    )
    assert STATEMENT.encode() == expected.encode()


@given(STATEMENTS)
def test_what_is_encoded_is_what_is_decoded(statement: Statement) -> None:
    """Every statement comes back from its bytes, and its names as they were, whatever the script."""
    assert Statement.decode(statement.encode()) == statement


BAD_FIELDS: list[tuple[str, Any]] = [
    ("environment", "staging"),
    ("environment", ""),
    ("event_hash", "ab" * 32),
    ("event_hash", "sha256:" + "AB" * 32),
    ("event_hash", "sha256:" + "ab" * 31),
    ("event_hash", "sha256:" + "ab" * 33),
    ("event_hash", "sha256:" + "ab" * 32 + "\n"),
    ("event_hash", "sha512:" + "ab" * 32),
    ("event_hash", "sha256:" + "\N{ARABIC-INDIC DIGIT ONE}" * 64),
    ("event_id", ""),
    ("event_id", "x" * 256),
    ("event_id", "\N{OLD PERSIAN SIGN A}" * 64),
    ("event_id", "a\nb"),
    ("event_id", "a\x00b"),
    ("event_id", "a\x7fb"),
    ("event_id", "a\x85b"),
    ("event_id", "a\ud800b"),
    ("event_type", "\t"),
    ("key_id", "01" * 31),
    ("key_id", "0x" + "01" * 31),
    ("previous_event_hash", ""),
    ("registry_id", "02" * 33),
    ("registry_root", "G" * 64),
    ("registry_size", -1),
    ("registry_size", 2**63),
    ("registry_size", True),
    ("round", 1.0),
    ("sequence", "7"),
    ("sequence", None),
    ("signed_at", "2026-01-02T03:04:05.000006"),
    ("signed_at", "2026-01-02T03:04:05.000006+00:00"),
    ("signed_at", "2026-01-02 03:04:05.000006Z"),
    ("signed_at", "2026-01-02T03:04:05Z"),
    ("signed_at", "2026-01-02T03:04:60.000000Z"),
    ("signed_at", "2026-02-30T03:04:05.000006Z"),
    ("signed_at", "0000-01-01T00:00:00.000000Z"),
    ("stream", ""),
    ("stream", None),
    ("witness_id", "WITNESS:1"),
    ("witness_id", "witness:00000000-0000-4000-8000-000000000001"),
    ("witness_id", "WITNESS:00000000-0000-4000-8000-00000000000A"),
    ("witness_id", " WITNESS:00000000-0000-4000-8000-000000000001"),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_field_of_another_form_makes_no_statement(field: str, value: object) -> None:
    """A statement with a bad field cannot be made, and the error names the field and not its content."""
    with pytest.raises(FormatError) as error:
        replace(STATEMENT, **{field: value})  # type: ignore[arg-type]
    assert field in str(error.value)
    assert len(str(value)) < 5 or str(value) not in str(error.value)


def members() -> dict[str, Any]:
    said: dict[str, Any] = json.loads(STATEMENT.encode())
    return said


@pytest.mark.parametrize(
    ("case", "data"),
    [
        ("number for a string", STATEMENT.encode().replace(b'"sequence":"7"', b'"sequence":7')),
        ("leading zero", STATEMENT.encode().replace(b'"sequence":"7"', b'"sequence":"07"')),
        ("sign", STATEMENT.encode().replace(b'"sequence":"7"', b'"sequence":"+7"')),
        ("too large", STATEMENT.encode().replace(b'"sequence":"7"', b'"sequence":"9223372036854775808"')),
        ("null for a string", STATEMENT.encode().replace(b'"stream":"orders"', b'"stream":null')),
        ("list for a string", STATEMENT.encode().replace(b'"stream":"orders"', b'"stream":["orders"]')),
        ("member twice", STATEMENT.encode().replace(b'"round":"0"', b'"round":"0","round":"0"')),
        ("escape not needed", STATEMENT.encode().replace(b'"orders"', b'"order\\u0073"')),
        ("white space", STATEMENT.encode().replace(b",", b", ", 1)),
        ("newline at the end", STATEMENT.encode() + b"\n"),
        ("byte order mark", b"\xef\xbb\xbf" + STATEMENT.encode()),
        ("not UTF-8", STATEMENT.encode().replace(b"orders", b"order\xff")),
        ("member missing", canonical_json.encode({k: v for k, v in members().items() if k != "round"})),
        ("member nobody defined", canonical_json.encode({**members(), "note": "x"})),
        ("a list", b"[]"),
        ("a string", b'"x"'),
        ("null", b"null"),
        ("nothing", b""),
    ],
)
def test_other_bytes_are_no_statement(case: str, data: bytes) -> None:
    """Only the canonical bytes with exactly the statement's members are read."""
    with pytest.raises(FormatError):
        Statement.decode(data)


def test_names_are_kept_verbatim() -> None:
    """Names that look hostile to another layer are data: kept, and neither trimmed nor normalised."""
    for name in (" a ", "'; DROP TABLE--", "\u202eabc", "e\u0301", "\u2028", "x" * 255, "\U000103a0" * 63):
        assert check_name("stream", name) == name


def test_the_example_in_the_format_description_is_right() -> None:
    """Who writes a second verifier can check it against the printed key, statement, signature and leaf."""
    example = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8").split("## A worked example")[1]
    keys, body, pae_hash, signed = (block.split() for block in re.findall("```[a-z]+\n(.*?)```", example, re.DOTALL))
    key = SoftwareKey("example")
    assert keys == [base64_strict.encode(key.public.spki), key.key_id]
    assert Statement.decode(body[0].encode()).key_id == key.key_id
    attestation = envelope(STATEMENT_TYPE, body[0].encode(), key)
    assert pae_hash == [sha256(attestation.pae()).hexdigest()]
    signature = base64_strict.encode(attestation.signatures[0].signature)
    assert signed == [signature, leaf_hash(attestation.entry()).hex()]
    assert f"{len(body[0].encode())} bytes" in example
    assert f"{len(attestation.entry())}-byte log entry" in example
