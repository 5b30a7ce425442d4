"""Checking an attestation where it arrives."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from key_registry.statement import STATEMENT_TYPE, Statement
from tests.key_registry.software_registry import SoftwareKey, SoftwareRegistry, witness
from witness_service.attested_check import NotAttested, PinnedRegistry, UnknownKey, check_attested
from witness_service.event import Attested, Event


class Scene:
    """A registry with two witnesses, and an honest attestation of the event at sequence 7."""

    def __init__(self) -> None:
        self.registry = SoftwareRegistry()
        self.key = self.registry.new_witness(1)
        self.other = self.registry.new_witness(2)
        self.event, self.attested = self.attest(self.key, 7)

    def attest(self, key: SoftwareKey, sequence: int, **fields: object) -> tuple[Event, Attested]:
        """Return an event and its attestation, with any field of the statement exchanged."""
        index, signed = self.registry.attest(key, sequence, **fields)
        said = Statement.decode(signed.body)
        event = Event(said.stream, sequence, said.event_hash, said.previous_event_hash, said.event_id, said.event_type)
        signature = signed.signatures[0].signature
        attested = Attested(said.stream, sequence, signed.body, STATEMENT_TYPE, key.key_id, signature, index)
        return event, attested

    def check(self, attested: Attested, event: Event | None) -> Statement:
        return check_attested(attested, event, self.registry.registry.keys)


@pytest.fixture
def scene() -> Scene:
    """A registry and an honest attestation."""
    return Scene()


def test_an_honest_attestation_passes(scene: Scene) -> None:
    """What was asked for and signed by a key of the registry is returned as a statement."""
    assert scene.check(scene.attested, scene.event).event_hash == scene.event.event_hash
    assert scene.check(scene.attested, None).sequence == 7


Lie = Callable[[Scene], tuple[Attested, Event | None]]

LIES: dict[str, tuple[Lie, str]] = {
    "statement of another event": (lambda it: (it.attest(it.key, 8)[1], it.event), "sequence"),
    "place of another event": (
        lambda it: (replace(it.attest(it.key, 8)[1], sequence=7), it.event),
        "sequence",
    ),
    "another hash": (
        lambda it: (it.attest(it.key, 7, event_hash="sha256:" + "0" * 64)[1], it.event),
        "event_hash",
    ),
    "another previous hash": (
        lambda it: (it.attest(it.key, 7, previous_event_hash=None)[1], it.event),
        "previous_event_hash",
    ),
    "another id": (lambda it: (it.attest(it.key, 7, event_id="other")[1], it.event), "event_id"),
    "another type": (lambda it: (it.attest(it.key, 7, event_type="other")[1], it.event), "event_type"),
    "another stream": (lambda it: (it.attest(it.key, 7, stream="other")[1], it.event), "stream"),
    "a label unlike the statement": (lambda it: (replace(it.attested, stream="other"), None), "stream"),
    "another key's name": (lambda it: (replace(it.attested, key_id=it.other.key_id), it.event), "key_id"),
    "another witness's name": (
        lambda it: (it.attest(it.key, 7, witness_id=witness(2))[1], it.event),
        "WITNESS",
    ),
    "a broken signature": (lambda it: (replace(it.attested, signature=bytes(64)), it.event), "signature"),
    "a short signature": (lambda it: (replace(it.attested, signature=b""), it.event), "signature"),
    "another payload type": (lambda it: (replace(it.attested, payload_type="x"), it.event), "payload type"),
    "no statement": (lambda it: (replace(it.attested, statement=b"{}"), it.event), "statement"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_service_that_lies_is_caught(scene: Scene, name: str) -> None:
    """Whatever an answer says other than what was asked for and signed, the check names it."""
    make, said = LIES[name]
    attested, event = make(scene)
    with pytest.raises(NotAttested, match=said):
        scene.check(attested, event)


def test_a_key_counts_only_where_it_is_valid(scene: Scene) -> None:
    """A retired key is good for its own positions, and for none after its end."""
    new = scene.registry.add_key(SoftwareKey("new"), witness(1))
    scene.registry.rotate(witness(1), opens=new, closes=scene.key)
    late_event, late = scene.attest(scene.key, 8)
    scene.check(scene.attested, scene.event)
    with pytest.raises(NotAttested, match="valid at position"):
        scene.check(late, late_event)


def test_a_key_outside_its_streams_is_refused() -> None:
    """A key signs for its own streams only."""
    scene = Scene()
    narrow = scene.registry.new_witness(3, streams=("invoices",))
    event, attested = scene.attest(narrow, 8)
    with pytest.raises(NotAttested, match="for this stream"):
        scene.check(attested, event)


class Bundles:
    """Gives out the registry's bundle of the moment, and counts."""

    def __init__(self, registry: SoftwareRegistry) -> None:
        self.registry = registry
        self.fetched = 0

    def fetch(self) -> bytes:
        self.fetched += 1
        return self.registry.bundle().to_json()


def test_a_new_key_is_looked_up_in_a_newer_bundle(scene: Scene) -> None:
    """A rotation between two answers costs one more bundle, and nothing when no key is new."""
    bundles = Bundles(scene.registry)
    pinned = PinnedRegistry(scene.registry.registry_id, bundles.fetch)
    pinned.check(scene.attested, scene.event)
    pinned.check(scene.attested, scene.event)
    assert bundles.fetched == 1
    new = scene.registry.add_key(SoftwareKey("new"), witness(1))
    scene.registry.rotate(witness(1), opens=new, closes=scene.key)
    event, attested = scene.attest(new, 8)
    pinned.check(attested, event)
    assert bundles.fetched == 2


def test_a_key_in_no_bundle_is_refused(scene: Scene) -> None:
    """A key the registry never had is not looked for without end."""
    bundles = Bundles(scene.registry)
    stranger = SoftwareKey("stranger")
    event, attested = scene.attest(stranger, 8)
    with pytest.raises(UnknownKey):
        PinnedRegistry(scene.registry.registry_id, bundles.fetch).check(attested, event)
    assert bundles.fetched == 2


@pytest.mark.parametrize("bundle", [b"", b"{}", SoftwareRegistry(name="other").bundle().to_json()])
def test_a_bundle_of_another_registry_is_refused(scene: Scene, bundle: bytes) -> None:
    """Only records that lead from the pinned id are believed."""
    pinned = PinnedRegistry(scene.registry.registry_id, lambda: bundle)
    with pytest.raises(NotAttested, match="bundle: expected one of registry"):
        pinned.current()
