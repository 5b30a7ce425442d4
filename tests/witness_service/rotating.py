"""Changes as leads make them: proposed over the wire, signed on the lead's own machine."""

from __future__ import annotations

import uuid
from pathlib import Path

from key_registry import dsse
from key_registry.canonical_json import JSONValue
from witness_service import clock
from witness_service.lead_key import LeadKey
from witness_service.orders import REJECTION_TYPE, REQUEST_TYPE, ProposalRequest, Rejection, StopOrder
from witness_service.wire.client import WitnessClient
from witness_service.wire.proposal_answers import ListedProposal, StoppedKey


def request(client: WitnessClient, kind: str, /, **arguments: JSONValue) -> ProposalRequest:
    """Return a request of now to the registry of a service."""
    return ProposalRequest(client.status().registry_id, str(uuid.uuid4()), kind, arguments, clock.now())


def propose(client: WitnessClient, kind: str, lead: Path | None = None, /, **arguments: JSONValue) -> ListedProposal:
    """Propose a change, as a lead if one is given."""
    body = request(client, kind, **arguments).encode()
    return client.propose(body, LeadKey.load(lead).sign(REQUEST_TYPE, body) if lead else None)


def propose_rotation(
    client: WitnessClient, witness_id: str, algorithm: str = "", reason: str = "rotation"
) -> ListedProposal:
    """Propose a new key for a witness."""
    return propose(client, "rotate", witness_id=witness_id, algorithm=algorithm, reason=reason)


def signatures(lead: LeadKey, proposal: ListedProposal) -> list[bytes]:
    """Return a lead's signature over each document of a proposal."""
    return [lead.sign(it.payload_type, it.body).signature for it in proposal.documents]


def approve(client: WitnessClient, lead_key: Path, proposal: ListedProposal) -> ListedProposal:
    """Sign a proposal as a lead and return it as it is afterwards."""
    lead = LeadKey.load(lead_key)
    return client.approve(proposal.proposal_id, lead.public_key.key_id, signatures(lead, proposal))[0]


def reject(client: WitnessClient, lead_key: Path, proposal: ListedProposal, reason: str = "no") -> ListedProposal:
    """Reject a proposal as a lead and return it as it is afterwards."""
    order = Rejection(client.status().registry_id, proposal.proposal_id, reason, clock.now())
    return client.reject(proposal.proposal_id, rejection(lead_key, order))


def rejection(lead_key: Path, order: Rejection) -> bytes:
    """Return a signed rejection."""
    signed = LeadKey.load(lead_key).sign(REJECTION_TYPE, order.encode())
    return dsse.Envelope(REJECTION_TYPE, order.encode(), (signed,)).to_json()


def stop_order(lead_key: Path, registry_id: str, key_id: str, number: int = 1, reason: str = "a test") -> bytes:
    """Return a signed order to stop a key."""
    order = StopOrder(registry_id, key_id, number, reason, clock.now())
    signed = LeadKey.load(lead_key).sign(order.PAYLOAD_TYPE, order.encode())
    return dsse.Envelope(order.PAYLOAD_TYPE, order.encode(), (signed,)).to_json()


def stop(client: WitnessClient, lead_key: Path, key_id: str) -> StoppedKey:
    """Stop a key as a lead, whatever orders there were about it."""
    (number,) = [key.order_count for key in client.keys().keys if key.key_id == key_id]
    return client.stop_key(stop_order(lead_key, client.status().registry_id, key_id, number + 1 + number % 2))


def changed(client: WitnessClient, lead_key: Path, kind: str, /, **arguments: JSONValue) -> ListedProposal:
    """Propose and sign a change where one lead is the quorum, and return it done."""
    done = approve(client, lead_key, propose(client, kind, **arguments))
    assert done.state == "done", done
    return done


def rotate(address: str, lead_key: Path, witness_id: str, algorithm: str = "") -> ListedProposal:
    """Rotate a witness's key and return the proposal that did it."""
    with WitnessClient(address) as client:
        done = approve(client, lead_key, propose_rotation(client, witness_id, algorithm))
    assert done.state == "done"
    return done


def witness_ids(address: str) -> list[str]:
    """Return the witnesses of a service."""
    with WitnessClient(address) as client:
        return sorted({key.witness_id for key in client.keys().keys})
