"""Judging with cosigners: quorums, freshness by each cosigner's own clock, and the interval of a statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from key_registry import note
from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint
from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.evidence import Evidence
from key_registry.interval import time_of
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.merkle import leaf_hash
from key_registry.policy import NONE
from key_registry.record import RECORD_TYPE
from key_registry.tlog_proof import TlogProof
from key_registry.verdict import AsOf, Bound, Code, Verdict
from tests.attacks.years import HonestCosigner
from tests.key_registry.agreement import bundle_of
from tests.key_registry.software_registry import (
    START,
    MemoryLog,
    SoftwareCosigner,
    SoftwareKey,
    SoftwareRegistry,
    envelope,
    policy_of,
    witness,
)

C1, C2, C3 = (SoftwareCosigner(f"c{number}") for number in (1, 2, 3))
EVERYBODY = (C1, C2, C3)
W1 = witness(1)

Times = Mapping[SoftwareCosigner, int]


class CosignedRegistry(SoftwareRegistry):
    """One witness with one key and five statements, under a policy of two of three cosigners."""

    def __init__(self, policy: str | None = None) -> None:
        super().__init__(policy=policy_of(*EVERYBODY, threshold=2) if policy is None else policy)
        self.key = self.new_witness()
        self.attested = [self.attest(self.key, number) for number in range(5)]

    def judge(
        self,
        signed: tuple[int, Envelope] | None = None,
        evidence: Times | None = None,
        bundle: Times | None = None,
        **more: Any,
    ) -> Verdict:
        """Judge a statement, whose checkpoint and whose bundle are cosigned at these times: by default now by all."""
        now = dict.fromkeys(EVERYBODY, self.now())
        proof = self.evidence(*(signed or self.attested[2]), cosigned_by=now if evidence is None else evidence)
        return self.judge_by(self.bundle(cosigned_by=now if bundle is None else bundle), proof, **more)

    def judge_by(self, bundle: Bundle, evidence: bytes, **more: Any) -> Verdict:
        trusted = open_bundle(bundle.to_json(), self.registry_id)
        if isinstance(trusted, Verdict):
            return trusted
        return judge(trusted, evidence, event_hash=None, environments=frozenset({"production"}), **more)


@pytest.fixture
def world() -> CosignedRegistry:
    return CosignedRegistry()


def at(*seconds: int | None) -> Times:
    """Return when each cosigner cosigned, in seconds after the start; None: not at all."""
    return {who: START + when for who, when in zip(EVERYBODY, seconds, strict=False) if when is not None}


def said(seconds: int, source: str = "cosigners") -> Bound:
    return Bound(time_of(START + seconds), source)


@pytest.mark.parametrize(
    ("evidence", "bundle", "code"),
    [
        (at(60, 60, 60), at(60, 60, 60), Code.VALID_KEY_ACTIVE),
        (at(60, 60), at(60, 60), Code.VALID_KEY_ACTIVE),
        (at(60), at(60, 60), Code.QUORUM_NOT_MET),
        (at(), at(60, 60), Code.QUORUM_NOT_MET),
        (at(60, 60), at(60), Code.QUORUM_NOT_MET),
        (at(60, 60), at(), Code.QUORUM_NOT_MET),
        # The bundle's cosigners must be those of the evidence, in a number that is enough.
        (at(60, 60), at(None, 60, 60), Code.BUNDLE_TOO_OLD),
        (at(60, 60, 60), at(None, 60, 60), Code.VALID_KEY_ACTIVE),
        # Each has its own clock; only against itself does it count.
        (at(60, 61), at(60, 60), Code.BUNDLE_TOO_OLD),
        (at(60, 61, 60), at(60, 60, 60), Code.VALID_KEY_ACTIVE),
        (at(60, 61, 61), at(60, 60, 60), Code.BUNDLE_TOO_OLD),
        (at(3000, 60), at(3000, 60), Code.VALID_KEY_ACTIVE),
        (at(3000, 60), at(2999, 3600), Code.BUNDLE_TOO_OLD),
        (at(60, 60), at(3600, 3600), Code.VALID_KEY_ACTIVE),
    ],
)
def test_who_has_cosigned_and_when(world: CosignedRegistry, evidence: Times, bundle: Times, code: Code) -> None:
    """Enough on the evidence, enough on the bundle, and enough who cosigned the bundle at that second or later."""
    verdict = world.judge(evidence=evidence, bundle=bundle)
    assert verdict.code is code, verdict.reason


@pytest.mark.attacks
def test_what_a_closed_key_signed_cannot_be_exchanged_afterwards() -> None:
    """The registry alone does not tell cosigners what was sealed; so a key closes only by a seal they have cosigned.

    The operator has shown them the statement log up to 4 of 8 leaves, and would like to exchange the others.
    """
    cosigners = [HonestCosigner(name) for name in ("one", "two", "three")]
    world = SoftwareRegistry(policy=policy_of(*cosigners, threshold=2))

    def shown(log: MemoryLog) -> bytes:
        world.tick()
        checkpoint = log.checkpoint()
        for cosigner in cosigners:
            checkpoint = cosigner.asked(log, checkpoint, world.now())
        return checkpoint

    def judged_by(evidence: bytes) -> Verdict:
        bundle = replace(world.bundle(), checkpoint=shown(world.registry_log))
        trusted = open_bundle(bundle.to_json(), world.registry_id)
        assert isinstance(trusted, TrustedRegistry)
        return judge(trusted, evidence, event_hash=None, environments=frozenset({"production"}))

    retired = world.new_witness()
    honest = [world.attest(retired, number) for number in range(4)]
    shown(world.statements)
    honest += [world.attest(retired, number) for number in range(4, 8)]
    successor = world.add_key(SoftwareKey("successor"), W1)
    with pytest.raises(RecordError, match="expected the seal to be cosigned by a quorum of the policy, got 'nobody'"):
        world.rotate(W1, opens=successor, closes=retired, cosigned_by=())
    body = world.rotation(W1, opens=successor, closes=retired, checkpoint=shown(world.statements))
    world.append(envelope(RECORD_TYPE, body.encode(), successor, retired))
    shown(world.registry_log)

    forged = world.sign(retired, 99)
    fork = MemoryLog(world.statements.origin, world.statements.key, world.now)
    fork.leaf_hashes = [*world.statements.leaf_hashes[:5], leaf_hash(forged.entry())]
    evidence = Evidence(forged, TlogProof(5, fork.proof(5), shown(fork), None)).to_bytes()
    assert judged_by(evidence).code is Code.QUORUM_NOT_MET
    fork.leaf_hashes += world.statements.leaf_hashes[6:8]
    at_the_seal = Evidence(forged, TlogProof(5, fork.proof(5), shown(fork), None)).to_bytes()
    assert judged_by(at_the_seal).code is Code.QUORUM_NOT_MET
    assert judged_by(world.evidence(*honest[5], cosigned_by=cosigners)).code is Code.VALID_KEY_ROTATED


@pytest.mark.attacks
def test_a_registry_shown_as_before_it_had_cosigners_says_so() -> None:
    """By the operator, with the coverage of today: it is VALID as of then, and complete by his word alone."""
    world = CosignedRegistry(NONE)
    before = world.registry.envelopes
    world.change_policy(policy_of(*EVERYBODY, threshold=2))
    successor = world.add_key(SoftwareKey("successor"), W1)
    world.rotate(W1, opens=successor, closes=world.key)
    backdated = world.attest(world.key, 99, registry_size=3, registry_root=world.registry.root_at(3).hex())
    shown = bundle_of(world, before)
    verdict = world.judge_by(shown, world.evidence(*backdated))
    assert (verdict.code, verdict.completeness) == (Code.VALID_KEY_ACTIVE, "operator")
    assert verdict.as_of is not None
    assert (verdict.as_of.registry_size, verdict.as_of.completeness) == (3, "operator")
    assert world.judge(backdated).code is Code.KEY_NOT_ACTIVE


@pytest.mark.parametrize(("threshold", "code"), [(1, Code.VALID_KEY_ACTIVE), (2, Code.BUNDLE_TOO_OLD)])
def test_a_policy_of_groups(threshold: int, code: Code) -> None:
    """Freshness is a matter of the same groups as the quorum, here two together, a third, or both."""
    lines = "".join(it.policy_line for it in EVERYBODY)
    world = CosignedRegistry(f"{lines}group ours all c1 c2\ngroup all {threshold} ours c3\nquorum all\n")
    assert world.judge(evidence=at(60, 60, 60), bundle=at(60, 60, 60)).code is Code.VALID_KEY_ACTIVE
    assert world.judge(evidence=at(60, 60, 60), bundle=at(60, 60, 59)).code is code
    assert world.judge(evidence=at(60, 60, 60), bundle=at(60, 59, 60)).code is code
    assert world.judge(evidence=at(60, 60, 60), bundle=at(60, 59, 59)).code is Code.BUNDLE_TOO_OLD


def test_the_verdict_says_whose_word_it_is(world: CosignedRegistry) -> None:
    """Under a policy that asks for cosigners their time is the bundle's; under `none` there is only the operator's."""
    verdict = world.judge(bundle=at(60, 70, 80))
    assert verdict.as_of is not None
    assert verdict.as_of == AsOf(3, 5, verdict.as_of.time, "cosigners", time_of(START + 70))
    assert verdict.completeness == "cosigners"
    alone = CosignedRegistry(NONE)
    verdict = alone.judge(evidence={}, bundle={})
    assert verdict.as_of is not None
    assert verdict.as_of == AsOf(3, 5, verdict.as_of.time, "operator", None)
    assert verdict.completeness == "operator"


def test_nothing_is_said_about_a_log_that_was_not_shown(world: CosignedRegistry) -> None:
    """Without proof, or without quorum, there is neither an interval nor somebody whose word it is."""
    _, signed = world.attested[2]
    for verdict in (
        world.judge_by(world.bundle(cosigned_by=EVERYBODY), signed.to_json()),
        world.judge(evidence=at(60)),
    ):
        assert (verdict.completeness, verdict.not_before, verdict.existed_by) == (None, None, None)


@pytest.mark.parametrize(
    ("times", "existed_by"), [(at(60, 80, 100), 80), (at(60, 80), 80), (at(100, 60, 80), 80), (at(0, 80), 80)]
)
def test_a_statement_existed_by_the_time_a_quorum_had_cosigned(
    world: CosignedRegistry, times: Times, existed_by: int
) -> None:
    """Of two of three it is the second: the first alone could be lying."""
    verdict = world.judge(evidence=times, bundle=at(3600, 3600, 3600))
    assert verdict.existed_by == said(existed_by)


@pytest.mark.parametrize(
    ("times", "not_before"),
    [(at(60, 80, 100), said(80)), (at(60, 80), said(60)), (at(60, 3599), said(60)), (at(60), None), (at(), None)],
)
def test_a_statement_is_not_from_before_what_it_commits_to(
    world: CosignedRegistry, times: Times, not_before: Bound | None
) -> None:
    """The records it names embed a cosigned checkpoint, so it is from after that; else the leads' word is all."""
    world.seconds = 3000
    key = world.add_key(SoftwareKey("next"), W1)
    world.rotate(W1, opens=key, cosigned_by=times)
    verdict = world.judge(world.attest(key, 5), bundle=dict.fromkeys(EVERYBODY, START + 3600))
    assert verdict.code is Code.VALID_KEY_ACTIVE
    leads = Bound(world.registry.last_time, "leads")
    assert verdict.not_before == (not_before or leads)
    before = world.judge(world.attested[2], bundle=dict.fromkeys(EVERYBODY, START + 3600))
    assert before.not_before == Bound(world.registry.records[2].created_at, "leads")


def test_a_record_with_a_bad_cosignature_is_none(world: CosignedRegistry) -> None:
    """A cosigner that the policy names is never believed half."""
    checkpoint = note.parse(world.statements.checkpoint(cosigned_by=[C1]))
    other = note.parse(world.statements.checkpoint(3, cosigned_by=[C1]))
    forged = note.serialize(checkpoint.text, [checkpoint.signatures[0], other.signatures[1]])
    body = world.rotation(W1, closes=world.key, checkpoint=forged)
    with pytest.raises(RecordError, match="expected a cosignature of this checkpoint"):
        world.append(envelope(RECORD_TYPE, body.encode(), world.key))


FIVE_MINUTES = 300


@pytest.mark.parametrize(
    ("signed_at", "code"),
    [
        (1000 - FIVE_MINUTES - 1, Code.TIME_INCONSISTENT),
        (1000 - FIVE_MINUTES, Code.VALID_KEY_ACTIVE),
        (2000 + FIVE_MINUTES, Code.VALID_KEY_ACTIVE),
        (2000 + FIVE_MINUTES + 1, Code.TIME_INCONSISTENT),
    ],
)
def test_the_signers_clock_may_be_five_minutes_off(world: CosignedRegistry, signed_at: int, code: Code) -> None:
    """Not earlier than what a quorum had cosigned before, not later than what a quorum had cosigned after."""
    key = world.add_key(SoftwareKey("next"), W1)
    world.rotate(W1, opens=key, closes=world.key, cosigned_by=at(1000, 1000))
    signed = world.attest(key, 5, signed_at=time_of(START + signed_at))
    world.seconds = 3500
    verdict = world.judge(signed, evidence=at(2000, 2000), bundle=at(3500, 3500))
    assert verdict.code is code, verdict.reason
    assert (verdict.not_before, verdict.existed_by) == (said(1000), said(2000))


def test_the_leads_clock_decides_nothing(world: CosignedRegistry) -> None:
    """A claim against a claim: a statement from before the last record, by the signer's clock, is VALID."""
    world.seconds = 3000
    world.add_key(SoftwareKey("next"), W1)
    signed = world.attest(world.key, 5, signed_at=world.time(100))
    verdict = world.judge(signed)
    assert (verdict.code, verdict.not_before) == (
        Code.VALID_KEY_ACTIVE,
        Bound(world.registry.last_time, "leads"),
    )


@pytest.mark.parametrize(
    ("cosigned", "stamped", "existed_by"),
    [
        (at(60, 60), 50, said(50, "timestamp authority")),
        (at(60, 60), 70, said(60)),
        (at(60, 60), None, said(60)),
    ],
)
def test_a_timestamp_authority_may_know_it_earlier(
    world: CosignedRegistry, cosigned: Times, stamped: int | None, existed_by: Bound
) -> None:
    """The earlier of the two is told, with its source."""
    time = None if stamped is None else time_of(START + stamped)
    verdict = world.judge(evidence=cosigned, bundle=at(60, 60), stamped_at=lambda checkpoint: time)
    assert verdict.existed_by == existed_by


def test_a_timestamp_authority_is_asked_about_genuine_checkpoints_only() -> None:
    """It is asked about the log's own checkpoint, also under `none`, and its time bounds the signer's clock."""
    world = CosignedRegistry(NONE)
    asked: list[Checkpoint] = []

    def stamped_at(checkpoint: Checkpoint) -> str:
        asked.append(checkpoint)
        return time_of(START)

    verdict = world.judge(evidence={}, bundle={}, stamped_at=stamped_at)
    assert (verdict.code, verdict.existed_by) == (Code.VALID_KEY_ACTIVE, said(0, "timestamp authority"))
    assert asked == [Checkpoint(world.statements.origin, 5, world.statements.root())]
    late = world.attest(world.key, 5, signed_at=time_of(START + 301))
    world.seconds = 600
    assert world.judge(late, {}, {}, stamped_at=stamped_at).code is Code.TIME_INCONSISTENT
    asked.clear()
    index, signed = world.attested[2]
    forged = world.evidence(index, signed).replace(b"\n6\n", b"\n5\n")
    assert world.judge_by(world.bundle(), forged, stamped_at=stamped_at).code is Code.LOG_PROOF_INVALID
    assert asked == []


def test_cosigners_times_at_the_ends_of_the_calendar(world: CosignedRegistry) -> None:
    """The first and the last second that can be written give a verdict like any other."""
    last = 253_402_300_799
    verdict = world.judge(evidence={C1: 0, C2: 0}, bundle={C1: last, C2: last})
    assert verdict.existed_by == Bound("1970-01-01T00:00:00.000000Z", "cosigners")
    assert verdict.code is Code.TIME_INCONSISTENT
    verdict = world.judge(evidence={C1: last, C2: last}, bundle={C1: last, C2: last})
    assert verdict.existed_by == Bound("9999-12-31T23:59:59.000000Z", "cosigners")
    assert verdict.code is Code.VALID_KEY_ACTIVE


def test_a_policy_record_takes_over_at_its_size(world: CosignedRegistry) -> None:
    """Up to its size the old policy holds and the leads vouch for completeness, above it the new cosigners do both."""
    d1, d2 = SoftwareCosigner("d1"), SoftwareCosigner("d2")
    old = world.evidence(*world.attested[2], cosigned_by=at(60, 60))
    world.change_policy(policy_of(d1, d2))
    world.attest(world.key, 5)
    bundle = world.bundle(cosigned_by={d1: START + 10, d2: START + 10})
    assert world.judge_by(bundle, old).code is Code.VALID_KEY_ACTIVE
    for cosigners, code in [
        ({d1: START + 10, d2: START + 10}, Code.VALID_KEY_ACTIVE),
        ({d1: START + 10, d2: START + 11}, Code.BUNDLE_TOO_OLD),
        ({d1: START + 10}, Code.QUORUM_NOT_MET),
        ({C1: START + 10, C2: START + 10, C3: START + 10}, Code.QUORUM_NOT_MET),
    ]:
        assert world.judge_by(bundle, world.evidence(*world.attested[2], cosigned_by=cosigners)).code is code
    assert world.judge_by(world.bundle(cosigned_by=EVERYBODY), old).code is Code.QUORUM_NOT_MET


def test_at_the_size_of_a_policy_record_either_policy_will_do(world: CosignedRegistry) -> None:
    """Until the log grows there is nothing newer to cosign, and the cosigners of before may be gone."""
    d1, d2 = SoftwareCosigner("d1"), SoftwareCosigner("d2")
    world.change_policy(policy_of(d1, d2))
    bundle = world.bundle(cosigned_by={d1: START + 10, d2: START + 10})
    for cosigners, code in [
        ({d1: START + 60, d2: START + 60}, Code.VALID_KEY_ACTIVE),
        ({C1: START + 60, C3: START + 60}, Code.VALID_KEY_ACTIVE),
        ({C1: START + 60, C3: START + 60, d1: START + 60}, Code.VALID_KEY_ACTIVE),
        ({C1: START + 60, d1: START + 60}, Code.QUORUM_NOT_MET),
        ({}, Code.QUORUM_NOT_MET),
    ]:
        verdict = world.judge_by(bundle, world.evidence(*world.attested[2], cosigned_by=cosigners))
        assert verdict.code is code
        assert verdict.existed_by == (said(60) if code is Code.VALID_KEY_ACTIVE else None)
    world.change_policy(NONE)
    verdict = world.judge_by(world.bundle(), world.evidence(*world.attested[2]))
    assert (verdict.code, verdict.completeness) == (Code.VALID_KEY_ACTIVE, "operator")


def test_a_cosigned_checkpoint_is_verified_once(world: CosignedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its three cosignatures cost once, whatever the number of statements under it."""
    checkpoint = world.statements.checkpoint(cosigned_by=EVERYBODY)
    trusted = open_bundle(world.bundle(cosigned_by=EVERYBODY).to_json(), world.registry_id)
    assert isinstance(trusted, TrustedRegistry)
    calls: list[str] = []
    times = type(trusted.registry.policy).times

    def counting(policy: Any, opened: note.Note) -> dict[str, int]:
        calls.append(opened.text)
        return times(policy, opened)

    monkeypatch.setattr(type(trusted.registry.policy), "times", counting)
    for index, signed in world.attested:
        evidence = world.evidence(index, signed).replace(world.statements.checkpoint(), checkpoint)
        verdict = judge(trusted, evidence, event_hash=None, environments=frozenset({"production"}))
        assert verdict.code is Code.VALID_KEY_ACTIVE
    assert calls == [note.parse(checkpoint).text]
