"""What a signature under a change says, in words: every member of every document."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from key_registry import note
from key_registry.checkpoint import Checkpoint
from key_registry.policy import Policy
from key_registry.record import (
    Compromise,
    Destroyed,
    KeyAdd,
    Lead,
    LeadsChange,
    Link,
    LogKey,
    PolicyChange,
    Rotate,
    WitnessLink,
)
from key_registry.replay import Registry
from witness_service.cli.approval import Approval, Body
from witness_service.orders import ResumeOrder

Words = Mapping[str, str]


def change_words(approval: Approval) -> Words:
    """Return what there is to know about a change as a whole, by name."""
    proposal = approval.proposal
    names = {lead.public_key.key_id: lead.name for lead in approval.registry.leads}
    words = {
        "proposal": proposal.proposal_id or "none: a dry run",
        "kind": proposal.kind,
        "registry": approval.registry.registry_id,
        "asked for": approval.request.created_at,
    }
    rejections = (f"{_lead_name(lead, names)} ({why})" for lead, why in proposal.rejected_by.items())
    said = {
        "proposed by": _lead_name(proposal.proposer, names) if proposal.proposer else "an operator",
        "signed by": ", ".join(_lead_name(it, names) for it in proposal.approved_by) or "nobody yet",
        "rejected by": ", ".join(rejections),
        "still needed": f"{proposal.missing}, of a quorum of {proposal.threshold}" if proposal.threshold else "",
        "until": proposal.expires_at,
        **{name.replace("_", " "): value for name, value in proposal.facts.items()},
        "note": proposal.note,
    }
    return words | {f"service says, {name}": value for name, value in said.items() if value}


def document_words(body: Body, approval: Approval) -> Words:
    """Return what one document says, by name; the first line says what a signature under it means."""
    registry = approval.registry
    match body:
        case KeyAdd():
            says = _key_add(body)
        case Rotate():
            says = _rotate(body)
        case Compromise():
            says = _compromise(body, approval)
        case LeadsChange():
            says = _leads(body, registry)
        case PolicyChange():
            says = _policy(body, registry)
        case Destroyed():
            says = {"you sign": "that this private key was destroyed; what it signed stays as good", "key": body.key_id}
        case ResumeOrder():
            return {
                "you sign": "that this key, which a lead has stopped, may sign again",
                "key": body.key_id,
                "reason": body.reason,
                "order": f"{body.number} about this key, of {body.created_at}",
                "registry": body.registry_id,
            }
        case _:
            says = {"you sign": "a genesis record"}
    place = _place(body) if isinstance(body, Link) else {}
    return {**says, **place}


def _place(body: Link) -> dict[str, str]:
    witness = {"witness": body.witness_id} if isinstance(body, WitnessLink) else {}
    return {
        **witness,
        "registry": body.registry_id,
        "record": f"{body.seq}, after {body.prev}",
        "made": body.created_at,
    }


def _key_add(body: KeyAdd) -> dict[str, str]:
    return {
        "you sign": "that this key, made in the token, joins the witness's keys",
        "key": f"{body.key_id}, {body.algorithm}",
        "streams": ", ".join(body.streams),
        "token": f"serial {body.token_serial}, CKA_ID {body.cka_id.hex()}",
        "attributes": ", ".join(f"{name}={value}" for name, value in sorted(body.attributes.items())),
        "reason": body.reason,
    }


def _rotate(body: Rotate) -> dict[str, str]:
    head = Checkpoint.parse(note.parse(body.checkpoint).text)
    parts = [f"from position {head.size} on key {body.open} is valid"] if body.open else []
    if body.close:
        parts.append(f"from position {head.size} on key {body.close} is not valid any more; it has signed {body.count}")
    return {"you sign": f"that {', and '.join(parts)}", "reason": body.reason, "statement log": _head(head)}


def _compromise(body: Compromise, approval: Approval) -> dict[str, str]:
    key = approval.registry.keys[body.key_id]
    facts = approval.proposal.facts
    words = {
        "you sign": f"that nothing this key has signed from position {body.trusted_size} on is trusted, for ever",
        "key": f"{body.key_id}, {key.public_key.algorithm}",
        "suspected since": body.suspected_since or "nobody can say",
        "trusted below": str(body.trusted_size),
        "reason": body.reason,
    }
    if "attestations" in facts:
        words["the service counts"] = (
            f"{facts.get('attestations_below_cut')} attestations by this key below the cut, which stay good, and "
            f"{facts.get('attestations_from_cut')} from it on, which are distrusted; {facts['attestations']} in all"
        )
    if key.trusted_size is not None:
        words["so far"] = f"distrusted from position {key.trusted_size} on; a cut can only be lowered"
    return words


def _leads(body: LeadsChange, registry: Registry) -> dict[str, str]:
    old = {lead.public_key.key_id: lead for lead in registry.leads}
    new = {lead.public_key.key_id: lead for lead in body.leads}
    renamed = [new[it] for it in new.keys() & old.keys() if new[it].name != old[it].name]
    words = {
        "you sign": f"that {body.threshold} of these {len(new)} leads decide from here on",
        "joins": _names(lead for key_id, lead in new.items() if key_id not in old),
        "leaves": _names(lead for key_id, lead in old.items() if key_id not in new),
        "stays": _names(lead for key_id, lead in new.items() if key_id in old),
        "renamed": _names(renamed),
        "quorum": f"{body.threshold} of {len(new)}; so far {registry.threshold} of {len(old)}",
    }
    return {name: value for name, value in words.items() if value}


def _names(leads: object) -> str:
    found: Sequence[Lead] = sorted(leads, key=lambda lead: lead.name)  # type: ignore[call-overload]
    return "; ".join(f"{lead.name} ({lead.public_key.key_id}, {lead.public_key.algorithm})" for lead in found)


def _policy(body: PolicyChange, registry: Registry) -> dict[str, str]:
    head = Checkpoint.parse(note.parse(body.checkpoint).text)
    words = {
        "you sign": f"that from position {head.size} of the statement log on, this policy and these log keys count",
        "cosigners": _quorum_words(Policy.parse(body.policy)),
        "so far": _quorum_words(registry.policy),
        "policy": _difference(registry.policy.text, body.policy),
        "statement log": _head(head),
    }
    for name in ("registry", "statements"):
        new: LogKey = getattr(body.logs, name)
        old: LogKey = getattr(registry.logs, name)
        changed = "a new key" if new.public_key.key_id != old.public_key.key_id else "the same key"
        words[f"{name} log"] = (
            f"{changed}, {new.public_key.key_id}, token serial {new.token_serial}, CKA_ID {new.cka_id.hex()}, "
            f"origin {new.origin}"
        )
    return words


def _quorum_words(policy: Policy) -> str:
    """Say whom a policy asks, in words."""
    if policy.quorum is None:
        return "none are asked: that the logs only grow rests on the operator"
    groups = {group.name: group for group in policy.groups}

    def said(name: str, depth: int = 0) -> str:
        group = groups.get(name)
        if group is None:
            return name
        inner = ", ".join(said(member, depth + 1) for member in group.members)
        text = f"{group.threshold} of {len(group.members)}: {inner}"
        return f"({text})" if depth else text

    return said(policy.quorum)


def _difference(old: str, new: str) -> str:
    if old == new:
        return "unchanged"
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0))
    return " | ".join(line for line in lines[2:] if not line.startswith("@@"))


def _head(head: Checkpoint) -> str:
    return f"{head.size} attestations, root {head.root.hex()}"


def _lead_name(key_id: str, names: Mapping[str, str]) -> str:
    return f"{names.get(key_id, 'a lead not in office')} ({key_id[:16]})"
