"""The kinds of proposals: for each, how what the leads sign follows from what was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from key_registry.canonical_json import JSONValue
from witness_service.proposal_kinds.compromise import compromise
from witness_service.proposal_kinds.destroyed import destroyed
from witness_service.proposal_kinds.draft import Draft, Drafting, require_storable
from witness_service.proposal_kinds.leads import leads
from witness_service.proposal_kinds.new_key import add_witness, rotate
from witness_service.proposal_kinds.new_keys import NewKeys
from witness_service.proposal_kinds.policy import policy
from witness_service.proposal_kinds.resume import resume
from witness_service.proposal_kinds.retire import retire

Kind = Callable[[Drafting, Mapping[str, JSONValue]], Awaitable[Draft]]
"""Raises Refused, or FormatError for arguments that are not of its form."""

KINDS: Mapping[str, Kind] = {
    "add-witness": add_witness,
    "compromise": compromise,
    "destroyed": destroyed,
    "leads": leads,
    "policy": policy,
    "resume": resume,
    "retire": retire,
    "rotate": rotate,
}

EMERGENCIES = frozenset({"compromise", "resume"})
"""Kinds that wait for no other proposal."""

__all__ = ["EMERGENCIES", "KINDS", "Draft", "Drafting", "Kind", "NewKeys", "require_storable"]
