"""Both verifiers draw the same line around each form: keys, policies, notes, fields, sizes."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from key_registry import base64_strict, canonical_json
from key_registry.errors import FormatError, UnsupportedAlgorithm
from key_registry.policy import Policy
from key_registry.public_key import PublicKey
from key_registry.statement import STATEMENT_TYPE
from tests.key_registry.agreement import Opened, agreed, agreed_on_bundle, opened
from tests.key_registry.software_registry import (
    ED448_SPKI,
    SoftwareCosigner,
    SoftwareKey,
    envelope,
    policy_of,
)
from tests.second_verifier import policy as policies
from tests.second_verifier.forms import Malformed, Unsupported
from tests.second_verifier.note import note_id
from tests.second_verifier.public_key import ED25519_PREFIX, read_key
from tests.vectors.table import appended, changed
from tests.vectors.worlds import W1, World

pytestmark = pytest.mark.attacks

COSIGNERS = [SoftwareCosigner(f"c{number}") for number in range(3)]


@cache
def world() -> tuple[World, Opened]:
    made = World(cosigned=True)
    return made, opened(made.newest.to_json(), made.registry_id)


# Keys


def spki(key: ec.EllipticCurvePublicKey | x25519.X25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def compressed(der: bytes) -> bytes:
    """Return a P-256 key with its point compressed."""
    return bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + bytes([2 + der[-1] % 2]) + der[27:59]


P256 = SoftwareKey("y", "ecdsa-p256").public.spki
KEYS = {
    "ed25519": SoftwareKey("x").public.spki,
    "ecdsa-p256": P256,
    "ecdsa-p256, compressed": compressed(P256),
    "ed448": ED448_SPKI,
    "x25519": spki(x25519.X25519PrivateKey.from_private_bytes(bytes(32)).public_key()),
    "secp384r1": spki(ec.derive_private_key(7, ec.SECP384R1()).public_key()),
    "secp256k1": spki(ec.derive_private_key(7, ec.SECP256K1()).public_key()),
    "ed25519 with parameters": bytes.fromhex("302c300706032b65700500032100") + bytes(32),
}


def agreed_on_key(der: bytes) -> str:
    """Return the algorithm, or how both refuse the key."""
    try:
        ours = PublicKey.from_spki(der).algorithm
    except UnsupportedAlgorithm:
        ours = "unsupported"
    except FormatError:
        ours = "malformed"
    try:
        theirs = read_key(der).algorithm
    except Unsupported:
        theirs = "unsupported"
    except Malformed:
        theirs = "malformed"
    assert theirs == ours, der.hex()
    return ours


def test_both_agree_on_points_of_ed25519() -> None:
    """On the curve or off it, reduced or not, of small order or not."""
    field = 2**255 - 19
    ys = [*range(60), field - 1, field, field + 1, *range(2**255 - 1, 2**255 + 3), 2**255 + field, 2**256 - 1]
    small = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    found = Counter(agreed_on_key(ED25519_PREFIX + y.to_bytes(32, "little")) for y in ys)
    assert found["ed25519"] > 10
    assert found["malformed"] > 10
    assert agreed_on_key(ED25519_PREFIX + small) == "malformed"


@pytest.mark.parametrize("name", KEYS)
def test_both_agree_on_changed_keys(name: str) -> None:
    """The start of the DER changed by chance, or its end."""
    chance, found = random.Random(name), Counter[str]()
    found[agreed_on_key(KEYS[name])] += 1
    for _ in range(1000):
        der = bytearray(KEYS[name])
        for _ in range(chance.choice([1, 2])):
            der[chance.randrange(min(len(der), 40))] = chance.randrange(256)
        found[agreed_on_key(bytes(der)[: chance.choice([-1, *[None] * 8])] + bytes(chance.random() < 0.1))] += 1
    assert found["malformed"] > 100


# Policies

WORDS = [
    "witness",
    "group",
    "quorum",
    "log",
    "none",
    "any",
    "all",
    "c0",
    "cosigners",
    "1",
    "0",
    "01",
    "5",
    "#",
    "+",
    "=",
]
WORDS += ["\t", " ", "\n", "\n\n", "\r", "\x0b", "\x7f", "\x85", "\u2003", "é", "quorum none\n", "group g any c0\n"]
WORDS += ["group g 1 c0 c0\n", "group h all cosigners\nquorum h\n", COSIGNERS[0].policy_line]


def agreed_on_policy(text: str) -> str:
    """Return the cosigners and whether they are asked, or how both refuse the policy."""
    try:
        parsed = Policy.parse(text)
        ours = f"{parsed.asks_cosigners} {sorted(it.name for it in parsed.cosigners)}"
    except (UnsupportedAlgorithm, FormatError) as error:
        ours = "unsupported" if isinstance(error, UnsupportedAlgorithm) else "malformed"
    try:
        read = policies.read_policy(text)
        theirs = f"{policies.asks_cosigners(read)} {sorted(read['cosigners'])}"
    except (Unsupported, Malformed) as error:
        theirs = "unsupported" if isinstance(error, Unsupported) else "malformed"
    # Where more than one thing is wrong, either answer is right.
    assert theirs == ours or {theirs, ours} == {"unsupported", "malformed"}, text
    return ours


def policy_by_chance(chance: random.Random) -> str:
    text = policy_of(*COSIGNERS, threshold=2)
    for _ in range(chance.choice([1, 1, 2])):
        separator = chance.choice(["\n", " "])
        parts = text.split(separator)
        at, to = chance.randrange(len(parts)), chance.randrange(len(parts))
        match chance.randrange(5):
            case 0:
                parts[at] = chance.choice(WORDS)
            case 1:
                parts.insert(at, chance.choice(WORDS))
            case 2:
                del parts[at]
            case 3:
                parts[at], parts[to] = parts[to], parts[at]
            case _:
                parts.insert(to, parts[at])
        text = separator.join(parts)
    return text


def test_both_agree_on_policies() -> None:
    """Words and lines exchanged by chance, of a policy that is right."""
    chance = random.Random(0)
    found = Counter(agreed_on_policy(policy_by_chance(chance)) for _ in range(2500))
    assert found["malformed"] > 500
    assert found.total() - found["malformed"] > 150


def test_both_agree_on_verifier_keys() -> None:
    """Every type of key, at the lengths that mean something."""
    chance = random.Random(0)
    found = Counter[str]()
    for kind in [*range(10), 0x80, 0xFF]:
        for length in (0, 31, 32, 33, 1311, 1312, 1313):
            key = SoftwareKey("x").public.spki[12:] if length == 32 else chance.randbytes(length)
            known = note_id("x.example", kind, key).hex()
            vkey = f"x.example+{known}+{base64_strict.encode(bytes([kind]) + key)}"
            found[agreed_on_policy(f"witness x {vkey}\nquorum x\n")] += 1
    assert found == {"unsupported": 1 + 6 * 7, "True ['x']": 1, "malformed": 12 * 7 - 44}


# Fields and notes

NAMES = ("a" * 255, "a" * 256, "é" * 127, "é" * 128, "\x80", "\xa0", "\u2028", "\ufeff", "\U0010ffff")
HOURS = ("24:00:00.000000", "23:60:00.000000", "00:00:60.000000", "00:00:00")
FIELDS: list[tuple[str, Any]] = [
    *(
        ("stream", it)
        for it in ("a" * 255, "a" * 256, "é" * 127, "é" * 128, "\x80", "\xa0", "\u2028", "\ufeff", "\U0010ffff")
    ),
    *(("sequence", str(it)) for it in (2**63 - 1, 2**63, "", "+1", "1_0", "\u0661")),
    *(
        ("signed_at", f"2026-01-01T{it}Z")
        for it in ("24:00:00.000000", "23:60:00.000000", "00:00:60.000000", "00:00:00")
    ),
    *(("signed_at", f"{it}T00:00:00.000000Z") for it in ("0000-01-01", "0001-01-01", "2026-02-29", "2026-W01-1")),
    *(("event_id", it) for it in ('"', "\\", "\x7f", "/</", "")),
    *(("event_hash", f"{it}:{'a' * 64}") for it in ("blake3", "SHA256", "sha512")),
    ("witness_id", "WITNESS:00000000-0000-4000-8000-00000000000A"),
    ("previous_event_hash", None),
]


def test_both_agree_on_fields() -> None:
    """A statement with one field that is at the edge of its form, signed by its key."""
    made, bundle = world()
    found = Counter[str]()
    for field, value in FIELDS:
        body = canonical_json.encode({**json.loads(made.statement(made.d, 20).encode()), field: value})
        found[agreed(bundle, made.registry_id, made.proof(envelope(STATEMENT_TYPE, body, made.d), 20))] += 1
    assert set(found) == {"BAD_FORMAT", "LOG_PROOF_INVALID"}


def test_both_agree_on_lines_of_a_note() -> None:
    """A line more in a checkpoint, by somebody whom nobody knows; and a line too many."""
    made, bundle = world()
    genuine = made.genuine(20)
    lines = [
        f"\u2014 {name} {base64_strict.encode(b'abcdefg')}\n"
        for name in ("x", "", "x+y", "x\x7fy", "x\xa0y", "x\u200by")
    ]
    lines += [f"\u2014 x {base64_strict.encode(b'abcdefg'[:length])}\n" for length in (0, 3, 4, 5)]
    lines += [lines[0] * 96, lines[0] * 97, "\n", "x\n", lines[0][:-1], lines[0].replace(" ", "  ")]
    found = [agreed(bundle, made.registry_id, genuine + line.encode()) for line in lines]
    assert [code.startswith("VALID") for code in found] == [it in (0, 3, 5, 9, 10) for it in range(len(lines))]


def test_both_agree_on_sizes() -> None:
    """Files and signatures as large as they may be, and one byte larger."""
    made, bundle = world()
    alone, body = made.attested[20][1].to_json(), made.attested[20][1].body
    files = [alone.ljust(size) for size in (2**20, 2**20 + 1)]
    for length in (0, 1, 65_535, 65_536):
        signature = {"keyid": made.d.key_id, "sig": base64_strict.encode(bytes(length))}
        parts = {"payload": base64_strict.encode(body), "payloadType": STATEMENT_TYPE, "signatures": [signature]}
        files.append(json.dumps(parts).encode())
    found = [agreed(bundle, made.registry_id, file) for file in files]
    assert found == ["NOT_LOGGED", "BAD_FORMAT", "BAD_FORMAT", "BAD_SIGNATURE", "BAD_SIGNATURE", "BAD_FORMAT"]


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("streams", [], False),
        ("streams", ["a", "a"], False),
        ("streams", ["a*b"], True),
        ("algorithm", "-ed25519", False),
        ("attributes", {}, True),
        ("attributes", {"": "x"}, True),
        ("attributes", {"a": ""}, False),
        ("attributes", {str(number): "x" * 250 for number in range(260)}, False),
        ("cka_id", "", False),
        ("cka_id", "AB", False),
        ("cka_id", "ab" * 64, True),
        ("cka_id", "ab" * 65, False),
        ("reason", "", False),
        ("token_serial", "x" * 255, True),
    ],
)
def test_both_agree_on_members_of_a_record(field: str, value: Any, right: bool) -> None:
    """A key-add with one member that is at the edge of its form, signed by those who must."""
    made, _ = world()
    new = SoftwareKey("new")
    body = changed(made.key_add(new, W1), lambda it: it.update({field: value}))
    code = agreed_on_bundle(appended(made, body, new, *made.quorum), made.registry_id)
    assert code == (None if right else "REGISTRY_INVALID")
