"""Attacks by those whom a `policy` record replaced: holders of old log keys, old cosigners; and the time before any."""

from __future__ import annotations

from dataclasses import replace

from key_registry import note
from key_registry.bundle import Bundle
from key_registry.policy import NONE
from key_registry.verdict import Code
from tests.attacks.attack import Attack, Presented, row
from tests.attacks.stolen_keys import without_cosigners
from tests.attacks.years import HonestCosigner, Publication, Years
from tests.key_registry.software_registry import SoftwareKey, policy_of


def new_keys(world: Years) -> tuple[SoftwareKey, SoftwareKey]:
    """Replace both log keys; return the old ones, which the attacker has. Five statements follow."""
    old = world.statements.key, world.registry_log.key
    world.change_policy(statement_key=SoftwareKey("new statement log"), registry_key=SoftwareKey("new registry log"))
    world._attest(world.b, 5)
    world.now_published = world.publish()
    return old


def new_cosigners(world: Years) -> list[HonestCosigner]:
    """Replace the cosigners, who are shown the record; return the old ones, who are corrupt from then on."""
    old = world.cosigners
    new = [HonestCosigner(f"d{number}") for number in (1, 2, 3)]
    world.change_policy(policy_of(*new, threshold=2))
    for cosigner in old:
        cosigner.asked(world.registry_log, world.registry_log.checkpoint(), world.now())
    world.cosigners = new
    world._attest(world.b, 5)
    world.now_published = world.publish()
    return old


def cosigned_by(old: list[HonestCosigner], checkpoint: bytes, time: int) -> bytes:
    for cosigner in old:
        checkpoint = cosigner.cosign(checkpoint, time)
    return checkpoint


def fork_by_old_key(world: Years, index: int, size: int) -> bytes:
    statement_key, _ = new_keys(world)
    return world.forked(world.backdated(world.a), index, size, key=statement_key)


def unpublished_checkpoint(world: Years) -> Presented:
    """Genuine evidence of a size that no record has, by a key that has been replaced since."""
    published = world.now_published
    new_keys(world)
    return Presented(world.genuine(12, published))


def old_key_today(world: Years) -> bytes:
    """The present size under the old key."""
    statement_key, _ = new_keys(world)
    return world.proof(*world.attested[12], checkpoint=world.checkpoint(world.statements, key=statement_key))


def new_key_of_old_size(world: Years) -> bytes:
    """A size before the change under the new key."""
    new_keys(world)
    index, signed = world.attested[12]
    hashes, checkpoint = world.statements.proof(index, 20), world.checkpoint(world.statements, 20)
    return world.proof(index, signed, hashes=hashes, checkpoint=checkpoint)


def newer_than_bundle(world: Years) -> tuple[bytes, Bundle]:
    """Genuine evidence of today by a bundle that does not know the keys of today."""
    bundle = world.now_published.bundle
    new_keys(world)
    return world.genuine(3), bundle


def old_registry_key(world: Years) -> Bundle:
    """The present records under a checkpoint by the old registry log key."""
    _, registry_key = new_keys(world)
    return replace(world.now_published.bundle, checkpoint=world.checkpoint(world.registry_log, key=registry_key))


def old_coverage(world: Years) -> Bundle:
    """The coverage of before under the present records."""
    coverage = world.now_published.bundle.coverage
    new_keys(world)
    return replace(world.now_published.bundle, coverage=coverage)


def fork_by_old_cosigners(world: Years) -> bytes:
    """A history of today's size, by the log's own key and all of the old cosigners."""
    old = new_cosigners(world)
    fork = world.forked(world.backdated(world.a), 5, world.now_published.size)
    head, _, checkpoint = fork.partition(b"\n\n")
    return head + b"\n\n" + cosigned_by(old, checkpoint, world.now())


def bundle_by_old_cosigners(world: Years) -> Bundle:
    """The present registry, cosigned by the old cosigners only."""
    old = new_cosigners(world)
    bundle = world.now_published.bundle
    return replace(bundle, checkpoint=cosigned_by(old, without_cosigners(bundle.checkpoint), world.now()))


def bundle_before_change(world: Years) -> tuple[bytes, Bundle]:
    """A retired key's statement in today's log, by the bundle from before the change, honest old cosigners."""
    before = world.now_published
    new_cosigners(world)
    evidence, _ = world.take(world.backdated(world.a))
    return evidence, before.bundle


def cosigners_at_last(world: Years) -> Publication:
    """Ask for cosigners from now on; return what was published before."""
    before = world.now_published
    world.cosigners = [HonestCosigner(f"c{number}") for number in (1, 2, 3)]
    world.change_policy(policy_of(*world.cosigners, threshold=2))
    world._attest(world.b, 5)
    world.now_published = world.publish()
    return before


def uncosigned(world: Years) -> bytes:
    """Evidence of today without cosignatures, as if they were not asked for yet."""
    cosigners_at_last(world)
    return world.proof(*world.attested[12], checkpoint=without_cosigners(world.now_published.checkpoint))


def uncosigned_fork(world: Years) -> bytes:
    """A fork of today, uncosigned."""
    cosigners_at_last(world)
    return world.forked(world.backdated(world.a), 5, world.now_published.size - 1)


def fork_at_the_change(world: Years) -> bytes:
    """A fork of the size at which cosigners came in, where none is asked yet."""
    size = world.statements.size
    cosigners_at_last(world)
    return world.forked(world.backdated(world.a), 5, size)


def no_longer_asked(world: Years) -> bytes:
    """Evidence from the time of cosigners without them, after the leads have given them up."""
    checkpoint = without_cosigners(world.rotated.checkpoint)
    evidence = world.proof(*world.attested[12], world.rotated, checkpoint=checkpoint)
    world.change_policy(NONE)
    world.cosigners = []
    world.now_published = world.publish()
    return evidence


def old_cosigner_signs_badly(world: Years) -> bytes:
    """A line of an old cosigner that is bad, on a checkpoint of today: nobody has named it, so it is ignored."""
    old = new_cosigners(world)
    opened = note.parse(world.now_published.checkpoint)
    bad = replace(old[0].line(opened.text, world.now()), signature=bytes(72))
    return world.proof(*world.attested[12], checkpoint=note.serialize(opened.text, [*opened.signatures, bad]))


ROWS = [
    Attack(
        "old statement log key and a retired key: fork of an old size",
        lambda w: fork_by_old_key(w, 5, 12),
        Code.NOT_LOGGED,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "old statement log key and a retired key: fork at a seal",
        lambda w: fork_by_old_key(w, 5, 10),
        Code.LOG_FORK,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "old statement log key and a retired key: fork at the change",
        lambda w: fork_by_old_key(w, 5, 25),
        Code.LOG_FORK,
        Code.QUORUM_NOT_MET,
    ),
    row(
        "old statement log key and a retired key: fork beyond the change",
        lambda w: fork_by_old_key(w, 5, 26),
        Code.LOG_PROOF_INVALID,
    ),
    row(
        "old statement log key and a retired key: fork beyond the bundle",
        lambda w: fork_by_old_key(w, 5, 40),
        Code.LOG_PROOF_INVALID,
    ),
    row("old statement log key signs today's log", old_key_today, Code.LOG_PROOF_INVALID),
    row("evidence by the new log keys, bundle from before", newer_than_bundle, Code.BUNDLE_TOO_OLD),
    row("new statement log key signs an old size", new_key_of_old_size, Code.LOG_PROOF_INVALID),
    row("old registry log key signs today's registry", old_registry_key, Code.REGISTRY_INVALID),
    row("coverage from before the log keys changed", old_coverage, Code.REGISTRY_INVALID),
    row("genuine evidence from the very size of the change", unpublished_checkpoint, Code.VALID_KEY_ACTIVE),
    Attack("all of the old cosigners: fork of today", fork_by_old_cosigners, None, Code.QUORUM_NOT_MET),
    Attack("all of the old cosigners: today's bundle", bundle_by_old_cosigners, None, Code.QUORUM_NOT_MET),
    Attack("retired key, bundle from before the cosigners changed", bundle_before_change, None, Code.BUNDLE_TOO_OLD),
    Attack(
        "an old cosigner's bad line, which counts for nothing", old_cosigner_signs_badly, None, Code.VALID_KEY_ACTIVE
    ),
    Attack("uncosigned evidence after cosigners came in", uncosigned, Code.QUORUM_NOT_MET, None),
    Attack("uncosigned fork after cosigners came in", uncosigned_fork, Code.QUORUM_NOT_MET, None),
    Attack("uncosigned fork at the size where cosigners came in", fork_at_the_change, Code.LOG_FORK, None),
    Attack(
        "uncosigned evidence from the time of cosigners, given up since", no_longer_asked, None, Code.QUORUM_NOT_MET
    ),
]
