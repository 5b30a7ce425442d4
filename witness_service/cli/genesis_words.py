"""A genesis record in words: what whoever signs it says."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from key_registry.dsse import Envelope
from key_registry.policy import Policy
from key_registry.record import RECORD_TYPE, Genesis, LogKey, previous_hash


def registry_id(body: bytes) -> str:
    """Return the id of the registry that begins with a record; no signature is needed to know it."""
    return previous_hash(Envelope(RECORD_TYPE, body, ()))


def genesis_in_words(body: bytes, genesis: Genesis) -> dict[str, str]:
    """Return what a signature under a genesis record says, for people, by name."""
    leads = {
        f"lead {number}": f"{lead.name}: {lead.public_key.key_id}, {lead.public_key.algorithm}"
        for number, lead in enumerate(genesis.leads, 1)
    }
    return {
        "you sign": "that this registry begins, with these leads, these logs and these cosigners",
        "registry id": registry_id(body),
        "environment": genesis.environment,
        "made at": genesis.created_at,
        **leads,
        "quorum": f"{genesis.threshold} of {len(genesis.leads)} leads decide about keys, leads and cosigners",
        "registry log": _log(genesis.logs.registry),
        "statement log": _log(genesis.logs.statements),
        **_policy(genesis.policy),
        "file": f"{len(body)} bytes, SHA-256 {sha256(body).hexdigest()}",
    }


def genesis_object(body: bytes, genesis: Genesis) -> dict[str, object]:
    """Return the same as a JSON object."""
    return {
        "registry_id": registry_id(body),
        "sha256": sha256(body).hexdigest(),
        "environment": genesis.environment,
        "created_at": genesis.created_at,
        "leads": [
            {"name": it.name, "key_id": it.public_key.key_id, "algorithm": it.public_key.algorithm}
            for it in genesis.leads
        ],
        "threshold": genesis.threshold,
        "logs": {"registry": _log_object(genesis.logs.registry), "statements": _log_object(genesis.logs.statements)},
        "policy": genesis.policy,
    }


def _log(key: LogKey) -> str:
    return f"{key.origin}, key {key.public_key.key_id} on token {key.token_serial}"


def _log_object(key: LogKey) -> dict[str, str]:
    return {"origin": key.origin, "key_id": key.public_key.key_id, "token_serial": key.token_serial}


def _policy(text: str) -> Mapping[str, str]:
    policy = Policy.parse(text)
    words = {
        f"cosigner {number}": f"{it.name}: {it.key_name}, key {it.public_key.key_id}, at {it.url or 'no address'}"
        for number, it in enumerate(policy.cosigners, 1)
    }
    for group in policy.groups:
        words[f"group {group.name}"] = f"{group.threshold} of {', '.join(group.members)}"
    if policy.quorum is None:
        words["cosigners"] = "none asked: that nothing is left out rests on the operator alone"
    else:
        words["cosigners"] = f"a checkpoint counts when {policy.quorum} has cosigned it"
    return words
