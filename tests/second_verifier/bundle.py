"""Bundles: a copy of the registry, and up to where it is complete (docs/format.md, "The bundle, first")."""

from __future__ import annotations

from typing import Any

from . import forms, merkle
from . import policy as policies
from .envelope import COVERAGE, Envelope, read_envelope, record_hash, signed_bytes
from .forms import Malformed, Unsupported, listed, require, shape
from .history import Registry, replay
from .note import by_log, read_checkpoint

LARGEST = 67_108_864

COVERAGE_MEMBERS: dict[str, forms.Form] = {
    "created_at": forms.moment,
    "registry_id": forms.hex32,
    "registry_root": forms.hex32,
    "registry_size": forms.number,
    "statement_root": forms.hex32,
    "statement_size": forms.number,
}


class Refused(Exception):
    """A bundle by which nothing can be judged, and the code that says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def read_bundle(data: bytes, registry_id: str) -> Registry:
    """Return what a bundle says about the pinned registry; raise Refused."""
    try:
        return _read(data, registry_id)
    except Unsupported:
        raise Refused("UNSUPPORTED_ALGORITHM") from None
    except Malformed:
        raise Refused("REGISTRY_INVALID") from None


def _read(data: bytes, registry_id: str) -> Registry:
    require(len(data) <= LARGEST, f"a bundle of at most {LARGEST} bytes")
    bundle = shape(
        forms.read_json(data),
        {
            "coverage": read_envelope,
            "format": forms.text,
            "records": listed(read_envelope),
            "registry_checkpoint": forms.text,
        },
    )
    require(bundle["format"] == "witness-service/bundle/v1" and bundle["records"], "records in a bundle of version 1")
    if record_hash(bundle["records"][0]) != registry_id:
        raise Refused("WRONG_REGISTRY")
    registry = replay(bundle["records"])
    registry["cosigned"] = _registry_checkpoint(registry, bundle["registry_checkpoint"].encode())
    registry["coverage"] = _coverage(registry, bundle["coverage"])
    return registry


def _registry_checkpoint(registry: Registry, checkpoint: bytes) -> dict[str, int]:
    """Steps B4 and B5; returns when each cosigner cosigned it."""
    head, log = read_checkpoint(checkpoint), registry["logs"]["registry"]
    require(by_log(head, log["origin"], log["public_key"]), "a checkpoint of the registry log")
    require((head["size"], head["root"]) == (registry["size"], registry["roots"][-1]), "the head of these records")
    cosigned = policies.times(registry["policy"], head)
    if not policies.is_met(registry["policy"], cosigned):
        raise Refused("QUORUM_NOT_MET")
    return cosigned


def _coverage(registry: Registry, envelope: Envelope) -> dict[str, Any]:
    """Steps B6 to B8."""
    key = registry["logs"]["registry"]["public_key"]
    require(envelope["type"] == COVERAGE, "an envelope of a coverage")
    require(envelope["signatures"].keys() == {key.key_id}, "a signature by the registry log key alone")
    require(key.verifies(envelope["signatures"][key.key_id], signed_bytes(envelope)), "a signature that verifies")
    coverage = shape(forms.read_body(envelope["body"]), COVERAGE_MEMBERS)
    said = (coverage["registry_id"], coverage["registry_size"], coverage["registry_root"])
    require(said == (registry["id"], registry["size"], registry["roots"][-1].hex()), "the coverage of these records")
    size, root = coverage["statement_size"], bytes.fromhex(coverage["statement_root"])
    require(size >= registry["position"], "a statement log that did not shrink")
    require(size or root == merkle.EMPTY, "the empty root at size 0")
    require(registry["positions"].get(size, root) == root, "one root for each size")
    return coverage
