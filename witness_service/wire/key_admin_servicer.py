"""The KeyAdmin service: changes proposed here and signed by leads elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from key_registry import dsse
from key_registry.errors import FormatError
from witness_service.clock import utc_text
from witness_service.proposals import Proposals
from witness_service.refusal import invalid
from witness_service.stops import Stops
from witness_service.v1 import key_admin_pb2, key_admin_pb2_grpc
from witness_service.wire import proposal_messages as messages
from witness_service.wire.answering import Context, answering

Result = TypeVar("Result")


class KeyAdminServicer(key_admin_pb2_grpc.KeyAdminServicer):
    """Answers the calls of the KeyAdmin service."""

    def __init__(self, proposals: Proposals, stops: Stops) -> None:
        self._proposals = proposals
        self._stops = stops

    async def Propose(self, request: key_admin_pb2.ProposeRequest, context: Context) -> key_admin_pb2.ProposeResponse:
        async with answering(context, "Propose"):
            lead = _signature(request.lead) if request.HasField("lead") else None
            if request.dry_run:
                draft = await self._proposals.draft(request.request, lead)
                return key_admin_pb2.ProposeResponse(proposal=messages.draft(request.request, draft))
            progress = await _to_its_end(self._proposals.propose(request.request, lead))
            return key_admin_pb2.ProposeResponse(proposal=messages.proposal(progress))

    async def Approve(self, request: key_admin_pb2.ApproveRequest, context: Context) -> key_admin_pb2.ApproveResponse:
        async with answering(context, "Approve"):
            signatures = tuple(request.signatures)
            approving = self._proposals.approve(request.proposal_id, request.lead_key_id, signatures)
            progress = await _to_its_end(approving)
            return key_admin_pb2.ApproveResponse(
                proposal=messages.proposal(progress), already_signed=progress.already_signed
            )

    async def Reject(self, request: key_admin_pb2.RejectRequest, context: Context) -> key_admin_pb2.RejectResponse:
        async with answering(context, "Reject"):
            progress = await self._proposals.reject(request.proposal_id, request.order)
            return key_admin_pb2.RejectResponse(proposal=messages.proposal(progress))

    async def Abort(self, request: key_admin_pb2.AbortRequest, context: Context) -> key_admin_pb2.AbortResponse:
        async with answering(context, "Abort"):
            progress = await self._proposals.abort(request.proposal_id)
            return key_admin_pb2.AbortResponse(proposal=messages.proposal(progress))

    async def GetProposal(
        self, request: key_admin_pb2.GetProposalRequest, context: Context
    ) -> key_admin_pb2.GetProposalResponse:
        async with answering(context, "GetProposal"):
            progress = await self._proposals.progress(request.proposal_id)
            return key_admin_pb2.GetProposalResponse(proposal=messages.proposal(progress))

    async def ListProposals(
        self, request: key_admin_pb2.ListProposalsRequest, context: Context
    ) -> key_admin_pb2.ListProposalsResponse:
        async with answering(context, "ListProposals"):
            found = await (self._proposals.latest() if request.all else self._proposals.running())
            return key_admin_pb2.ListProposalsResponse(proposals=map(messages.proposal, found))

    async def StopKey(self, request: key_admin_pb2.StopKeyRequest, context: Context) -> key_admin_pb2.StopKeyResponse:
        async with answering(context, "StopKey"):
            stopped = await _to_its_end(self._stops.stop(request.order))
            return key_admin_pb2.StopKeyResponse(
                order=stopped.order.envelope.to_json(),
                stopped_at=utc_text(stopped.order.created_at),
                was_stopped=stopped.was_before,
            )


async def _to_its_end(work: Awaitable[Result]) -> Result:
    """Wait for work that goes on when the caller hangs up: a change must not be left half way."""
    return await asyncio.shield(asyncio.ensure_future(work))


def _signature(message: key_admin_pb2.LeadSignature) -> dsse.Signature:
    try:
        return dsse.Signature(message.lead_key_id, message.signature)
    except FormatError as error:
        raise invalid("lead", f"lead: {error}") from error
