"""Which record follows from the ones before it (docs/format.md, "What follows" and the types of records)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from . import merkle, policy
from .envelope import Envelope, entry, record_hash, signed_bytes
from .forms import Unsupported, require
from .note import by_log
from .public_key import Key
from .record import NewerRecord, Record, place, read_record

LARGEST_ENTRY = 65_535

Registry = dict[str, Any]


def replay(envelopes: list[Envelope]) -> Registry:
    """Return what the records say together; Malformed if one does not follow, Unsupported for a newer registry."""
    registry: Registry = {
        "id": record_hash(envelopes[0]),
        "hashes": [],
        "keys": {},
        "embedded": [],
        "eras": [],
        "places": {},
        "positions": {},
        "position": 0,
        "policy_position": -1,
        "records": [],
        "roles": {},
        "sealed": [],
    }
    for seq, envelope in enumerate(envelopes):
        record = _read(registry, seq, envelope)
        RULES[record["type"]](registry, record, envelope)
        registry["sealed"].append(max((since for since in registry["embedded"] if since is not None), default=None))
        registry["records"].append(record)
        registry["hashes"].append(record_hash(envelope))
    registry["size"] = len(envelopes)
    registry["roots"] = merkle.roots([merkle.leaf(entry(envelope)) for envelope in envelopes])
    return registry


def _read(registry: Registry, seq: int, envelope: Envelope) -> Record:
    """Read a record and look at its link to the ones before it."""
    require(len(entry(envelope)) <= LARGEST_ENTRY, f"a log entry of at most {LARGEST_ENTRY} bytes")
    try:
        record = read_record(envelope)
    except NewerRecord as newer:
        if seq:
            _linked(registry, seq, newer.link)
            # Anybody can name a key that nobody knows; only a quorum makes this verifier too old.
            of_leads = {k: signature for k, signature in envelope["signatures"].items() if k in registry["leads"]}
            by_quorum(registry, envelope | {"signatures": of_leads})
        raise Unsupported(str(newer)) from None
    _linked(registry, seq, record)
    return record


def _linked(registry: Registry, seq: int, record: Record) -> None:
    require(record["seq"] == seq and (record["type"] == "genesis") == (seq == 0), "the number of its place")
    if seq:
        require(record["registry_id"] == registry["id"], "this registry")
        require(record["prev"] == registry["hashes"][-1], "the record before it")
        require(record["created_at"] >= registry["records"][-1]["created_at"], "no step back in time")


# Who signed


def signers(envelope: Envelope, entitled: dict[str, Key]) -> set[str]:
    """Return who signed; every signature must verify and be by a key entitled to sign."""
    for key_id, signature in envelope["signatures"].items():
        require(key_id in entitled, "signatures by those entitled alone")
        require(entitled[key_id].verifies(signature, signed_bytes(envelope)), "signatures that verify")
    return set(envelope["signatures"])


def quorum(registry: Registry, signed: Collection[str]) -> bool:
    return len(registry["leads"].keys() & signed) >= registry["threshold"]


def by_quorum(registry: Registry, envelope: Envelope) -> None:
    """Require a quorum of leads, and nobody else."""
    require(quorum(registry, signers(envelope, registry["leads"])), "a quorum")


# What a record introduces


def take_role(registry: Registry, key: Key, role: str) -> None:
    """Require that a key never had another role, and note the one it has."""
    require(registry["roles"].setdefault(key, role) == role, "one role for each key")


def take_place(registry: Registry, record: Record) -> None:
    """Require that no other key ever had this place on a token."""
    require(registry["places"].setdefault(place(record), record["public_key"]) == record["public_key"], "a place")


def introduce(registry: Registry, record: Record) -> None:
    """Let the leads, logs and cosigners that a record names take their roles, and be the present ones."""
    for key in record.get("leads", {}).values():
        take_role(registry, key, "lead")
    for which, log in record.get("logs", {}).items():
        take_role(registry, log["public_key"], f"{which} log")
        take_place(registry, log)
    for cosigner in record.get("policy", {}).get("cosigners", {}).values():
        take_role(registry, cosigner["key"], "cosigner")
    registry.update({name: record[name] for name in ("leads", "threshold", "logs", "policy") if name in record})


def embed(registry: Registry, head: dict[str, Any], key: Key) -> None:
    """Let the embedded checkpoint of a record follow the one before it; note since when a quorum had cosigned it."""
    require(by_log(head, registry["logs"]["statements"]["origin"], key), "a checkpoint of the statement log")
    require(head["size"] >= registry["position"], "a position that does not fall")
    require(registry["positions"].setdefault(head["size"], head["root"]) == head["root"], "one root for each size")
    asked = policies_at(registry, head["size"])[-1]
    registry["embedded"].append(policy.met_since(asked, policy.times(asked, head)))
    registry["position"] = head["size"]


def witness_key(registry: Registry, record: Record, key_id: str) -> dict[str, Any]:
    key = registry["keys"].get(key_id)
    require(key and key["witness_id"] == record["witness_id"], "a key of the witness")
    return registry["keys"][key_id]  # type: ignore[no-any-return]


def is_open(key: dict[str, Any]) -> bool:
    return key["opened"] is not None and key["closed"] is None


def may_sign(key: dict[str, Any]) -> bool:
    return is_open(key) and key["trusted_size"] is None


# The types


def genesis(registry: Registry, record: Record, envelope: Envelope) -> None:
    introduce(registry, record)
    require(signers(envelope, record["leads"]) == record["leads"].keys(), "every lead")
    registry["environment"] = record["environment"]
    registry["eras"].append((-1, record["logs"]["statements"]["public_key"], record["policy"]))


def key_add(registry: Registry, record: Record, envelope: Envelope) -> None:
    key, key_id = record["public_key"], record["key_id"]
    require(key.key_id == key_id and key.algorithm == record["algorithm"], "what the key is")
    signed = signers(envelope, registry["leads"] | {key_id: key})
    require(key_id in signed and quorum(registry, signed), "a quorum and the new key")
    require(key_id not in registry["keys"], "a new key")
    take_role(registry, key, "witness")
    take_place(registry, record)
    registry["keys"][key_id] = record | {"opened": None, "closed": None, "trusted_size": None, "destroyed": False}


def rotate(registry: Registry, record: Record, envelope: Envelope) -> None:
    opens, closes, head = record["open"], record["close"], record["checkpoint"]
    require(opens != closes, "a key to open, one to close, or two")
    require((closes is None) == (record["count"] is None), "a count for a key to close")
    opened = witness_key(registry, record, opens) if opens else None
    closed = witness_key(registry, record, closes) if closes else None
    require(opened is None or opened["opened"] is None, "a key that was never opened")
    require(opened is None or (opened["trusted_size"] is None and not opened["destroyed"]), "a key that may open")
    require(closed is None or is_open(closed), "a key that is open")
    signed = signers(envelope, registry["leads"] | _may_rotate(registry, record))
    require(opens is None or opens in signed, "the key that opens")
    require(signed - {opens} - registry["leads"].keys() or quorum(registry, signed), "a sponsor or a quorum")
    embed(registry, head, registry["logs"]["statements"]["public_key"])
    if closed:
        asked = registry["policy"]
        require(policy.is_met(asked, policy.times(asked, head)), "a seal that the cosigners have seen")
        require(record["count"] <= head["size"] - closed["opened"], "a count that fits")
        closed["closed"] = head["size"]
    if opened:
        opened["opened"] = head["size"]


def _may_rotate(registry: Registry, record: Record) -> dict[str, Key]:
    """Return the witness keys that may sign a rotation: the opened one, and whoever may sponsor it."""
    of_witness = {k: it for k, it in registry["keys"].items() if it["witness_id"] == record["witness_id"]}
    if record["close"]:
        sponsors = {k for k in of_witness if k == record["close"] and may_sign(of_witness[k])}
    else:
        sponsors = {k for k in of_witness if may_sign(of_witness[k])}
    return {k: of_witness[k]["public_key"] for k in sponsors | ({record["open"]} if record["open"] else set())}


def compromise(registry: Registry, record: Record, envelope: Envelope) -> None:
    by_quorum(registry, envelope)
    key = witness_key(registry, record, record["key_id"])
    before = key["trusted_size"]
    require(before is None or record["trusted_size"] < before, "a lower cut")
    key["trusted_size"] = record["trusted_size"]


def leads(registry: Registry, record: Record, envelope: Envelope) -> None:
    signed = signers(envelope, registry["leads"] | record["leads"])
    require(quorum(registry, signed) and signed >= record["leads"].keys(), "a quorum and every new lead")
    introduce(registry, record)


def policy_change(registry: Registry, record: Record, envelope: Envelope) -> None:
    by_quorum(registry, envelope)
    for which, log in record["logs"].items():
        require(log["origin"] == registry["logs"][which]["origin"], "the same origin")
        is_present = log["public_key"] == registry["logs"][which]["public_key"]
        require(is_present or log["public_key"] not in registry["roles"], "a log key that was never replaced")
    key = record["logs"]["statements"]["public_key"]
    embed(registry, record["checkpoint"], key)
    introduce(registry, record)
    registry["policy_position"] = record["checkpoint"]["size"]
    registry["eras"].append((record["checkpoint"]["size"], key, record["policy"]))


def destroyed(registry: Registry, record: Record, envelope: Envelope) -> None:
    by_quorum(registry, envelope)
    key = witness_key(registry, record, record["key_id"])
    require(not is_open(key) and not key["destroyed"], "a key that is not open and not destroyed")
    key["destroyed"] = True


RULES = {
    "genesis": genesis,
    "key-add": key_add,
    "rotate": rotate,
    "compromise": compromise,
    "leads": leads,
    "policy": policy_change,
    "destroyed": destroyed,
}


# Log keys and policy by size


def policies_at(registry: Registry, size: int) -> list[policy.Policy]:
    """Return the policies for checkpoints of the statement log of a size, newest first; the last is from below it."""
    return [asked for _, asked in _eras_at(registry, size)]


def log_keys_at(registry: Registry, size: int) -> set[Key]:
    """Return the keys whose checkpoint of a size counts."""
    return {key for key, _ in _eras_at(registry, size)}


def _eras_at(registry: Registry, size: int) -> list[tuple[Key, policy.Policy]]:
    below = [(key, asked) for begins, key, asked in registry["eras"] if begins < size]
    at = [(key, asked) for begins, key, asked in registry["eras"] if begins == size]
    return [*reversed(at), below[-1]]
