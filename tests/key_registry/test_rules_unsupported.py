"""Keys this program cannot use: only a quorum of the leads may make it call itself too old."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from key_registry import base64_strict, canonical_json
from key_registry.dsse import Envelope, Signature
from key_registry.errors import RecordError, UnsupportedAlgorithm
from key_registry.record import RECORD_TYPE
from key_registry.replay import Registry
from tests.key_registry.lived_registry import W1, LivedRegistry
from tests.key_registry.software_registry import ED448_SPKI, SoftwareKey, SoftwareRegistry, envelope

ED448 = base64_strict.encode(ED448_SPKI)


def vkey(kind: int, material: bytes) -> str:
    key_hash = hashlib.sha256(b"x.example\n" + bytes([kind]) + material).digest()[:4].hex()
    return f"x.example+{key_hash}+{base64_strict.encode(bytes([kind]) + material)}"


ML_DSA_POLICY = f"witness x {vkey(0x06, bytes(1312))}\nquorum x\n"
FUTURE_POLICY = f"witness x {vkey(0x07, bytes(48))}\nquorum x\n"


def changed(body: bytes, change: Callable[[Any], None]) -> bytes:
    said = json.loads(body)
    change(said)
    return canonical_json.encode(said)


def key_add(world: LivedRegistry) -> bytes:
    return world.key_add(world.stranger, W1, public_key=ED448_SPKI, algorithm="ed448").encode()


def leads(world: LivedRegistry) -> bytes:
    return changed(
        world.leads_record([SoftwareKey("fresh")], 1).encode(), lambda said: said["leads"][0].update(public_key=ED448)
    )


def statement_log(world: LivedRegistry) -> bytes:
    return changed(world.policy_record().encode(), lambda said: said["logs"]["statements"].update(public_key=ED448))


def ml_dsa_cosigner(world: LivedRegistry) -> bytes:
    return changed(world.policy_record().encode(), lambda said: said.update(policy=ML_DSA_POLICY))


def future_cosigner(world: LivedRegistry) -> bytes:
    return changed(world.policy_record().encode(), lambda said: said.update(policy=FUTURE_POLICY))


BODIES = [key_add, leads, statement_log, ml_dsa_cosigner, future_cosigner]


@pytest.fixture(scope="module")
def world() -> LivedRegistry:
    return LivedRegistry()


@pytest.mark.attacks
@pytest.mark.parametrize("make", BODIES, ids=lambda make: make.__name__)
def test_a_quorum_can_say_what_only_a_newer_program_knows(
    world: LivedRegistry, make: Callable[[LivedRegistry], bytes]
) -> None:
    """Signed by the leads it may be genuine; by fewer, by others or not at all it is a bad record."""
    body = make(world)
    with pytest.raises(UnsupportedAlgorithm, match=f"record {world.registry.size}: "):
        world.registry.append(envelope(RECORD_TYPE, body, *world.quorum))
    for signers in ([], world.leads[:1], [world.stranger], [world.leads[0], world.stranger, world.a]):
        with pytest.raises(RecordError, match="signatures of 2 leads"):
            world.registry.append(envelope(RECORD_TYPE, body, *signers))


@pytest.mark.attacks
@pytest.mark.parametrize("make", BODIES, ids=lambda make: make.__name__)
def test_nobody_else_can_use_what_a_quorum_once_signed(
    world: LivedRegistry, make: Callable[[LivedRegistry], bytes]
) -> None:
    """Their signatures over another body, under another type, or in another place of the registry do not help."""
    body = make(world)
    genuine = envelope(RECORD_TYPE, body, *world.quorum)
    elsewhere: list[Envelope] = [
        Envelope(RECORD_TYPE, body, envelope(RECORD_TYPE, key_add(world), *world.quorum).signatures),
        Envelope(RECORD_TYPE, body, envelope("application/json", body, *world.quorum).signatures),
        Envelope(RECORD_TYPE, body, tuple(Signature(it.key_id, bytes(64)) for it in genuine.signatures)),
        Envelope(RECORD_TYPE, body, (genuine.signatures[0], Signature(world.leads[2].key_id, bytes(64)))),
        envelope("application/json", body, *world.quorum),
    ]
    places: dict[str, str] = {
        "seq": "99",
        "prev": "00" * 32,
        "registry_id": "00" * 32,
        "created_at": "2025-12-31T23:59:59.999999Z",
    }
    for name, value in places.items():
        moved = canonical_json.encode({**json.loads(body), name: value})
        elsewhere.append(envelope(RECORD_TYPE, moved, *world.quorum))
    for record in elsewhere:
        with pytest.raises(RecordError):
            world.registry.append(record)


def test_what_others_signed_is_for_the_newer_program(world: LivedRegistry) -> None:
    """A new lead signs with a key this program cannot use; whatever that says, the quorum's word counts."""
    signed = envelope(RECORD_TYPE, leads(world), *world.quorum)
    by_new = Signature(hashlib.sha256(ED448_SPKI).hexdigest(), bytes(114))
    with pytest.raises(UnsupportedAlgorithm):
        world.registry.append(Envelope(RECORD_TYPE, signed.body, (*signed.signatures, by_new)))


@pytest.mark.attacks
def test_a_genesis_with_such_a_key_is_genuine_by_its_pin() -> None:
    """Its hash is what the auditor pinned, so nobody else can have written it; another one is a bad record."""
    world = SoftwareRegistry()
    body = changed(world.registry.genesis.encode(), lambda said: said["logs"]["registry"].update(public_key=ED448))
    pinned = hashlib.sha256(envelope(RECORD_TYPE, body).pae()).hexdigest()
    for record in (envelope(RECORD_TYPE, body, *world.leads), envelope(RECORD_TYPE, body, SoftwareKey("stranger"))):
        with pytest.raises(UnsupportedAlgorithm, match="record 0: "):
            Registry.replay([record], registry_id=pinned)
        with pytest.raises(RecordError, match="expected registry"):
            Registry.replay([record], registry_id=world.registry_id)
        with pytest.raises(RecordError):
            world.registry.append(record)
