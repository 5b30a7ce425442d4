"""The records of the key registry: their bytes are fixed, and nothing else is read as a record."""

import json
from dataclasses import replace
from typing import Any

import pytest

from key_registry import base64_strict, canonical_json
from key_registry.errors import FormatError, UnsupportedAlgorithm
from key_registry.record import RECORD_TYPE, Genesis, Lead, Record, decode, previous_hash
from tests.key_registry.software_registry import ED448_SPKI, SoftwareKey, SoftwareRegistry, envelope, witness


@pytest.fixture(scope="module")
def world() -> SoftwareRegistry:
    return SoftwareRegistry()


@pytest.fixture(scope="module")
def genesis(world: SoftwareRegistry) -> Genesis:
    return world.registry.genesis


def test_every_type_comes_back_from_its_bytes(world: SoftwareRegistry, genesis: Genesis) -> None:
    """What is encoded is what is decoded, for each type and each kind of rotation."""
    a, b = SoftwareKey("a"), SoftwareKey("b", "ecdsa-p256")
    records: list[Record] = [
        genesis,
        world.key_add(a, witness(1)),
        world.key_add(b, witness(1), streams=("orders", "ledger*"), attributes={}),
        world.rotation(witness(1), opens=a),
        world.rotation(witness(1), opens=b, closes=a),
        world.rotation(witness(1), closes=b, count=17),
    ]
    for record in records:
        assert decode(record.encode()) == record


def test_the_bytes_of_a_rotation_are_fixed(world: SoftwareRegistry) -> None:
    """Members in order, numbers as strings, null where there is nothing: these bytes are signed for ever."""
    record = world.rotation(witness(1), closes=SoftwareKey("a"), seq=4, count=17, prev="ab" * 32)
    note = json.dumps(record.checkpoint.decode(), ensure_ascii=False)
    expected = (
        f'{{"checkpoint":{note},"close":"{record.close}","count":"17","created_at":"{record.created_at}",'
        f'"open":null,"prev":"{"ab" * 32}","registry_id":"{world.registry_id}","seq":"4","type":"rotate",'
        f'"witness_id":"{witness(1)}"}}'
    )
    assert record.encode() == expected.encode()


def test_the_bytes_of_a_key_add_are_fixed(world: SoftwareRegistry) -> None:
    """The key id in the record is the hash of the key in the record."""
    said = json.loads(world.key_add(SoftwareKey("a"), witness(1)).encode())
    assert list(said) == [
        "algorithm",
        "attributes",
        "cka_id",
        "created_at",
        "key_id",
        "prev",
        "public_key",
        "registry_id",
        "seq",
        "streams",
        "token_serial",
        "type",
        "witness_id",
    ]
    assert said["key_id"] == SoftwareKey("a").key_id


def test_the_registry_id_covers_the_body_and_not_the_signatures(world: SoftwareRegistry) -> None:
    """The id of a registry can be pinned before anybody has signed it, and no signature changes it."""
    body = world.registry.genesis.encode()
    unsigned = envelope(RECORD_TYPE, body)
    signed = envelope(RECORD_TYPE, body, *world.leads)
    assert previous_hash(unsigned) == previous_hash(signed) == world.registry_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created_at", "yesterday"),
        ("environment", "test"),
        ("leads", ()),
        ("threshold", 0),
        ("threshold", 4),
        ("policy", "sigsum"),
        ("policy", ""),
    ],
)
def test_a_genesis_of_another_form_cannot_be_made(genesis: Genesis, field: str, value: Any) -> None:
    """A registry without leads, with an impossible quorum or with an unknown policy is refused."""
    with pytest.raises(FormatError):
        replace(genesis, **{field: value})


def test_the_keys_of_a_genesis_differ(genesis: Genesis) -> None:
    """No lead counts twice, no log key is a lead's or the other log's, and the origins differ."""
    leads, logs = genesis.leads, genesis.logs
    one_key = replace(logs.registry, public_key=logs.statements.public_key)
    one_origin = replace(logs.registry, origin=logs.statements.origin)
    lead_key = replace(logs.registry, public_key=leads[0].public_key)
    bad: list[dict[str, Any]] = [
        {"leads": leads[::-1]},
        {"leads": (leads[0], leads[0], leads[1])},
        {"leads": (leads[0], Lead(leads[0].name, leads[1].public_key), leads[2])},
        {"leads": (Lead("two\nlines", leads[0].public_key),), "threshold": 1},
        {"logs": replace(logs, registry=one_key)},
        {"logs": replace(logs, registry=one_origin)},
        {"logs": replace(logs, registry=lead_key)},
    ]
    for fields in bad:
        with pytest.raises(FormatError):
            replace(genesis, **fields)


def test_a_log_has_an_origin_without_spaces_and_an_ed25519_key(genesis: Genesis) -> None:
    """A checkpoint by the log must be possible: C2SP key names, signature type 0x01."""
    log = genesis.logs.registry
    bad: list[dict[str, Any]] = [
        {"origin": ""},
        {"origin": "two words"},
        {"origin": "a+b"},
        {"origin": "a\nb"},
        {"origin": "x" * 256},
        {"public_key": SoftwareKey("p", "ecdsa-p256").public},
        {"cka_id": b""},
        {"cka_id": bytes(65)},
        {"token_serial": ""},
    ]
    for fields in bad:
        with pytest.raises(FormatError):
            replace(log, **fields)


KEY_ADD_FIELDS: list[tuple[str, Any]] = [
    ("seq", -1),
    ("prev", "x"),
    ("registry_id", ""),
    ("created_at", "now"),
    ("witness_id", "WITNESS:me"),
    ("algorithm", "Ed 25519"),
    ("streams", ()),
    ("streams", ("a", "a")),
    ("streams", ("",)),
    ("cka_id", b""),
    ("token_serial", "x\ny"),
    ("attributes", {"sensitive": ""}),
]


@pytest.mark.parametrize(("field", "value"), KEY_ADD_FIELDS)
def test_a_key_add_of_another_form_cannot_be_made(world: SoftwareRegistry, field: str, value: Any) -> None:
    """A key without streams, place or history is refused before anybody signs it."""
    with pytest.raises(FormatError):
        world.key_add(SoftwareKey("a"), witness(1), **{field: value})


def test_a_rotation_opens_or_closes_something(world: SoftwareRegistry) -> None:
    """Neither, the same key twice, and a count without a closing key are no rotations."""
    a, b = SoftwareKey("a"), SoftwareKey("b")
    bad: list[dict[str, Any]] = [
        {},
        {"opens": a, "closes": a},
        {"opens": a, "count": 0},
        {"closes": a, "count": None},
        {"closes": a, "count": -1},
        {"opens": a, "closes": b, "open": "not hex"},
        {"opens": a, "checkpoint": b"not a note"},
        {"opens": a, "checkpoint": b"\xff"},
    ]
    for fields in bad:
        with pytest.raises(FormatError):
            world.rotation(witness(1), **fields)


def respelt(body: bytes, **members: Any) -> bytes:
    said = {**json.loads(body), **members}
    return canonical_json.encode({name: value for name, value in said.items() if value is not ...})


@pytest.mark.parametrize("kind", ["genesis", "key-add", "rotate"])
@pytest.mark.parametrize(
    "members",
    [
        {"type": "compromise"},
        {"type": None},
        {"type": ...},
        {"extra": "member"},
        {"created_at": ...},
        {"seq": "00"},
        {"seq": None},
        {"prev": ["list"]},
        {"registry_id": {}},
    ],
    ids=str,
)
def test_unknown_types_and_members_are_refused(world: SoftwareRegistry, kind: str, members: Any) -> None:
    """A verifier that met a record it does not fully understand could judge wrongly, so it refuses it."""
    bodies: dict[str, Record] = {
        "genesis": world.registry.genesis,
        "key-add": world.key_add(SoftwareKey("a"), witness(1)),
        "rotate": world.rotation(witness(1), opens=SoftwareKey("a")),
    }
    with pytest.raises(FormatError):
        decode(respelt(bodies[kind].encode(), **members))


def test_bytes_that_are_no_record_are_refused() -> None:
    """JSON of another shape, and no JSON at all."""
    for body in (b"", b"null", b"[]", b'"genesis"', b"{}", b'{"type":"genesis"}', b'{"type":{}}', b"\xff"):
        with pytest.raises(FormatError):
            decode(body)


@pytest.mark.attacks
def test_a_key_add_cannot_name_another_key(world: SoftwareRegistry) -> None:
    """A key id beside another public key, or a respelt public key, is refused."""
    body = world.key_add(SoftwareKey("a"), witness(1)).encode()
    said = json.loads(body)
    other = SoftwareKey("b")
    for members in (
        {"key_id": other.key_id},
        {"public_key": said["public_key"] + "\n"},
        {"public_key": said["public_key"].rstrip("=")},
        {"cka_id": said["cka_id"].upper()},
        {"cka_id": said["cka_id"] + "0"},
        {"attributes": [["sensitive", "true"]]},
        {"attributes": {"sensitive": None}},
        {"streams": "*"},
    ):
        with pytest.raises(FormatError):
            decode(respelt(body, **members))


def test_a_genesis_with_a_key_of_an_unknown_algorithm_says_so(world: SoftwareRegistry) -> None:
    """The registry may be genuine and this program too old: another error than for a bad one."""
    said = json.loads(world.registry.genesis.encode())
    said["logs"]["registry"]["public_key"] = base64_strict.encode(ED448_SPKI)
    with pytest.raises(UnsupportedAlgorithm):
        decode(canonical_json.encode(said))
