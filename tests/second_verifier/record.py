"""The forms of registry records (docs/format.md, "Registry")."""

from __future__ import annotations

from typing import Any

from . import forms
from .envelope import RECORD, Envelope
from .forms import Unsupported, listed, optional, require, shape
from .note import is_key_name, read_checkpoint
from .policy import read_policy
from .public_key import Key, read_key

Record = dict[str, Any]


class NewerRecord(Exception):
    """A record with a key that this verifier does not have; `link` has the members that every record has."""

    def __init__(self, link: Record) -> None:
        super().__init__("a key of an algorithm that is not supported")
        self.link = link


def key_of_der(value: Any) -> Key:
    return read_key(forms.base64(value))


def leads(value: Any) -> dict[str, Key]:
    """The security leads: keys by key id, ascending, no name or key twice."""
    items = listed(lambda item: shape(item, {"name": forms.name, "public_key": key_of_der}))(value)
    ids = [item["public_key"].key_id for item in items]
    require(ids == sorted(set(ids)), "leads ascending by key id")
    require(len({item["name"] for item in items}) == len(items), "each lead's name once")
    return {item["public_key"].key_id: item["public_key"] for item in items}


def log(value: Any) -> dict[str, Any]:
    """A log: its origin, its Ed25519 key, and where the key is."""
    named = {"cka_id": forms.cka_id, "origin": forms.name, "public_key": key_of_der, "token_serial": forms.name}
    members = shape(value, named)
    require(is_key_name(members["origin"]), "an origin that is a key name")
    require(members["public_key"].algorithm == "ed25519", "an Ed25519 key")
    return members


def place(record: Record) -> tuple[str, str]:
    """Return where on a token a key is."""
    return record["token_serial"], record["cka_id"]


def logs(value: Any) -> dict[str, Any]:
    """The two logs, which differ."""
    both = shape(value, {"registry": log, "statements": log})
    require(both["registry"]["origin"] != both["statements"]["origin"], "two origins")
    require(both["registry"]["public_key"] != both["statements"]["public_key"], "two keys")
    require(place(both["registry"]) != place(both["statements"]), "two places")
    return both


def checkpoint(value: Any) -> dict[str, Any]:
    return read_checkpoint(forms.text(value).encode())


def streams(value: Any) -> list[str]:
    patterns = listed(forms.name)(value)
    require(patterns and len(set(patterns)) == len(patterns), "patterns, each once")
    return list(patterns)


def attributes(value: Any) -> dict[str, str]:
    require(isinstance(value, dict), "an object")
    return {name: forms.name(said) for name, said in value.items()}


WITNESS = {"witness_id": forms.witness_id}
MEMBERS: dict[str, dict[str, forms.Form]] = {
    "genesis": {
        "environment": forms.environment,
        "leads": leads,
        "logs": logs,
        "policy": read_policy,
        "threshold": forms.number,
    },
    "key-add": WITNESS
    | {
        "algorithm": forms.algorithm,
        "attributes": attributes,
        "cka_id": forms.cka_id,
        "key_id": forms.hex32,
        "public_key": key_of_der,
        "reason": forms.name,
        "streams": streams,
        "token_serial": forms.name,
    },
    "rotate": WITNESS
    | {
        "checkpoint": checkpoint,
        "close": optional(forms.hex32),
        "count": optional(forms.number),
        "open": optional(forms.hex32),
        "reason": forms.name,
    },
    "compromise": WITNESS
    | {
        "key_id": forms.hex32,
        "reason": forms.name,
        "suspected_since": optional(forms.moment),
        "trusted_size": forms.number,
    },
    "leads": {"leads": leads, "threshold": forms.number},
    "policy": {"checkpoint": checkpoint, "logs": logs, "policy": read_policy},
    "destroyed": WITNESS | {"key_id": forms.hex32},
}


def null(value: Any) -> None:
    require(value is None, "null")


def read_record(envelope: Envelope) -> Record:
    """Read the body of a record; what makes it follow from others is not looked at.

    Raises:
        Malformed: it is not of its form.
        NewerRecord: it names a key of an algorithm that is not supported; nobody can tell whether it follows.
    """
    require(envelope["type"] == RECORD, "an envelope of a record")
    body = forms.read_body(envelope["body"])
    require(isinstance(body, dict) and body.get("type") in list(MEMBERS), "a record of a type that is known")
    before = null if body["type"] == "genesis" else forms.hex32
    link = {"created_at": forms.moment, "prev": before, "registry_id": before, "seq": forms.number, "type": forms.text}
    try:
        record = shape(body, link | MEMBERS[body["type"]])
    except Unsupported:
        raise NewerRecord({name: form(body.get(name)) for name, form in link.items()}) from None
    if "threshold" in record:
        require(1 <= record["threshold"] <= len(record["leads"]), "a threshold from 1 to the number of leads")
    return record
