"""The KeyAdmin service: rotations, proposed here and signed by leads elsewhere."""

from __future__ import annotations

import asyncio

from witness_service.rotation import Rotation
from witness_service.v1 import key_admin_pb2, key_admin_pb2_grpc
from witness_service.wire import messages
from witness_service.wire.answering import Context, answering


class KeyAdminServicer(key_admin_pb2_grpc.KeyAdminServicer):
    """Answers the calls of the KeyAdmin service."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation

    async def ProposeRotation(
        self, request: key_admin_pb2.ProposeRotationRequest, context: Context
    ) -> key_admin_pb2.ProposeRotationResponse:
        async with answering(context, "ProposeRotation"):
            progress = await self._rotation.propose(request.witness_id, request.algorithm)
            return key_admin_pb2.ProposeRotationResponse(proposal=messages.proposal(progress))

    async def Approve(self, request: key_admin_pb2.ApproveRequest, context: Context) -> key_admin_pb2.ApproveResponse:
        async with answering(context, "Approve"):
            approving = self._rotation.approve(request.proposal_id, request.lead_key_id, request.signature)
            # A lead who hangs up must not leave the hand-over half way.
            progress = await asyncio.shield(asyncio.ensure_future(approving))
            return key_admin_pb2.ApproveResponse(proposal=messages.proposal(progress))

    async def GetProposal(
        self, request: key_admin_pb2.GetProposalRequest, context: Context
    ) -> key_admin_pb2.GetProposalResponse:
        async with answering(context, "GetProposal"):
            progress = await self._rotation.progress(request.proposal_id)
            return key_admin_pb2.GetProposalResponse(proposal=messages.proposal(progress))

    async def Abort(self, request: key_admin_pb2.AbortRequest, context: Context) -> key_admin_pb2.AbortResponse:
        async with answering(context, "Abort"):
            progress = await self._rotation.abort(request.proposal_id)
            return key_admin_pb2.AbortResponse(proposal=messages.proposal(progress))
