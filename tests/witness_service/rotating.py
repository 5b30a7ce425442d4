"""Rotations as a lead makes them: proposed over the wire, signed on the lead's own machine."""

from __future__ import annotations

from pathlib import Path

from witness_service.lead_key import LeadKey
from witness_service.wire.answers import RotationProposal
from witness_service.wire.client import WitnessClient


def approve(client: WitnessClient, lead_key: Path, proposal: RotationProposal) -> RotationProposal:
    """Sign a proposal as its lead and return it as it is afterwards."""
    signature = LeadKey.load(lead_key).sign_record(proposal.record)
    return client.approve(proposal.proposal_id, signature.key_id, signature.signature)


def rotate(address: str, lead_key: Path, witness_id: str, algorithm: str = "") -> RotationProposal:
    """Rotate a witness's key and return the proposal that did it."""
    with WitnessClient(address) as client:
        done = approve(client, lead_key, client.propose_rotation(witness_id, algorithm))
    assert done.state == "done"
    return done


def witness_ids(address: str) -> list[str]:
    """Return the witnesses of a service."""
    with WitnessClient(address) as client:
        return sorted({key.witness_id for key in client.keys().keys})
