"""The records of the key registry: their bytes are fixed, and nothing else is read as a record."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from key_registry import base64_strict, canonical_json
from key_registry.errors import FormatError, UnsupportedAlgorithm
from key_registry.record import (
    DRILL,
    RECORD_TYPE,
    Compromise,
    Destroyed,
    Genesis,
    Lead,
    Record,
    decode,
    decode_link,
    previous_hash,
)
from tests.key_registry.software_registry import (
    ED448_SPKI,
    SoftwareCosigner,
    SoftwareKey,
    SoftwareRegistry,
    envelope,
    policy_of,
    witness,
)


@pytest.fixture(scope="module")
def world() -> SoftwareRegistry:
    return SoftwareRegistry()


@pytest.fixture(scope="module")
def genesis(world: SoftwareRegistry) -> Genesis:
    return world.registry.genesis


def one_of_each(world: SoftwareRegistry) -> dict[str, Record]:
    """A body of every type; what they say need not follow."""
    a, lead = SoftwareKey("a"), SoftwareKey("lead")
    about_a = {**world.link(), "witness_id": witness(1), "key_id": a.key_id}
    return {
        "genesis": world.registry.genesis,
        "key-add": world.key_add(a, witness(1)),
        "rotate": world.rotation(witness(1), opens=a),
        "compromise": Compromise(**about_a, trusted_size=3, suspected_since=None, reason="theft"),
        "leads": world.leads_record([lead], 1),
        "policy": world.policy_record(),
        "destroyed": Destroyed(**about_a),
    }


def test_every_type_comes_back_from_its_bytes(world: SoftwareRegistry) -> None:
    """What is encoded is what is decoded, for each type and each kind of it."""
    a, b = SoftwareKey("a"), SoftwareKey("b", "ecdsa-p256")
    every = one_of_each(world)
    compromise = every["compromise"]
    assert isinstance(compromise, Compromise)
    records: list[Record] = [
        *every.values(),
        world.key_add(b, witness(1), streams=("orders", "ledger*"), attributes={}, reason=DRILL),
        world.rotation(witness(1), opens=b, closes=a),
        world.rotation(witness(1), closes=b, count=17),
        replace(compromise, suspected_since="2026-01-01T00:00:00.000000Z", trusted_size=0),
        world.leads_record([a, b], 2),
        world.policy_record(policy_of(SoftwareCosigner("x", "https://x.example/")), statement_key=a),
    ]
    for record in records:
        assert decode(record.encode()) == record
    assert {record.TYPE for record in records} == set(every)


def bytes_of(**members: Any) -> bytes:
    """Sorted members of plain ASCII text and null, with nothing between them."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_bytes_of_every_type_are_fixed(world: SoftwareRegistry) -> None:
    """Members in order, numbers as strings, null where there is nothing: these bytes are signed for ever."""
    a, lead = SoftwareKey("a"), SoftwareKey("lead")
    every = one_of_each(world)
    spki = {key.name: base64_strict.encode(key.public.spki) for key in (a, lead)}
    note = world.statements.checkpoint().decode()

    def linked(kind: str, **members: Any) -> bytes:
        record = every[kind]
        place = {"created_at": record.created_at, "prev": world.registry.last_hash, "seq": "1", "type": kind}
        return bytes_of(**place, registry_id=world.registry_id, **members)

    expected = {
        "key-add": linked(
            "key-add",
            algorithm="ed25519",
            attributes={"extractable": "false", "sensitive": "true"},
            cka_id=a.cka_id.hex(),
            key_id=a.key_id,
            public_key=spki["a"],
            reason="a new key",
            streams=["*"],
            token_serial="token 01",
            witness_id=witness(1),
        ),
        "rotate": linked(
            "rotate",
            checkpoint=note,
            close=None,
            count=None,
            open=a.key_id,
            reason="the yearly rotation",
            witness_id=witness(1),
        ),
        "compromise": linked(
            "compromise",
            key_id=a.key_id,
            reason="theft",
            suspected_since=None,
            trusted_size="3",
            witness_id=witness(1),
        ),
        "leads": linked("leads", leads=[{"name": "lead", "public_key": spki["lead"]}], threshold="1"),
        "policy": linked("policy", checkpoint=note, logs=world.logs().to_object(), policy="none"),
        "destroyed": linked("destroyed", key_id=a.key_id, witness_id=witness(1)),
    }
    assert {kind: every[kind].encode() for kind in expected} == expected


def test_the_hashes_of_a_history_are_fixed() -> None:
    """One record of every type from fixed keys and times: a change of any byte shows here."""
    world = SoftwareRegistry()
    a = world.new_witness(1)
    world.attest(a, 0)
    world.change_leads([*world.leads[:2], SoftwareKey("a fourth lead")], 2)
    world.change_policy(policy_of(SoftwareCosigner("x")), statement_key=SoftwareKey("a second statement log key"))
    world.compromise(a, 1, suspected_since=world.time(0))
    world.rotate(witness(1), closes=a)
    world.destroy(a)
    types = [record.TYPE for record in world.registry.records]
    assert list(zip(types, map(previous_hash, world.registry.envelopes), strict=True)) == HASHES


HASHES = [
    ("genesis", "39fb70949b63e736a47f57eb7889d957ac072a95821570a89bf2b83723234645"),
    ("key-add", "c846663fb18dc33772712d75b66ab3ab7bfae7abd2da95d309ee0673b87969ad"),
    ("rotate", "cb9983cd054bcae46fe2f0f5f7b86af0faab07b07b905c7c118c4bfefb67d2b5"),
    ("leads", "ed1b86b24d410a569af4c9abbbbd8bbaaf7a802b71183c2a29ee2b171494db92"),
    ("policy", "a279997a7f80e2d13b8476a268c93851a16afafb564f22d91fa7e2c9d0d7228f"),
    ("compromise", "beef9dcfaded3367db76fe3ac34bc78791e81dd400b81139dc2029d9349fd4aa"),
    ("rotate", "6f5d0b54a69b9bdce1e6188bb2ad2fd04f8956e75eb413eb20ed9b7e3866dee5"),
    ("destroyed", "6d18c97e60227ec70fc60668601113545860b2a523dee25fc4e6d3f707811ffc"),
]


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


def test_leads_and_logs_are_each_named_once(genesis: Genesis) -> None:
    """No lead counts twice, and the two logs share no origin, key or place on a token."""
    leads, logs = genesis.leads, genesis.logs
    one_key = replace(logs.registry, public_key=logs.statements.public_key)
    one_origin = replace(logs.registry, origin=logs.statements.origin)
    one_place = replace(logs.registry, cka_id=logs.statements.cka_id)
    for log in (one_key, one_origin, one_place):
        with pytest.raises(FormatError):
            replace(logs, registry=log)
    bad: list[dict[str, Any]] = [
        {"leads": leads[::-1]},
        {"leads": (leads[0], leads[0], leads[1])},
        {"leads": (leads[0], Lead(leads[0].name, leads[1].public_key), leads[2])},
        {"leads": (Lead("two\nlines", leads[0].public_key),), "threshold": 1},
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
    ("reason", ""),
    ("reason", "x" * 256),
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
        {"opens": a, "reason": ""},
    ]
    for fields in bad:
        with pytest.raises(FormatError):
            world.rotation(witness(1), **fields)


def respelt(body: bytes, **members: Any) -> bytes:
    said = {**json.loads(body), **members}
    return canonical_json.encode({name: value for name, value in said.items() if value is not ...})


TYPES = ("genesis", "key-add", "rotate", "compromise", "leads", "policy", "destroyed")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    "members",
    [
        {"type": "revoke"},
        {"type": "Genesis"},
        {"type": None},
        {"type": ...},
        {"extra": "member"},
        {"created_at": ...},
        {"created_at": "2026-02-29T00:00:00.000000Z"},
        {"seq": "00"},
        {"seq": "01"},
        {"seq": None},
        {"seq": "9223372036854775808"},
        {"prev": ["list"]},
        {"registry_id": {}},
    ],
    ids=str,
)
def test_unknown_types_and_members_are_refused(world: SoftwareRegistry, kind: str, members: Any) -> None:
    """A verifier that met a record it does not fully understand could judge wrongly, so it refuses it."""
    body = one_of_each(world)[kind].encode()
    decode(body)
    with pytest.raises(FormatError):
        decode(respelt(body, **members))


@pytest.mark.parametrize("kind", TYPES)
def test_every_member_is_needed_and_is_no_other_type_s(world: SoftwareRegistry, kind: str) -> None:
    """Left out, given null or a list, or under the type of another record: refused, member by member."""
    body = one_of_each(world)[kind].encode()
    said = json.loads(body)
    nowhere_right: list[Any] = [..., [[]], {"x": None}, "\x00"]
    for name in said:
        for value in nowhere_right:
            with pytest.raises(FormatError):
                decode(respelt(body, **{name: value}))
    for other in TYPES:
        if other != kind:
            with pytest.raises(FormatError):
                decode(respelt(body, type=other))


@pytest.mark.attacks
@pytest.mark.parametrize("kind", TYPES)
def test_no_record_can_be_respelt(world: SoftwareRegistry, kind: str) -> None:
    """Signed bytes have one spelling: white space, order, escapes, duplicates and numbers are refused."""
    body = one_of_each(world)[kind].encode()
    said = json.loads(body)
    name, value = next((name, value) for name, value in said.items() if isinstance(value, str))
    member = json.dumps(name).encode() + b":" + json.dumps(value, ensure_ascii=False).encode()
    assert member in body
    backwards = json.dumps(dict(reversed(said.items())), separators=(",", ":"), ensure_ascii=False).encode()
    for other in (
        b" " + body,
        body + b"\n",
        b"\xef\xbb\xbf" + body,
        backwards,
        json.dumps(said, ensure_ascii=False).encode(),
        body.replace(b'"type":"', b'"type":"\\u00' + b"%x" % body[body.index(b'"type":"') + 8], 1),
        body.replace(member, member + b"," + member, 1),
        body.replace(b'"created_at":"2', b'"created_at":"\\u0032', 1),
        body.replace(b'"type":', b'"typ\\u0065":', 1),
        body.replace(b'"seq":"%s"' % said["seq"].encode(), b'"seq":%s' % said["seq"].encode(), 1),
        body[:-1] + b',"zero":0}',
        body[:-1],
        body + body,
    ):
        assert other != body
        with pytest.raises(FormatError):
            decode(other)


@pytest.mark.attacks
def test_keys_in_records_have_one_base64_and_one_der(world: SoftwareRegistry) -> None:
    """The URL-safe alphabet, padding left out, or another DER of the same key would be a second spelling."""
    lead = next(key for number in range(99) if "+" in spki64(key := SoftwareKey(f"plus {number}")))
    body = world.leads_record([lead], 1).encode()
    good = spki64(lead)
    der = lead.public.spki
    long_form = b"\x30\x81" + der[1:]
    with_parameters = b"\x30\x2c\x30\x07" + der[4:9] + b"\x05\x00" + der[9:]
    for other in (
        good.replace("+", "-"),
        good.rstrip("="),
        good + "\n",
        base64_strict.encode(long_form),
        base64_strict.encode(with_parameters),
        base64_strict.encode(der + b"\x00"),
        base64_strict.encode(der[:-1]),
    ):
        changed = body.replace(json.dumps(good).encode(), json.dumps(other).encode())
        assert changed != body
        with pytest.raises(FormatError) as error:
            decode(changed)
        assert not isinstance(error.value, UnsupportedAlgorithm)


def spki64(key: SoftwareKey) -> str:
    return base64_strict.encode(key.public.spki)


LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    b"\x01" + bytes(30) + b"\x80",
]
"""Ed25519 points of order 4, 1, 2, 8 and 8, and order 1 with the sign bit set."""


@pytest.mark.attacks
@pytest.mark.parametrize("raw", LOW_ORDER, ids=bytes.hex)
def test_no_key_in_a_record_has_a_small_order(world: SoftwareRegistry, raw: bytes) -> None:
    """Under such a key one signature fits many messages: refused as a lead's, a log's and a cosigner's key."""
    spki = base64_strict.encode(bytes.fromhex("302a300506032b6570032100") + raw)
    leads = json.loads(world.leads_record([SoftwareKey("lead")], 1).encode())
    leads["leads"][0]["public_key"] = spki
    policy = json.loads(world.policy_record().encode())
    bodies = [leads]
    for log in ("registry", "statements"):
        logs = {**policy["logs"], log: {**policy["logs"][log], "public_key": spki}}
        bodies.append({**policy, "logs": logs})
    name = "x.example"
    key_id = hashlib.sha256(name.encode() + b"\n\x04" + raw).digest()[:4].hex()
    vkey = f"{name}+{key_id}+{base64_strict.encode(bytes([4]) + raw)}"
    bodies.append({**policy, "policy": f"witness x {vkey}\nquorum x\n"})
    for body in bodies:
        with pytest.raises(FormatError, match=r"small order|y below"):
            decode(canonical_json.encode(body))


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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key_id", "AB" * 32),
        ("trusted_size", -1),
        ("trusted_size", 2**63),
        ("suspected_since", ""),
        ("suspected_since", "2026-13-01T00:00:00.000000Z"),
        ("reason", ""),
        ("witness_id", "me"),
    ],
)
def test_a_compromise_of_another_form_cannot_be_made(world: SoftwareRegistry, field: str, value: Any) -> None:
    """A cut without a key, a position, a reason or with a time of no calendar is refused."""
    record = one_of_each(world)["compromise"]
    with pytest.raises(FormatError):
        replace(record, **{field: value})


def test_new_leads_can_reach_their_threshold(world: SoftwareRegistry) -> None:
    """No leads at all, none of them needed, and more than there are: refused before anybody signs."""
    lead = SoftwareKey("lead")
    for leads, threshold in (([], 0), ([], 1), ([lead], 0), ([lead], 2), ([lead, lead], 1)):
        with pytest.raises(FormatError):
            world.leads_record(leads, threshold)


def test_a_genesis_with_a_key_of_an_unknown_algorithm_says_so(world: SoftwareRegistry) -> None:
    """The registry may be genuine and this program too old: another error than for a bad one."""
    said = json.loads(world.registry.genesis.encode())
    said["logs"]["registry"]["public_key"] = base64_strict.encode(ED448_SPKI)
    with pytest.raises(UnsupportedAlgorithm):
        decode(canonical_json.encode(said))


def test_the_place_of_a_record_is_read_without_its_keys(world: SoftwareRegistry) -> None:
    """So that it can be checked whose word a record is that names keys of an unknown algorithm."""
    record = world.leads_record([SoftwareKey("lead")], 1)
    said = json.loads(record.encode())
    said["leads"][0]["public_key"] = base64_strict.encode(ED448_SPKI)
    body = canonical_json.encode(said)
    with pytest.raises(UnsupportedAlgorithm):
        decode(body)
    link = decode_link(body)
    assert (link.seq, link.prev, link.registry_id) == (record.seq, record.prev, record.registry_id)
    for other in (world.registry.genesis.encode(), b"[]", b" {}"):
        with pytest.raises(FormatError):
            decode_link(other)
