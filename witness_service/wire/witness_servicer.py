"""The Witness service: from messages to the sign path and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from witness_service.claimed import Outcome
from witness_service.config import LimitsSection
from witness_service.cosigning.rounds import Cosigning
from witness_service.event import MAX_SEQUENCE, check_place
from witness_service.proofs import Proofs
from witness_service.refusal import Code, Reason, Refused
from witness_service.sign_path import SignPath
from witness_service.status import Status
from witness_service.v1 import witness_pb2, witness_pb2_grpc
from witness_service.wire import messages
from witness_service.wire.answering import Context, answering

MAX_EVENTS = 512
"""Events in one SignStreamRequest."""


class WitnessServicer(witness_pb2_grpc.WitnessServicer):
    """Answers the calls of the Witness service."""

    def __init__(
        self, sign_path: SignPath, proofs: Proofs, cosigning: Cosigning, status: Status, limits: LimitsSection
    ) -> None:
        self._sign_path = sign_path
        self._proofs = proofs
        self._cosigning = cosigning
        self._status = status
        self._limits = limits

    async def Sign(self, request: witness_pb2.SignRequest, context: Context) -> witness_pb2.SignResponse:
        async with answering(context, "Sign"):
            seconds = self._seconds_left(context)
            answered = self._sign_path.submit([messages.event_of(request.event)], seconds)
            try:
                async with asyncio.timeout(seconds):
                    (outcome,) = await answered
            except TimeoutError:
                raise _too_late() from None
            if isinstance(outcome, Refused):
                raise outcome
            return witness_pb2.SignResponse(attestations=[messages.attestation(item) for item in outcome])

    async def SignStream(
        self, request_iterator: AsyncIterator[witness_pb2.SignStreamRequest], context: Context
    ) -> AsyncIterator[witness_pb2.SignStreamResponse]:
        async with answering(context, "SignStream"):
            window = _Window(self._limits.stream_window_events)
            reader = asyncio.create_task(self._read(request_iterator, window))
            try:
                while (answered := await window.next()) is not None:
                    outcomes = await answered
                    window.done(len(outcomes))
                    yield witness_pb2.SignStreamResponse(results=[messages.sign_result(item) for item in outcomes])
                await reader
            finally:
                reader.cancel()

    async def _read(self, requests: AsyncIterator[witness_pb2.SignStreamRequest], window: _Window) -> None:
        """Submit requests as they come, as far as there is room: more than that stays in the network."""
        try:
            async for request in requests:
                if not 1 <= len(request.events) <= MAX_EVENTS:
                    raise Refused(
                        Code.INVALID_ARGUMENT,
                        Reason.BATCH_SIZE,
                        f"events: expected 1 to {MAX_EVENTS} in a message, got {len(request.events)}",
                        {"field": "events"},
                    )
                await window.admit(len(request.events))
                await self._sign_path.wait_for_room(len(request.events))
                window.put(self._submit(request))
        finally:
            window.end()

    def _submit(self, request: witness_pb2.SignStreamRequest) -> asyncio.Future[list[Outcome]]:
        """Submit one message; if it is refused whole, every event of it has that outcome and the stream goes on."""
        events = [messages.event_of(event) for event in request.events]
        try:
            return self._sign_path.submit(events, self._limits.default_deadline_seconds)
        except Refused as refused:
            answered: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
            answered.set_result([refused] * len(events))
            return answered

    async def GetAttestation(
        self, request: witness_pb2.GetAttestationRequest, context: Context
    ) -> witness_pb2.GetAttestationResponse:
        async with answering(context, "GetAttestation"):
            check_place(request.stream, request.sequence)
            found = await self._proofs.attestations(request.stream, request.sequence)
            return witness_pb2.GetAttestationResponse(attestations=[messages.attestation(item) for item in found])

    async def GetProof(self, request: witness_pb2.GetProofRequest, context: Context) -> witness_pb2.GetProofResponse:
        async with answering(context, "GetProof"):
            check_place(request.stream, request.sequence)
            if request.wait_cosigned_milliseconds:
                leaves = await self._proofs.leaves(request.stream, request.sequence)
                await self._cosigning.wait(leaves, request.wait_cosigned_milliseconds / 1000)
            files = await self._proofs.evidence(request.stream, request.sequence)
            return witness_pb2.GetProofResponse(
                evidence=messages.evidence(files), timestamps=messages.timestamps(files, set())
            )

    async def ListProofs(
        self, request: witness_pb2.ListProofsRequest, context: Context
    ) -> AsyncIterator[witness_pb2.ListProofsResponse]:
        async with answering(context, "ListProofs"):
            first = request.first_sequence
            last = request.last_sequence if request.HasField("last_sequence") else MAX_SEQUENCE
            check_place(request.stream, first, field="first_sequence")
            check_place(request.stream, last, field="last_sequence")
            if request.wait_cosigned_milliseconds:
                await self._cosigning.wait_for_head(request.wait_cosigned_milliseconds / 1000)
            stamped: set[int] = set()
            async for page in self._proofs.evidence_between(request.stream, first, last):
                yield witness_pb2.ListProofsResponse(
                    evidence=messages.evidence(page), timestamps=messages.timestamps(page, stamped)
                )

    async def GetStatus(self, request: witness_pb2.GetStatusRequest, context: Context) -> witness_pb2.GetStatusResponse:
        async with answering(context, "GetStatus"):
            head = await self._status.statement_head()
            registry = self._status.registry()
            return witness_pb2.GetStatusResponse(
                environment=registry.environment,
                registry_id=registry.registry_id,
                registry_size=registry.size,
                registry_root=registry.root().hex(),
                statement_size=head.size,
                statement_root=head.root.hex(),
                version=self._status.version,
                serving_since=self._status.serving_since,
                tokens=[
                    witness_pb2.TokenStatus(
                        label=token.label, serial=token.serial, state=token.state, reason=token.reason
                    )
                    for token in self._status.tokens()
                ],
                events_in_flight=self._sign_path.events_in_flight,
                cosigners=[messages.cosigner_status(state) for state in self._status.cosigners()],
                contradictions=self._status.contradictions(),
                timestamp_problem=self._status.timestamp_problem(),
            )

    def _seconds_left(self, context: Context) -> float:
        """Return the time until the caller's deadline, or the default for a caller without one."""
        left: float | None = context.time_remaining()  # the stubs do not know that it may be None
        return self._limits.default_deadline_seconds if left is None else left


class _Window:
    """The messages of a stream that are being worked on, in their order, and how many events they hold."""

    def __init__(self, events: int) -> None:
        self._room = events
        self._changed = asyncio.Event()
        self._answers: asyncio.Queue[asyncio.Future[list[Outcome]] | None] = asyncio.Queue()

    async def admit(self, events: int) -> None:
        """Wait until so many more events fit."""
        while self._room < events:
            self._changed.clear()
            await self._changed.wait()
        self._room -= events

    def put(self, answered: asyncio.Future[list[Outcome]]) -> None:
        self._answers.put_nowait(answered)

    def end(self) -> None:
        self._answers.put_nowait(None)

    async def next(self) -> asyncio.Future[list[Outcome]] | None:
        """Return the next message's answer, None after the last."""
        return await self._answers.get()

    def done(self, events: int) -> None:
        self._room += events
        self._changed.set()


def _too_late() -> Refused:
    return Refused(
        Code.DEADLINE_EXCEEDED,
        Reason.OUTCOME_UNKNOWN,
        "the deadline passed before the attestation was durable; it will be completed: ask again, it is safe",
    )
