"""Who may sign which record: every subset of the keys there are, against the rule in one line."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from key_registry.dsse import Envelope, Signature
from key_registry.errors import RecordError
from key_registry.record import Record
from tests.key_registry.lived_registry import W1, LivedRegistry
from tests.key_registry.software_registry import P256_ORDER, SoftwareKey

LEADS = {"lead0", "lead1", "lead2"}
POOL = (*sorted(LEADS), "fresh1", "fresh2", "new", "a", "b", "old", "other", "stranger", "registry log")


class AllKeys(LivedRegistry):
    """As LivedRegistry, with two keys that are to become leads."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh1, self.fresh2 = SoftwareKey("fresh 1"), SoftwareKey("fresh 2")


class Compromised(AllKeys):
    """As AllKeys, after `a`, which is open, was compromised."""

    def __init__(self) -> None:
        super().__init__()
        self.compromise(self.a, 5)


@pytest.fixture(scope="module")
def worlds() -> dict[type[AllKeys], AllKeys]:
    return {AllKeys: AllKeys(), Compromised: Compromised()}


def quorum(signers: set[str]) -> bool:
    return len(signers & LEADS) >= 2


@dataclass(frozen=True)
class Rule:
    """A record, who may sign it at all, and which of those sets suffice."""

    name: str
    make: Callable[[AllKeys], Record]
    may: set[str]
    suffices: Callable[[set[str]], bool]
    world: type[AllKeys] = AllKeys


RULES = [
    Rule(
        "key-add",
        lambda w: w.key_add(w.stranger, W1),
        LEADS | {"stranger"},
        lambda signers: quorum(signers) and "stranger" in signers,
    ),
    Rule(
        "open and close",
        lambda w: w.rotation(W1, opens=w.new, closes=w.a),
        LEADS | {"new", "a"},
        lambda signers: "new" in signers and ("a" in signers or quorum(signers)),
    ),
    Rule(
        "open",
        lambda w: w.rotation(W1, opens=w.new),
        LEADS | {"new", "a", "b"},
        lambda signers: "new" in signers and ("a" in signers or "b" in signers or quorum(signers)),
    ),
    Rule(
        "close",
        lambda w: w.rotation(W1, closes=w.a),
        LEADS | {"a"},
        lambda signers: "a" in signers or quorum(signers),
    ),
    Rule(
        "open and close a compromised key",
        lambda w: w.rotation(W1, opens=w.new, closes=w.a),
        LEADS | {"new"},
        lambda signers: "new" in signers and quorum(signers),
        Compromised,
    ),
    Rule(
        "open beside a compromised key",
        lambda w: w.rotation(W1, opens=w.new),
        LEADS | {"new", "b"},
        lambda signers: "new" in signers and ("b" in signers or quorum(signers)),
        Compromised,
    ),
    Rule("close a compromised key", lambda w: w.rotation(W1, closes=w.a), LEADS, quorum, Compromised),
    Rule("compromise", lambda w: w.compromise_record(w.a, 3), LEADS, quorum),
    Rule("compromise again", lambda w: w.compromise_record(w.a, 3), LEADS, quorum, Compromised),
    Rule("destroyed", lambda w: w.destroyed_record(w.old), LEADS, quorum),
    Rule("policy", lambda w: w.policy_record(), LEADS, quorum),
    Rule("policy with another key", lambda w: w.policy_record(statement_key=w.stranger), LEADS, quorum),
    Rule(
        "leads, all new",
        lambda w: w.leads_record([w.fresh1, w.fresh2], 1),
        LEADS | {"fresh1", "fresh2"},
        lambda signers: quorum(signers) and {"fresh1", "fresh2"} <= signers,
    ),
    Rule(
        "leads, one exchanged",
        lambda w: w.leads_record([w.leads[0], w.leads[1], w.fresh1], 2),
        LEADS | {"fresh1"},
        lambda signers: {"lead0", "lead1", "fresh1"} <= signers,
    ),
    Rule(
        "leads, one alone stays",
        lambda w: w.leads_record([w.leads[2]], 1),
        LEADS,
        lambda signers: quorum(signers) and "lead2" in signers,
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_exactly_the_entitled_can_sign(worlds: dict[type[AllKeys], AllKeys], rule: Rule) -> None:
    """Of all sets of up to four signers, those follow that suffice and hold nobody else; a lead counts once."""
    world = worlds[rule.world]
    whole = world.record(rule.make(world), *(world.named(name) for name in POOL))
    by_name = {name: world.named(name).key_id for name in POOL}
    follows = 0
    for size in range(5):
        for names in combinations(POOL, size):
            key_ids = {by_name[name] for name in names}
            signatures = tuple(it for it in whole.signatures if it.key_id in key_ids)
            signed = Envelope(whole.payload_type, whole.body, signatures)
            if set(names) <= rule.may and rule.suffices(set(names)):
                assert world.registry.append(signed).size == world.registry.size + 1
                follows += 1
            else:
                with pytest.raises(RecordError):
                    world.registry.append(signed)
    assert follows > 0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_one_bad_signature_spoils_a_record(worlds: dict[type[AllKeys], AllKeys], rule: Rule) -> None:
    """Every signature is verified, also one that is not needed: flipped, cut, of another message or another key."""
    world = worlds[rule.world]
    record = rule.make(world)
    whole = world.record(record, *(world.named(name) for name in sorted(rule.may)))
    assert world.registry.append(whole).size == world.registry.size + 1
    for number, signature in enumerate(whole.signatures):
        other = whole.signatures[number - 1].signature
        good = signature.signature
        for bad in (bytes([good[0] ^ 1]) + good[1:], good[:-1], good + b"\x00", bytes(64), good[:1], other):
            if bad == good:
                continue
            spoilt = list(whole.signatures)
            spoilt[number] = Signature(signature.key_id, bad)
            with pytest.raises(RecordError):
                world.registry.append(Envelope(whole.payload_type, whole.body, tuple(spoilt)))


def test_retired_leads_decide_nothing() -> None:
    """Leads who left count neither for their old quorum nor beside the new one, and may come back by the new one."""
    world = AllKeys()
    old = list(world.leads)
    world.change_leads([world.fresh1, world.fresh2], 2)
    for signers in (old, [*world.leads, old[0]], [world.fresh1, old[0]]):
        with pytest.raises(RecordError, match="by another key"):
            world.registry.append(world.record(world.compromise_record(world.a, 3), *signers))
    with pytest.raises(RecordError, match="signatures of 2 leads, got 1"):
        world.registry.append(world.record(world.compromise_record(world.a, 3), world.fresh1))
    assert [lead.name for lead in world.registry.leads] == [key.name for key in world.leads]
    assert world.registry.threshold == 2
    world.change_leads([*old, world.fresh1], 3)
    world.compromise(world.a, 3)
    assert world.registry.keys[world.a.key_id].trusted_size == 3
    assert [
        len(world.registry.at_size(size).leads) for size in range(world.registry.size - 3, world.registry.size + 1)
    ] == [3, 2, 4, 4]


@pytest.mark.attacks
def test_a_lead_may_have_a_p256_key() -> None:
    """For tokens without Ed25519: raw r and s of 64 bytes, and nothing that merely means the same."""
    world = AllKeys()
    lead = SoftwareKey("a lead's token", "ecdsa-p256")
    world.change_leads([lead], 1)
    whole = world.record(world.compromise_record(world.a, 3), lead)
    good = whole.signatures[0].signature
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")
    high = good[:32] + (P256_ORDER - s).to_bytes(32, "big")
    for signature in (good, high):
        signed = replace(whole, signatures=(Signature(lead.key_id, signature),))
        assert world.registry.append(signed).size == world.registry.size + 1
    der = encode_dss_signature(r, s)
    beyond = good[:32] + P256_ORDER.to_bytes(32, "big")
    for bad in (
        der,
        good[1:],
        good + b"\x00",
        good[:32],
        bytes(64),
        good[:32] + bytes(32),
        beyond,
        good[32:] + good[:32],
    ):
        with pytest.raises(RecordError):
            world.registry.append(replace(whole, signatures=(Signature(lead.key_id, bad),)))
