"""Attacks on the bytes: respelt, doubled, cut, lengthened and mistyped evidence."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from key_registry import note
from key_registry.coverage import COVERAGE_TYPE
from key_registry.dsse import Envelope, Signature
from key_registry.evidence import Evidence
from key_registry.record import RECORD_TYPE
from key_registry.statement import STATEMENT_TYPE
from key_registry.tlog_proof import TlogProof
from key_registry.verdict import Code
from tests.attacks.attack import Presented, row
from tests.attacks.years import Years
from tests.key_registry.software_registry import P256_ORDER, SoftwareKey, envelope, event_hash

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def taken(world: Years, body: bytes, payload_type: str = STATEMENT_TYPE, key: SoftwareKey | None = None) -> bytes:
    """Return evidence of any body that a valid key signed and the log took."""
    return world.take(envelope(payload_type, body, key or world.b))[0]


def body_of(world: Years) -> bytes:
    return world.statement(world.b, 99).encode()


def signature_of(signed: Envelope, change: Callable[[bytes], bytes]) -> Envelope:
    (signature,) = signed.signatures
    return replace(signed, signatures=(replace(signature, signature=change(signature.signature)),))


def resigned(world: Years, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """Return the evidence of statement `number` with another signature, which the log has not."""
    index, signed = world.attested[number]
    return world.proof(index, signature_of(signed, change))


def plus_order(signature: bytes) -> bytes:
    s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    return signature[:32] + s.to_bytes(32, "little")


def minus_s(signature: bytes) -> bytes:
    s = P256_ORDER - int.from_bytes(signature[32:], "big")
    return signature[:32] + s.to_bytes(32, "big")


def in_der(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def unwrapped(world: Years, message: Callable[[bytes], bytes]) -> bytes:
    """Return logged evidence whose signature is not over the pre-authentication encoding."""
    body = body_of(world)
    return world.take(Envelope(STATEMENT_TYPE, body, (Signature(world.b.key_id, world.b.sign(message(body))),)))[0]


def retyped(world: Years, signed_as: str, presented_as: str) -> bytes:
    return world.take(replace(envelope(signed_as, body_of(world), world.b), payload_type=presented_as))[0]


def lines(change: Callable[[bytes], bytes]) -> Callable[[Years], bytes]:
    """Return what makes genuine evidence with its text changed."""

    def make(world: Years) -> bytes:
        evidence = world.genuine(12)
        changed = change(evidence)
        assert changed != evidence
        return changed

    return make


def noted(change: Callable[[str], str]) -> Callable[[Years], bytes]:
    """Return what makes genuine evidence under a checkpoint of other text, which the log's key signed."""

    def make(world: Years) -> bytes:
        log, text = world.statements, change(note.parse(world.now_published.checkpoint).text)
        key_hash = note.key_hash(log.origin, log.key.public.raw)
        line = note.NoteSignature(log.origin, key_hash, log.key.sign(text.encode()))
        index, signed = world.attested[12]
        # Not note.serialize, which refuses some of these texts.
        return world.proof(index, signed, checkpoint=text.encode() + b"\n" + line.to_line().encode())

    return make


def respelt(world: Years) -> bytes:
    """Return genuine evidence with the JSON of its envelope in another spelling and the other base64 alphabet."""
    evidence = Evidence.read(world.genuine(12))
    said = evidence.envelope.to_object()
    said["payload"] = str(said["payload"]).replace("+", "-").replace("/", "_")
    assert evidence.proof is not None
    spelt = json.dumps(dict(reversed(said.items())), indent=3).encode()
    return replace(evidence.proof, extra=spelt).to_bytes()


def mixed_alphabets(world: Years) -> bytes:
    """Return genuine evidence with a base64 string partly in one alphabet and partly in the other."""
    said = json.loads(Evidence.read(world.genuine(12)).envelope.to_json())
    (signature,) = said["signatures"]
    signature["sig"] = base64.b64encode(b"\xfb\xef\xbe\xff" * 16).decode().replace("+", "-", 1)
    return json.dumps(said).encode()


def two_signatures(world: Years) -> bytes:
    return world.take(envelope(STATEMENT_TYPE, body_of(world), world.b, world.d))[0]


def half_proof(world: Years, **parts: Any) -> bytes:
    """Return genuine evidence with parts of the proof exchanged."""
    return world.proof(*world.attested[12], None, **parts)


def short_hash(evidence: bytes) -> bytes:
    """Return evidence whose first proof line is 31 bytes."""
    head, _, rest = evidence.partition(b"\nindex 12\n")
    line, _, rest = rest.partition(b"\n")
    return head + b"\nindex 12\n" + base64.b64encode(base64.b64decode(line)[:31]) + b"\n" + rest


ROWS = [
    # The statement.
    row("statement respelt", lambda w: taken(w, json.dumps(json.loads(body_of(w))).encode()), Code.BAD_FORMAT),
    row("statement with a member twice", lambda w: taken(w, b'{"round":"1",' + body_of(w)[1:]), Code.BAD_FORMAT),
    row("statement with a member more", lambda w: taken(w, b'{"a":"b",' + body_of(w)[1:]), Code.BAD_FORMAT),
    row(
        "statement with a number for a string",
        lambda w: taken(w, body_of(w).replace(b'"sequence":"99"', b'"sequence":99')),
        Code.BAD_FORMAT,
    ),
    row(
        "statement with a leading zero",
        lambda w: taken(w, body_of(w).replace(b'"sequence":"99"', b'"sequence":"099"')),
        Code.BAD_FORMAT,
    ),
    row("statement with a byte order mark", lambda w: taken(w, b"\xef\xbb\xbf" + body_of(w)), Code.BAD_FORMAT),
    row("coverage as a statement", lambda w: taken(w, w.coverage().encode()), Code.BAD_FORMAT),
    row("record as evidence", lambda w: w.registry.envelopes[4].to_json(), Code.BAD_FORMAT),
    row("bundle as evidence", lambda w: w.now_published.bundle.to_json(), Code.BAD_FORMAT),
    row("checkpoint as evidence", lambda w: w.now_published.checkpoint, Code.BAD_FORMAT),
    row("evidence as a bundle", lambda w: Presented(bundle=w.genuine(12)), Code.REGISTRY_INVALID),
    row(
        "statement signed as a record",
        lambda w: retyped(w, RECORD_TYPE, RECORD_TYPE),
        Code.BAD_FORMAT,
    ),
    row(
        "statement signed as a record, presented as a statement",
        lambda w: retyped(w, RECORD_TYPE, STATEMENT_TYPE),
        Code.BAD_SIGNATURE,
    ),
    row(
        "statement signed as a coverage, presented as a statement",
        lambda w: retyped(w, COVERAGE_TYPE, STATEMENT_TYPE),
        Code.BAD_SIGNATURE,
    ),
    # The signature.
    row("signature over the bare body", lambda w: unwrapped(w, lambda body: body), Code.BAD_SIGNATURE),
    row(
        "signature over the event hash",
        lambda w: unwrapped(w, lambda _: event_hash("orders", 99).encode()),
        Code.BAD_SIGNATURE,
    ),
    row("signature of zeros", lambda w: resigned(w, 12, lambda s: bytes(64)), Code.BAD_SIGNATURE),
    row("signature cut short", lambda w: resigned(w, 12, lambda s: s[:63]), Code.BAD_SIGNATURE),
    row("signature too long", lambda w: resigned(w, 12, lambda s: s + b"\0"), Code.BAD_SIGNATURE),
    row("Ed25519 signature with another S", lambda w: resigned(w, 12, plus_order), Code.BAD_SIGNATURE),
    row("ECDSA signature cut short", lambda w: resigned(w, 23, lambda s: s[:63]), Code.BAD_SIGNATURE),
    row("ECDSA signature too long", lambda w: resigned(w, 23, lambda s: s + b"\0"), Code.BAD_SIGNATURE),
    row("ECDSA signature in DER", lambda w: resigned(w, 23, in_der), Code.BAD_SIGNATURE),
    row("ECDSA signature of zeros", lambda w: resigned(w, 23, lambda s: bytes(64)), Code.BAD_SIGNATURE),
    row("ECDSA signature with another s that verifies", lambda w: resigned(w, 23, minus_s), Code.LOG_PROOF_INVALID),
    row("statement with a second signature", two_signatures, Code.BAD_FORMAT),
    # The envelope.
    row("envelope respelt, base64 of the other alphabet", respelt, Code.VALID_KEY_ACTIVE),
    row("envelope with base64 of two alphabets", mixed_alphabets, Code.BAD_FORMAT),
    row(
        "envelope with a member twice",
        lambda w: b'{"payloadType":"x",' + w.attested[12][1].to_json()[1:],
        Code.BAD_FORMAT,
    ),
    # The proof.
    row("proof of a neighbour", lambda w: w.proof(13, w.attested[12][1]), Code.LOG_PROOF_INVALID),
    row("proof at another index", lambda w: half_proof(w, index=13), Code.LOG_PROOF_INVALID),
    row("proof at an index beyond the log", lambda w: half_proof(w, index=2**63 - 1), Code.LOG_PROOF_INVALID),
    row("proof without hashes", lambda w: half_proof(w, hashes=()), Code.LOG_PROOF_INVALID),
    row(
        "proof with a hash too few",
        lambda w: half_proof(w, hashes=w.statements.proof(12)[:-1]),
        Code.LOG_PROOF_INVALID,
    ),
    row(
        "proof with a hash too many",
        lambda w: half_proof(w, hashes=(*w.statements.proof(12), bytes(32))),
        Code.LOG_PROOF_INVALID,
    ),
    row("proof of 63 hashes", lambda w: half_proof(w, hashes=(bytes(32),) * 63), Code.LOG_PROOF_INVALID),
    row(
        "proof of 64 hashes",
        lines(lambda e: e.replace(b"index 12\n", b"index 12\n" + (b"A" * 43 + b"=\n") * 60)),
        Code.BAD_FORMAT,
    ),
    row("proof with a hash of 31 bytes", lines(short_hash), Code.BAD_FORMAT),
    row("proof with a leading zero", lines(lambda e: e.replace(b"index 12", b"index 012")), Code.BAD_FORMAT),
    row("proof of another version", lines(lambda e: e.replace(b"proof@v1", b"proof@v2")), Code.BAD_FORMAT),
    row("proof with carriage returns", lines(lambda e: e.replace(b"\n", b"\r\n")), Code.BAD_FORMAT),
    row(
        "proof without an envelope",
        lambda w: TlogProof(12, (), w.now_published.checkpoint, None).to_bytes(),
        Code.BAD_FORMAT,
    ),
    # The checkpoint.
    row(
        "checkpoint of the registry log in the evidence",
        lambda w: half_proof(w, checkpoint=w.now_published.bundle.checkpoint),
        Code.LOG_PROOF_INVALID,
    ),
    row(
        "checkpoint of an empty log in the evidence",
        lambda w: half_proof(w, checkpoint=w.checkpoint(w.statements, 0)),
        Code.LOG_PROOF_INVALID,
    ),
    row(
        "checkpoint of a size the signature is not for",
        lambda w: half_proof(w, checkpoint=w.now_published.checkpoint.replace(b"\n25\n", b"\n26\n")),
        Code.LOG_PROOF_INVALID,
    ),
    row(
        "checkpoint in the evidence, a leading zero",
        noted(lambda t: t.replace("\n25\n", "\n025\n")),
        Code.LOG_PROOF_INVALID,
    ),
    row("checkpoint in the evidence, an extension", noted(lambda t: t + "more\n"), Code.LOG_PROOF_INVALID),
    row("checkpoint in the evidence, blank lines", noted(lambda t: t + "\n\n"), Code.LOG_PROOF_INVALID),
    row("checkpoint in the evidence, another origin", noted(lambda t: "x" + t), Code.LOG_PROOF_INVALID),
    row("checkpoint in the evidence, a root of 31 bytes", noted(lambda t: t[:-6] + "==\n"), Code.LOG_PROOF_INVALID),
    row("checkpoint in the evidence, no newline at its end", lines(lambda e: e[:-1]), Code.LOG_PROOF_INVALID),
]
