"""Both verifiers give the same code to what accident, malice and other programs make of bundles and evidence."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from key_registry import canonical_json
from key_registry.statement import STATEMENT_TYPE
from tests.key_registry.agreement import Opened, agreed, agreed_on_bundle, opened
from tests.key_registry.software_registry import envelope
from tests.vectors.worlds import World

pytestmark = pytest.mark.attacks

POLICIES = ["none", "cosigned"]
PIECES = b'\x00\n \t"\\,:{}[]=+-_/%0Aa\x7f\x80\xc3\xa9\xe2\x80\x94\xff'


@cache
def world_of(policy: str) -> tuple[World, Opened]:
    world = World(cosigned=policy == "cosigned")
    return world, opened(world.newest.to_json(), world.registry_id)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Flip a bit, cut, drop, repeat or insert."""
    if not data:
        return bytes([chance.choice(PIECES)])
    at, to = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return chance.choice(
        [
            data[:at] + bytes([data[at % len(data)] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
            data[:at],
            data[:at] + data[to:],
            data[:to] + data[at:],
            data[:at] + bytes([chance.choice(PIECES)]) + data[at:],
            data[:at] + bytes([chance.choice(PIECES)]) + data[at + 1 :],
        ]
    )


def lines_moved(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Take a line away, repeat it, swap it with another, or take one from elsewhere."""
    lines, others = data.split(b"\n"), other.split(b"\n")
    at, to = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case _:
            lines[at] = others[min(at, len(others) - 1)]
    return b"\n".join(lines)


def escaped(data: bytes, chance: random.Random) -> bytes:
    """Spell JSON otherwise: order, white space, escapes."""
    value = json.loads(data)

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            names = list(value)
            chance.shuffle(names)
            return {name: shuffled(value[name]) for name in names}
        return [shuffled(it) for it in value] if isinstance(value, list) else value

    indent, separators = chance.choice([None, 0, "\t"]), chance.choice([None, (",", ":")])
    text = json.dumps(shuffled(value), indent=indent, separators=separators)
    letter = chance.choice("abcdefAB0123")
    upper = chance.random() < 0.5
    return text.replace(letter, f"\\u{ord(letter):04X}" if upper else f"\\u{ord(letter):04x}").encode()


def inner(data: bytes, change: Callable[[bytes], bytes], chance: random.Random) -> bytes:
    """Change what is inside of one base64 string of an envelope."""
    members = json.loads(data)
    signature = chance.choice(members["signatures"])
    holder, name = chance.choice([(members, "payload"), (signature, "sig")])
    encode = chance.choice([base64.b64encode, base64.urlsafe_b64encode])
    holder[name] = encode(change(base64.b64decode(holder[name]))).decode()
    return json.dumps(members).encode()


def in_proof(proof: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the attestation that a proof carries."""
    first, extra, rest = proof.split(b"\n", 2)
    changed = base64.b64encode(change(base64.b64decode(extra.removeprefix(b"extra "))))
    return b"\n".join([first, b"extra " + changed, rest])


def resigned(world: World, number: int, chance: random.Random) -> bytes:
    """Return the evidence of a statement with one field that is otherwise, signed by its key."""
    members = json.loads(world.attested[number][1].body)
    name = chance.choice([*members, "more"])
    values = [None, "", "0", "00", "-1", str(2**63), "1e3", "é", "\x7f", "x" * 256, "*", [], {}, members.get(name)]
    values += ["2026-02-29T00:00:00.000000Z", "2026-01-01T00:00:60.000000Z", "0000-01-01T00:00:00.000000Z", "blake3:"]
    members[name] = chance.choice(values)
    if chance.random() < 0.1:
        del members[name]
    key = {world.d.key_id: world.d, world.p.key_id: world.p}[world.attested[number][1].signatures[0].key_id]
    return world.proof(envelope(STATEMENT_TYPE, canonical_json.encode(members), key), number)


def changed_evidence(world: World, chance: random.Random) -> bytes:
    """Return the evidence of a statement by a key that is open, changed somehow."""
    number = chance.choice([18, 19, 20, 21])
    proof, alone = world.genuine(number), world.attested[number][1].to_json()
    match chance.randrange(10):
        case 0:
            return damaged(proof, chance)
        case 1:
            return damaged(damaged(proof, chance), chance)
        case 2:
            return lines_moved(proof, world.genuine(chance.randrange(22)), chance)
        case 3:
            return in_proof(proof, lambda it: damaged(it, chance))
        case 4:
            return in_proof(proof, lambda it: escaped(it, chance))
        case 5:
            return in_proof(proof, lambda it: inner(it, lambda raw: damaged(raw, chance), chance))
        case 6:
            return in_proof(proof, lambda it: inner(it, lambda raw: raw, chance))
        case 7:
            return resigned(world, number, chance)
        case 8:
            return damaged(alone, chance)
        case _:
            return escaped(alone, chance)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(4))
def test_both_agree_on_changed_evidence(policy: str, seed: int) -> None:
    """Bytes, lines, spellings, what base64 hides, and what the signer himself changed."""
    world, bundle = world_of(policy)
    chance = random.Random(seed)
    codes = Counter(agreed(bundle, world.registry_id, changed_evidence(world, chance)) for _ in range(500))
    assert {"BAD_FORMAT", "BAD_SIGNATURE", "LOG_PROOF_INVALID", "NOT_LOGGED", "VALID_KEY_ACTIVE"} <= set(codes)


def members_moved(bundle: bytes, other: bytes, chance: random.Random) -> bytes:
    """Drop, repeat, swap or exchange records, or take a member from another bundle."""
    value, others = json.loads(bundle), json.loads(other)
    records = value["records"]
    at, to = chance.randrange(len(records)), chance.randrange(len(records))
    match chance.randrange(6):
        case 0:
            del records[at]
        case 1:
            records.insert(to, records[at])
        case 2:
            records[at], records[to] = records[to], records[at]
        case 3:
            records[at] = chance.choice(others["records"])
        case 4:
            records[at]["signatures"] = records[to]["signatures"]
        case _:
            name = chance.choice(list(value))
            value[name] = others[name]
    return json.dumps(value).encode()


def in_record(bundle: bytes, chance: random.Random) -> bytes:
    """Change what base64 hides in one envelope."""
    value = json.loads(bundle)
    at = chance.randrange(len(value["records"]) + 1)
    holder, key = (value, "coverage") if at == len(value["records"]) else (value["records"], at)
    changed = inner(json.dumps(holder[key]).encode(), lambda raw: damaged(raw, chance), chance)
    holder[key] = json.loads(changed)
    return json.dumps(value).encode()


def changed_bundle(world: World, chance: random.Random) -> bytes:
    """Return the newest bundle, changed somehow."""
    newest = world.newest.to_json()
    match chance.randrange(5):
        case 0 | 1:
            return damaged(newest, chance)
        case 2:
            return members_moved(newest, world.before_leads.to_json(), chance)
        case 3:
            return in_record(newest, chance)
        case _:
            return escaped(newest, chance)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(2))
def test_both_agree_on_a_changed_bundle(policy: str, seed: int) -> None:
    """Bytes, records, members, spellings, and what base64 hides."""
    world, _ = world_of(policy)
    chance = random.Random(seed)
    codes = Counter(agreed_on_bundle(changed_bundle(world, chance), world.registry_id) for _ in range(150))
    assert {None, "REGISTRY_INVALID", "WRONG_REGISTRY"} <= set(codes)


@pytest.mark.parametrize("policy", POLICIES)
def test_both_agree_at_every_byte_of_a_checkpoint(policy: str) -> None:
    """Each byte of the note in a piece of evidence: cut there, a line broken there, a bit flipped there."""
    world, bundle = world_of(policy)
    proof = world.genuine(20)
    lines_of_cosigners = proof.find("\u2014 c1".encode())
    for at in range(proof.index(b"\n\n") + 1, len(proof)):
        above, below = proof[:at], proof[at:]
        for changed in (above, above + b"\n" + below, above + bytes([below[0] ^ 1]) + below[1:]):
            code = agreed(bundle, world.registry_id, changed)
            # One of three cosigners may become somebody whom nobody knows.
            assert not code.startswith("VALID") or 0 < lines_of_cosigners <= at
