"""A second verifier: judges evidence by docs/format.md, and by nothing of the product ("Judging").

Plain functions over dicts, on the standard library and `cryptography`.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import merkle
from . import policy as policies
from .bundle import Refused, read_bundle
from .envelope import entry, signed_bytes
from .evidence import read_evidence
from .forms import Malformed, covers
from .history import log_keys_at, policies_at
from .note import by_log, log_lines, read_checkpoint

PRODUCTION = frozenset({"production"})
TOLERANCE = datetime.timedelta(minutes=5)

Bound = tuple[str, str] | None
"""A time and its source."""


@dataclass(frozen=True)
class Judged:
    """What the page says about one piece of evidence; `statement` is a claim unless the signature was good."""

    code: str
    existed_by: Bound = None
    not_before: Bound = None
    completeness: str | None = None
    statement: Mapping[str, Any] | None = None
    checkpoint: tuple[str, int, bytes] | None = None
    """Origin, size and root of the genuine checkpoint that the evidence rests on."""


CODES = {
    "VALID_KEY_ACTIVE": 0,
    "VALID_KEY_ROTATED": 0,
    "VALID_BEFORE_COMPROMISE": 0,
    "BAD_FORMAT": 1,
    "BAD_SIGNATURE": 1,
    "EVENT_MISMATCH": 1,
    "UNKNOWN_KEY": 1,
    "KEY_SCOPE": 1,
    "WRONG_REGISTRY": 1,
    "WRONG_ENVIRONMENT": 1,
    "KEY_NOT_ACTIVE": 1,
    "KEY_COMPROMISED": 1,
    "LOG_PROOF_INVALID": 1,
    "REGISTRY_INVALID": 1,
    "REGISTRY_MISMATCH": 1,
    "EQUIVOCATION": 1,
    "LOG_FORK": 1,
    "NOT_LOGGED": 2,
    "QUORUM_NOT_MET": 2,
    "BUNDLE_TOO_OLD": 2,
    "TIME_INCONSISTENT": 2,
    "UNSUPPORTED_ALGORITHM": 2,
}
"""The codes, and the exit codes of their outcomes: VALID 0, INVALID 1, INDETERMINATE 2."""


def outcome(code: str) -> int:
    """Return the exit code of a code's outcome."""
    return CODES[code]


def verify(
    bundle: bytes,
    registry_id: str,
    evidence: bytes,
    event_hash: str | None = None,
    environments: Collection[str] = PRODUCTION,
    seen_by: Mapping[str, str] | None = None,
) -> Judged:
    """Judge one piece of evidence; `seen_by` is a timestamp authority's word by the text of a checkpoint."""
    try:
        registry = read_bundle(bundle, registry_id)
    except Refused as refused:
        return Judged(refused.code)
    return judge(registry, evidence, event_hash, environments, seen_by)


def judge(
    registry: dict[str, Any],
    evidence: bytes,
    event_hash: str | None = None,
    environments: Collection[str] = PRODUCTION,
    seen_by: Mapping[str, str] | None = None,
) -> Judged:
    """Judge one piece of evidence by a registry that read_bundle() gave."""
    try:
        piece = read_evidence(evidence)
    except Malformed:
        return Judged("BAD_FORMAT")
    code = _claims(registry, piece, event_hash, environments)
    if code:
        return Judged(code, statement=piece["statement"])
    code, head = _logged(registry, piece)
    judged = Judged(code or "", statement=piece["statement"])
    if head:
        judged = replace(judged, checkpoint=(head["origin"], head["size"], head["root"]))
    if code:
        return judged
    judged = replace(
        judged,
        existed_by=_existed_by(head, seen_by or {}),
        not_before=_not_before(registry, piece["statement"]),
        completeness=_completeness(registry, head["policy"]),
    )
    return replace(judged, code=_valid_there(registry, piece, head, judged))


def _claims(registry: dict, piece: dict, event_hash: str | None, environments: Collection[str]) -> str | None:
    """Steps 2 to 10: what the statement says, and who signed it."""
    said, envelope = piece["statement"], piece["envelope"]
    key = registry["keys"].get(said["key_id"])
    known = said["registry_size"] <= registry["size"]
    steps = (
        (lambda: event_hash in (None, said["event_hash"]), "EVENT_MISMATCH"),
        (lambda: said["registry_id"] == registry["id"], "WRONG_REGISTRY"),
        (lambda: said["environment"] in environments, "WRONG_ENVIRONMENT"),
        (lambda: said["environment"] == registry["environment"], "WRONG_ENVIRONMENT"),
        (lambda: known, "BUNDLE_TOO_OLD"),
        (lambda: said["registry_size"] > 0, "REGISTRY_MISMATCH"),
        (lambda: registry["roots"][said["registry_size"]].hex() == said["registry_root"], "REGISTRY_MISMATCH"),
        (lambda: key, "UNKNOWN_KEY"),
        (lambda: key["witness_id"] == said["witness_id"], "KEY_SCOPE"),
        (lambda: any(covers(pattern, said["stream"]) for pattern in key["streams"]), "KEY_SCOPE"),
        (lambda: said["key_id"] in envelope["signatures"], "BAD_SIGNATURE"),
        (
            lambda: key["public_key"].verifies(envelope["signatures"][said["key_id"]], signed_bytes(envelope)),
            "BAD_SIGNATURE",
        ),
        (lambda: piece["proof"], "NOT_LOGGED"),
    )
    return next((code for holds, code in steps if not holds()), None)


def _logged(registry: dict, piece: dict) -> tuple[str | None, dict]:
    """Steps 11 to 13: the code or None, and the checkpoint, with its `policy` and `times`, if it is the log's."""
    proof, hashed = piece["proof"], merkle.leaf(entry(piece["envelope"]))
    log = registry["logs"]["statements"]
    try:
        head = read_checkpoint(proof["checkpoint"])
        signers = [key for key in log_keys_at(registry, head["size"]) if by_log(head, log["origin"], key)]
        if not signers:
            return _not_by_the_log(registry, head), {}
        head |= cosigned(registry, head)
    except Malformed:
        return "LOG_PROOF_INVALID", {}
    if merkle.root_of_inclusion(proof["index"], head["size"], hashed, proof["path"]) != head["root"]:
        return "LOG_PROOF_INVALID", {}
    if head["policy"] is None:
        # A record to come may ask for others at sizes that the bundle does not cover.
        return "BUNDLE_TOO_OLD" if head["size"] > registry["coverage"]["statement_size"] else "QUORUM_NOT_MET", head
    present = log["public_key"] in signers
    if not (present or policies.asks_cosigners(head["policy"]) or head["size"] in _known_roots(registry)):
        return "NOT_LOGGED", head
    return None, head


def _not_by_the_log(registry: dict, head: dict) -> str:
    """Return the code for a checkpoint without a good line: it may be by a key that only a newer bundle names."""
    origin = registry["logs"]["statements"]["origin"]
    claimed = any(log_lines(head, origin, key) for _, key, _ in registry["eras"])
    to_come = head["origin"] == origin and not claimed and head["size"] >= registry["coverage"]["statement_size"]
    return "BUNDLE_TOO_OLD" if to_come else "LOG_PROOF_INVALID"


def cosigned(registry: dict, head: dict) -> dict[str, Any]:
    """Return the `policy` that counts for a checkpoint, None if none is met, and the `times` of its cosigners."""
    several = [(asked, policies.times(asked, head)) for asked in policies_at(registry, head["size"])]
    met = [(asked, times) for asked, times in several if policies.is_met(asked, times)]
    # One that asks for cosigners before one that does not; else the newer.
    met.sort(key=lambda it: not policies.asks_cosigners(it[0]))
    asked, times = met[0] if met else (None, {})
    return {"policy": asked, "times": times}


def _valid_there(registry: dict, piece: dict, head: dict, judged: Judged) -> str:
    """Steps 14 to 20: was the key valid at that place, as far as the bundle knows."""
    index, said = piece["proof"]["index"], piece["statement"]
    key = registry["keys"][said["key_id"]]
    opened, closed, trusted = key["opened"], key["closed"], key["trusted_size"]
    if opened is None or index < opened or (closed is not None and index >= closed):
        return "KEY_NOT_ACTIVE"
    if trusted is not None and index >= trusted:
        return "KEY_COMPROMISED"
    if head["size"] > registry["coverage"]["statement_size"] or not _fresh(registry, head):
        return "BUNDLE_TOO_OLD"
    if _known_roots(registry).get(head["size"], head["root"]) != head["root"]:
        return "LOG_FORK"
    if not _in_time(registry, said["signed_at"], key, judged):
        return "TIME_INCONSISTENT"
    if trusted is not None:
        return "VALID_BEFORE_COMPROMISE"
    return "VALID_KEY_ACTIVE" if closed is None else "VALID_KEY_ROTATED"


def _fresh(registry: dict, head: dict) -> bool:
    """Step 17: each cosigner's clock is compared with itself alone."""
    if head["size"] <= registry["policy_position"] or not policies.asks_cosigners(registry["policy"]):
        return True
    later = registry["cosigned"]
    return policies.is_met(
        registry["policy"], [name for name, at in head["times"].items() if later.get(name, -1) >= at]
    )


def _known_roots(registry: dict) -> dict[int, bytes]:
    """The roots of the statement log that a record or the coverage has, by size."""
    coverage = registry["coverage"]
    return registry["positions"] | {coverage["statement_size"]: bytes.fromhex(coverage["statement_root"])}


def _completeness(registry: dict, at: policies.Policy) -> str:
    asked = registry["policy"], at
    return "cosigners" if all(map(policies.asks_cosigners, asked)) else "operator"


# The interval


def in_utc(seconds: int) -> str:
    """Write POSIX seconds as a time."""
    return f"{datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.%fZ}"


def _existed_by(head: dict, seen_by: Mapping[str, str]) -> Bound:
    met = policies.met_at(head["policy"], head["times"])
    bounds = [] if met is None else [(in_utc(met), "cosigners")]
    if head["text"] in seen_by:
        bounds.append((seen_by[head["text"]], "timestamp authority"))
    return min(bounds, default=None)


def _not_before(registry: dict, said: Mapping[str, Any]) -> Bound:
    last = said["registry_size"] - 1
    since = registry["sealed"][last]
    return (registry["records"][last]["created_at"], "leads") if since is None else (in_utc(since), "cosigners")


def _moved(time: str, by: datetime.timedelta) -> str:
    try:
        return f"{(datetime.datetime.fromisoformat(time) + by).replace(tzinfo=None).isoformat('T', 'microseconds')}Z"
    except OverflowError:
        return time


def _in_time(registry: dict, signed_at: str, key: dict, judged: Judged) -> bool:
    earliest = [key["created_at"]]
    latest = [registry["coverage"]["created_at"]]
    if judged.not_before and judged.not_before[1] == "cosigners":
        earliest.append(judged.not_before[0])
    if judged.existed_by:
        latest.append(judged.existed_by[0])
    return all(_moved(time, -TOLERANCE) <= signed_at for time in earliest) and all(
        signed_at <= _moved(time, TOLERANCE) for time in latest
    )
