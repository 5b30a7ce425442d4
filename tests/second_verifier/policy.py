"""C2SP tlog-policy and tlog-cosignature: who cosigns checkpoints, and how many are enough."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from . import forms
from .forms import Unsupported, require
from .note import is_key_name, lines_by, note_id
from .public_key import Key, ed25519_key

LARGEST = 65_536
MOST_LINES = 64
ED25519, ML_DSA_44 = 0x04, 0x06
YEAR_9999_ENDS = 253_402_300_799

Policy = dict[str, Any]
"""`cosigners` (by name: key name, note id, key), `groups` (by name: threshold, members) and `quorum` (a name)."""

NONE: Policy = {"cosigners": {}, "groups": {}, "quorum": "none"}


def read_policy(value: Any) -> Policy:
    """Read the text of a policy: `none`, or a tlog-policy file without lines for logs."""
    if value == "none":
        return NONE
    policy: Policy = {"cosigners": {}, "groups": {}, "quorum": None}
    used: set[str] = set()
    require(len(forms.text(value).encode()) <= LARGEST, f"a policy of at most {LARGEST} bytes")
    require(not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value), "no control character but tab and newline")
    require(value.endswith("\n"), "lines that end in a newline")
    for line in value.split("\n"):
        words = re.findall(r"[^ \t]+", line)
        if words and not words[0].startswith("#"):
            _read_line(policy, used, words)
    require(policy["quorum"], "a quorum line")
    require(len(policy["cosigners"]) <= MOST_LINES, f"at most {MOST_LINES} witness lines")
    require(len(policy["groups"]) <= MOST_LINES, f"at most {MOST_LINES} group lines")
    return policy


def _read_line(policy: Policy, used: set[str], words: list[str]) -> None:
    kind, arguments = words[0], words[1:]
    if kind == "witness" and len(arguments) in (2, 3):
        cosigner = read_vkey(arguments[1])
        for other in policy["cosigners"].values():
            require(other["key"] != cosigner["key"], "each key once")
            require(
                (other["key_name"], other["note_id"]) != (cosigner["key_name"], cosigner["note_id"]), "each id once"
            )
        policy["cosigners"][_new_name(policy, arguments[0])] = cosigner
    elif kind == "group" and len(arguments) >= 3:
        members = arguments[2:]
        require(all(_is_defined(policy, member) for member in members), "members defined above")
        require(len(set(members)) == len(members) and not used & set(members), "each name a member once")
        used.update(members)
        policy["groups"][_new_name(policy, arguments[0])] = (_threshold(arguments[1], len(members)), members)
    elif kind == "quorum" and len(arguments) == 1:
        require(policy["quorum"] is None, "one quorum line")
        require(arguments[0] == "none" or _is_defined(policy, arguments[0]), "a quorum defined above")
        policy["quorum"] = arguments[0]
    else:
        require(False, "a line of a witness, a group or the quorum")


def _is_defined(policy: Policy, name: str) -> bool:
    return name in policy["cosigners"] or name in policy["groups"]


def _new_name(policy: Policy, name: str) -> str:
    require(name != "none" and not _is_defined(policy, name), "a new name")
    return name


def _threshold(word: str, members: int) -> int:
    if word in ("any", "all"):
        return 1 if word == "any" else members
    threshold = forms.number(word)
    require(1 <= threshold <= members, "a threshold from 1 to the number of members")
    return threshold


def read_vkey(value: str) -> dict[str, Any]:
    """Read a verifier key: name, note id in hex and key material, with `+` between them."""
    parts = value.split("+", 2)
    require(len(parts) == 3 and is_key_name(parts[0]), "a verifier key")
    material = forms.base64(parts[2])
    require(material, "a byte of type")
    kind, key = material[0], material[1:]
    known = note_id(parts[0], kind, key)
    require(parts[1] == known.hex(), "the id of the key")
    if kind == 0 or kind > ML_DSA_44 or (kind == ML_DSA_44 and len(key) == 1312):
        raise Unsupported("a cosigner's key of another type")
    require(kind == ED25519, "an Ed25519 cosigner")
    return {"key_name": parts[0], "note_id": known, "key": ed25519_key(key)}


def asks_cosigners(policy: Policy) -> bool:
    return bool(policy["quorum"] != "none")


def times(policy: Policy, head: dict[str, Any]) -> dict[str, int]:
    """Return when each cosigner cosigned a checkpoint, in POSIX seconds; Malformed for a bad cosignature."""
    result = {}
    for name, cosigner in policy["cosigners"].items():
        signatures = lines_by(head, cosigner["key_name"], cosigner["note_id"])
        require(len(signatures) <= 1, "one line by a cosigner")
        for signature in signatures:
            result[name] = _time(cosigner["key"], signature, head["text"])
    return result


def _time(key: Key, signature: bytes, text: str) -> int:
    require(len(signature) == 72, "a timestamped signature")
    time = int.from_bytes(signature[:8], "big")
    require(time <= YEAR_9999_ENDS, "a time of the calendar")
    message = f"cosignature/v1\ntime {time}\n{text}"
    require(key.verifies(signature[8:], message.encode()), "a cosignature that verifies")
    return time


def is_met(policy: Policy, names: Collection[str]) -> bool:
    """Say whether those cosigners are enough."""

    def stands(name: str) -> bool:
        if name not in policy["groups"]:
            return name in names
        threshold, members = policy["groups"][name]
        return sum(map(stands, members)) >= threshold

    return not asks_cosigners(policy) or stands(policy["quorum"])


def met_at(policy: Policy, cosigned: dict[str, int]) -> int | None:
    """Return the earliest second by which enough had cosigned; None if they have not, or none are asked for."""
    if not asks_cosigners(policy):
        return None
    for time in sorted(set(cosigned.values())):
        if is_met(policy, [name for name, at in cosigned.items() if at <= time]):
            return time
    return None


def met_since(policy: Policy, cosigned: dict[str, int]) -> int | None:
    """Return the latest second such that those that cosigned then or later are enough; None if there is none."""
    if not asks_cosigners(policy):
        return None
    for time in sorted(set(cosigned.values()), reverse=True):
        if is_met(policy, [name for name, at in cosigned.items() if at >= time]):
            return time
    return None
