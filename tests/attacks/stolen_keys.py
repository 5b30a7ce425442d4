"""Attacks with keys: retired, compromised, never opened, of the wrong role; alone, with log keys, with a cosigner."""

from __future__ import annotations

from dataclasses import replace

from key_registry import note
from key_registry.bundle import Bundle
from key_registry.dsse import Signature
from key_registry.statement import STATEMENT_TYPE
from key_registry.verdict import Code
from tests.attacks.attack import Attack, Presented, event_hash, row
from tests.attacks.years import W1, W2, Years
from tests.key_registry.software_registry import SoftwareKey, envelope


def logged(world: Years, key: SoftwareKey, **fields: object) -> bytes:
    """Return evidence of a forged statement that the log took."""
    return world.take(world.forged(key, **fields))[0]


def late(world: Years, *, corrupt: tuple[int, ...] = ()) -> tuple[bytes, Bundle]:
    """A retired key signs as of its time, the log takes it, and the registry is cut back to that time."""
    evidence, _ = world.take(world.backdated(world.a))
    return evidence, world.shortened(world.first, corrupt=corrupt)


def resigned_registry(world: Years, *, corrupt: tuple[int, ...] = ()) -> tuple[bytes, Bundle]:
    """The same, with a registry checkpoint made now instead of the one published then."""
    evidence, _ = world.take(world.backdated(world.a))
    bundle = world.bundle_with(world.registry.envelopes[:3])
    return evidence, replace(bundle, checkpoint=world._signed_by(corrupt, bundle.checkpoint, world.now()))


def twice_cosigned(world: Years) -> bytes:
    """A checkpoint with two lines by one cosigner, each good."""
    opened = note.parse(world.now_published.checkpoint)
    more = world.cosigners[0].line(opened.text, world.now() + 1)
    return note.serialize(opened.text, [*opened.signatures, more])


def badly_cosigned(checkpoint: bytes) -> bytes:
    """The checkpoint with the last signature's last bit flipped."""
    opened = note.parse(checkpoint)
    *others, last = opened.signatures
    flipped = last.signature[:-1] + bytes([last.signature[-1] ^ 1])
    return note.serialize(opened.text, [*others, replace(last, signature=flipped)])


def borrowed_cosignatures(world: Years) -> bytes:
    """The present checkpoint under the cosignatures of an earlier one."""
    own = note.parse(world.now_published.checkpoint)
    old = note.parse(world.rotated.checkpoint)
    return note.serialize(own.text, [own.signatures[0], *old.signatures[1:]])


def without_cosigners(checkpoint: bytes, *, keeping: int = 0) -> bytes:
    opened = note.parse(checkpoint)
    return note.serialize(opened.text, opened.signatures[: 1 + keeping])


def strangers(world: Years) -> bytes:
    """The checkpoint with lines by cosigners that nobody named."""
    opened = note.parse(world.now_published.checkpoint)
    stranger = note.NoteSignature("stranger.example/cosigner", b"abcd", bytes(72))
    return note.serialize(opened.text, [stranger, *opened.signatures, stranger])


def equivocation(world: Years) -> Presented:
    """A witness key signs two events for one place, and the log takes both."""
    first, _ = world.take(world.sign(world.b, 50))
    second, bundle = world.take(world.sign(world.b, 50, event_hash=event_hash("orders", 51)))
    return Presented(first, bundle, second)


def two_histories(world: Years) -> Presented:
    """The log signs a second history of a size that it has published."""
    published = world.publish()
    genuine = world.genuine(12, published)
    return Presented(genuine, world.publish().bundle, world.forked(world.forged(world.b), 12, published.size))


def impersonated(world: Years) -> bytes:
    """A thief's signature under the key id of the valid key."""
    signed = envelope(STATEMENT_TYPE, world.statement(world.b, 99).encode(), SoftwareKey("thief"))
    return world.take(replace(signed, signatures=(Signature(world.b.key_id, signed.signatures[0].signature),)))[0]


ROWS = [
    # The holder of a retired key alone.
    row("retired key signs today, logged", lambda w: logged(w, w.a), Code.KEY_NOT_ACTIVE),
    row("retired key backdates, logged late", lambda w: w.take(w.backdated(w.a)), Code.KEY_NOT_ACTIVE),
    row("retired key backdates, never logged", lambda w: w.backdated(w.a).to_json(), Code.NOT_LOGGED),
    row("retired key backdates, borrowed proof", lambda w: w.proof(3, w.backdated(w.a)), Code.LOG_PROOF_INVALID),
    row(
        "retired key backdates, borrowed proof with its own index",
        lambda w: w.proof(3, w.backdated(w.a), index=9),
        Code.LOG_PROOF_INVALID,
    ),
    row(
        "retired key backdates, logged late, bundle of its time",
        lambda w: (w.take(w.backdated(w.a))[0], w.first.bundle),
        Code.BUNDLE_TOO_OLD,
    ),
    row(
        "retired key backdates, logged late, bundle of its time with today's coverage",
        lambda w: (w.take(w.backdated(w.a))[0], replace(w.first.bundle, coverage=w.publish().bundle.coverage)),
        Code.REGISTRY_INVALID,
    ),
    row(
        "retired key backdates, logged late, rotation cut out of the bundle",
        lambda w: (w.take(w.backdated(w.a))[0], replace(w.publish().bundle, records=w.registry.envelopes[:3])),
        Code.REGISTRY_INVALID,
    ),
    row(
        "retired key backdates, in a log of the thief's own",
        lambda w: w.forked(w.backdated(w.a), 5, 12, key=SoftwareKey("thief")),
        Code.LOG_PROOF_INVALID,
    ),
    # With the statement log key: forks.
    Attack(
        "retired key and statement log key: fork at the closing seal",
        lambda w: w.forked(w.backdated(w.a), 5, 10),
        Code.LOG_FORK,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "retired key and statement log key: fork at the covered size",
        lambda w: w.forked(w.backdated(w.a), 5, w.now_published.size),
        Code.LOG_FORK,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "retired key and statement log key: fork beyond the bundle",
        lambda w: w.forked(w.backdated(w.a), 5, 40),
        Code.BUNDLE_TOO_OLD,
        Code.BUNDLE_TOO_OLD,
    ),
    Attack(
        "retired key and statement log key: fork at a size nobody published",
        lambda w: w.forked(w.backdated(w.a), 5, 12),
        None,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "retired key, statement log key and a corrupt cosigner: fork",
        lambda w: w.forked(w.backdated(w.a), 5, 12, corrupt=[1]),
        None,
        Code.QUORUM_NOT_MET,
    ),
    # The operator: with both log keys.
    Attack("operator logs with a retired key, shortened registry", late, None, Code.BUNDLE_TOO_OLD),
    Attack(
        "operator logs with a retired key, shortened registry, one corrupt cosigner",
        lambda w: late(w, corrupt=(0,)),
        None,
        Code.BUNDLE_TOO_OLD,
    ),
    Attack(
        "operator logs with a retired key, shortened registry signed anew",
        resigned_registry,
        None,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "operator logs with a retired key, shortened registry signed anew, one corrupt cosigner",
        lambda w: resigned_registry(w, corrupt=(2,)),
        None,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "operator logs with a compromised and closed key, registry from before",
        lambda w: (w.take(w.backdated(w.c, 7))[0], w.shortened(w.stolen)),
        None,
        Code.BUNDLE_TOO_OLD,
    ),
    # Cosignatures.
    Attack(
        "evidence without its cosignatures",
        lambda w: w.proof(*w.attested[12], checkpoint=without_cosigners(w.now_published.checkpoint)),
        None,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "evidence with one cosignature of two",
        lambda w: w.proof(*w.attested[12], checkpoint=without_cosigners(w.now_published.checkpoint, keeping=1)),
        None,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "evidence with a bad cosignature by a known cosigner",
        lambda w: w.proof(*w.attested[12], checkpoint=badly_cosigned(w.now_published.checkpoint)),
        None,
        Code.LOG_PROOF_INVALID,
    ),
    Attack(
        "evidence with the cosignatures of another checkpoint",
        lambda w: w.proof(*w.attested[12], checkpoint=borrowed_cosignatures(w)),
        None,
        Code.LOG_PROOF_INVALID,
    ),
    Attack(
        "evidence cosigned twice by one cosigner",
        lambda w: w.proof(*w.attested[12], checkpoint=twice_cosigned(w)),
        None,
        Code.LOG_PROOF_INVALID,
    ),
    Attack(
        "bundle without its cosignatures",
        lambda w: replace(w.now_published.bundle, checkpoint=without_cosigners(w.now_published.bundle.checkpoint)),
        None,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "bundle with one cosignature of two",
        lambda w: replace(
            w.now_published.bundle, checkpoint=without_cosigners(w.now_published.bundle.checkpoint, keeping=1)
        ),
        None,
        Code.QUORUM_NOT_MET,
    ),
    Attack(
        "bundle with a bad cosignature by a known cosigner",
        lambda w: replace(w.now_published.bundle, checkpoint=badly_cosigned(w.now_published.bundle.checkpoint)),
        None,
        Code.REGISTRY_INVALID,
    ),
    row(
        "cosigners nobody named, which count for nothing",
        lambda w: w.proof(*w.attested[12], checkpoint=strangers(w)),
        Code.VALID_KEY_ACTIVE,
    ),
    # The holder of a compromised key.
    row("compromised key, logged above the cut", lambda w: w.genuine(18), Code.KEY_COMPROMISED),
    row("compromised key, logged at the cut", lambda w: w.genuine(17), Code.KEY_COMPROMISED),
    row("compromised key, logged below the cut", lambda w: w.genuine(16), Code.VALID_BEFORE_COMPROMISE),
    row("compromised key, logged after it was closed", lambda w: logged(w, w.c), Code.KEY_NOT_ACTIVE),
    row("compromised key backdates, never logged", lambda w: w.backdated(w.c, 7).to_json(), Code.NOT_LOGGED),
    row(
        "compromised key backdates, proof from below the cut",
        lambda w: w.proof(16, w.backdated(w.c, 7)),
        Code.LOG_PROOF_INVALID,
    ),
    row(
        "compromised key, logged late, bundle from before the compromise",
        lambda w: (w.take(w.backdated(w.c, 7))[0], w.stolen.bundle),
        Code.BUNDLE_TOO_OLD,
    ),
    Attack(
        "compromised key and statement log key: fork below the cut",
        lambda w: w.forked(w.backdated(w.c, 7), 16, 20),
        Code.LOG_FORK,
        Code.QUORUM_NOT_MET,
    ),
    row("key compromised before it was opened", lambda w: logged(w, w.early), Code.KEY_NOT_ACTIVE),
    # Keys of another role or place.
    row("key never opened", lambda w: logged(w, w.spare), Code.KEY_NOT_ACTIVE),
    row("key nobody registered", lambda w: logged(w, SoftwareKey("thief")), Code.UNKNOWN_KEY),
    row("a lead's key", lambda w: logged(w, w.leads[0]), Code.UNKNOWN_KEY),
    row("the statement log's key", lambda w: logged(w, w.statements.key), Code.UNKNOWN_KEY),
    row("the registry log's key", lambda w: logged(w, w.registry_log.key), Code.UNKNOWN_KEY),
    Attack("a cosigner's key", lambda w: logged(w, w.cosigners[0].key), None, Code.UNKNOWN_KEY),
    row("valid key in another witness's name", lambda w: logged(w, w.b, witness_id=W2), Code.KEY_SCOPE),
    row("valid key for a stream it was not given", lambda w: logged(w, w.p), Code.KEY_SCOPE),
    row("thief's signature under the valid key's id", impersonated, Code.BAD_SIGNATURE),
    row(
        "signature by a retired key of the same witness",
        lambda w: w.take(envelope(STATEMENT_TYPE, w.statement(w.b, 99, witness_id=W1).encode(), w.a))[0],
        Code.BAD_SIGNATURE,
    ),
    # One event for another.
    row(
        "genuine evidence for another event",
        lambda w: Presented(w.genuine(12), expected=event_hash("orders", 13)),
        Code.EVENT_MISMATCH,
    ),
    row(
        "development evidence as production",
        lambda w: logged(w, w.b, environment="development"),
        Code.WRONG_ENVIRONMENT,
    ),
    row("evidence of another registry", lambda w: Years(cosigned=False, name="other").genuine(3), Code.WRONG_REGISTRY),
    row("a registry root of its own", lambda w: logged(w, w.b, registry_root="00" * 32), Code.REGISTRY_MISMATCH),
    row("a registry that is yet to come", lambda w: logged(w, w.b, registry_size=999), Code.BUNDLE_TOO_OLD),
    row("two events for one place", equivocation, Code.EQUIVOCATION),
    row("two histories of one size", two_histories, Code.LOG_FORK),
    # Clocks.
    row(
        "signed before its key existed",
        lambda w: logged(w, w.b, signed_at="2025-12-31T23:00:00.000000Z"),
        Code.TIME_INCONSISTENT,
    ),
    row(
        "signed after the bundle",
        lambda w: logged(w, w.b, signed_at="2026-01-01T01:00:00.000000Z"),
        Code.TIME_INCONSISTENT,
    ),
]
