"""The client of the service, as the commands use it: typed values in, typed values out.

Every call returns or raises `Refused`; a service that cannot be reached is Code.UNAVAILABLE with the reason
UNREACHABLE. What comes back is not verified here: `witness_service.attested_check` does that against a pinned
registry.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import grpc

from witness_service.event import Attested, Event
from witness_service.refusal import Code, Refused
from witness_service.v1 import (
    key_admin_pb2,
    key_admin_pb2_grpc,
    key_registry_pb2,
    key_registry_pb2_grpc,
    witness_pb2,
    witness_pb2_grpc,
)
from witness_service.wire.answers import (
    EvidenceFile,
    History,
    KeyList,
    RotationProposal,
    ServiceStatus,
    attested,
    event_message,
    evidence_files,
    listed_key,
    listed_record,
    rotation_proposal,
    service_status,
)
from witness_service.wire.backoff import Backoff
from witness_service.wire.refusals import refusals
from witness_service.wire.sign_flow import SignFlow, SignOutcome

TIMEOUT = 10.0
"""Seconds a unary call may take."""

ROTATION_TIMEOUT = 60.0
"""Seconds a step of a rotation may take: it makes a key in the token and waits for what the old one still signs."""

_OPTIONS = (
    # A proxy of the environment is meant for the web; it would also get the calls to this machine.
    ("grpc.enable_http_proxy", 0),
    # A bundle holds every registry record and grows with each rotation; gRPC's own limit is 4 MiB.
    ("grpc.max_receive_message_length", 256 * 1024 * 1024),
    # gRPC's own first wait of a second would make a command miss a service that is just starting.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class WitnessClient:
    """A connection to one service; a context manager."""

    def __init__(self, address: str) -> None:
        """Prepare a connection to HOST:PORT (or unix:PATH); nothing is sent before the first call."""
        self.address = address
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._witness = witness_pb2_grpc.WitnessStub(self._channel)
        self._registry = key_registry_pb2_grpc.KeyRegistryStub(self._channel)
        self._admin = key_admin_pb2_grpc.KeyAdminStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every call and the connection."""
        self._channel.close()

    def wait_ready(self, *, timeout: float) -> ServiceStatus:
        """Wait until the service answers, at most timeout seconds, and return its status."""
        with refusals(self.address):
            request = witness_pb2.GetStatusRequest()
            return service_status(self._witness.GetStatus(request, timeout=timeout, wait_for_ready=True))

    # -- signing ---------------------------------------------------------------------------------------------

    def sign(self, event: Event, *, timeout: float = TIMEOUT, retry_for: float = 0.0) -> tuple[Attested, ...]:
        """Return the attestations of one event.

        timeout: seconds per attempt. retry_for: seconds during which UNAVAILABLE is asked again; that is
        safe, because the same event again gives the stored attestations.
        """
        request = witness_pb2.SignRequest(event=event_message(event))
        backoff = Backoff(retry_for)
        while True:
            try:
                with refusals(self.address):
                    response = self._witness.Sign(request, timeout=timeout)
                return tuple(attested(item) for item in response.attestations)
            except Refused as refused:
                if refused.code is not Code.UNAVAILABLE or not backoff.wait():
                    raise

    def sign_stream(
        self,
        batches: Iterable[Sequence[Event]],
        *,
        window: int = 4,
        answer_timeout: float = 30.0,
        retry_for: float = 0.0,
    ) -> Generator[list[SignOutcome]]:
        """Yield, in order, one list of outcomes per batch of 1 to 512 events: attestations, or a Refused.

        window: batches in flight. answer_timeout: seconds to wait for one answer. retry_for: seconds without
        progress during which a broken stream, or a batch with an UNAVAILABLE event, is sent again.
        """
        flow = SignFlow(
            self._witness.SignStream,
            self.address,
            window=window,
            answer_timeout=answer_timeout,
            retry_for=retry_for,
        )
        return flow.run(batches)

    # -- what was signed -------------------------------------------------------------------------------------

    def get(self, stream: str, sequence: int) -> tuple[Attested, ...]:
        """Return the attestations of a place."""
        request = witness_pb2.GetAttestationRequest(stream=stream, sequence=sequence)
        with refusals(self.address):
            response = self._witness.GetAttestation(request, timeout=TIMEOUT)
        return tuple(attested(item) for item in response.attestations)

    def proof(self, stream: str, sequence: int) -> list[EvidenceFile]:
        """Return the evidence for a place, one per attestation."""
        request = witness_pb2.GetProofRequest(stream=stream, sequence=sequence)
        with refusals(self.address):
            return evidence_files(self._witness.GetProof(request, timeout=TIMEOUT).evidence)

    def list_proofs(self, stream: str, first: int, last: int | None) -> Iterator[list[EvidenceFile]]:
        """Yield the evidence for the places first to last (None: the last attested), in their order, in portions."""
        request = witness_pb2.ListProofsRequest(stream=stream, first_sequence=first, last_sequence=last)
        with refusals(self.address):
            for response in self._witness.ListProofs(request):
                yield evidence_files(response.evidence)

    def status(self) -> ServiceStatus:
        """Return what the instance is and where its logs stand."""
        with refusals(self.address):
            return service_status(self._witness.GetStatus(witness_pb2.GetStatusRequest(), timeout=TIMEOUT))

    # -- the key registry ------------------------------------------------------------------------------------

    def keys(self) -> KeyList:
        """Return every key version."""
        with refusals(self.address):
            response = self._registry.ListKeys(key_registry_pb2.ListKeysRequest(), timeout=TIMEOUT)
        return KeyList(tuple(map(listed_key, response.keys)), response.registry_size, response.statement_size)

    def history(self, *, position: int | None = None, time: str | None = None, witness_id: str = "") -> History:
        """Return records and keys as of a statement-log position or a time (one of them, or neither for now)."""
        request = key_registry_pb2.GetHistoryRequest(witness_id=witness_id)
        if position is not None:
            request.position = position
        if time is not None:
            request.time = time
        with refusals(self.address):
            response = self._registry.GetHistory(request, timeout=TIMEOUT)
        return History(tuple(map(listed_record, response.records)), tuple(map(listed_key, response.keys)))

    def bundle(self) -> bytes:
        """Return the content of bundle.json, unverified."""
        with refusals(self.address):
            return self._registry.GetBundle(key_registry_pb2.GetBundleRequest(), timeout=TIMEOUT).bundle

    # -- key changes -----------------------------------------------------------------------------------------

    def propose_rotation(self, witness_id: str, algorithm: str = "") -> RotationProposal:
        """Make a new key in the token and return what the leads have to sign; algorithm "": that of the
        old key.
        """
        request = key_admin_pb2.ProposeRotationRequest(witness_id=witness_id, algorithm=algorithm)
        with refusals(self.address):
            return rotation_proposal(self._admin.ProposeRotation(request, timeout=ROTATION_TIMEOUT).proposal)

    def approve(self, proposal_id: str, lead_key_id: str, signature: bytes) -> RotationProposal:
        """Add one lead's raw signature (64 bytes) and return the proposal as it is afterwards."""
        request = key_admin_pb2.ApproveRequest(proposal_id=proposal_id, lead_key_id=lead_key_id, signature=signature)
        with refusals(self.address):
            return rotation_proposal(self._admin.Approve(request, timeout=ROTATION_TIMEOUT).proposal)

    def proposal(self, proposal_id: str = "") -> RotationProposal:
        """Return a proposal; the one that runs when no id is given."""
        request = key_admin_pb2.GetProposalRequest(proposal_id=proposal_id)
        with refusals(self.address):
            return rotation_proposal(self._admin.GetProposal(request, timeout=TIMEOUT).proposal)

    def abort(self, proposal_id: str) -> RotationProposal:
        """End a proposal that has not reached its quorum and return it."""
        request = key_admin_pb2.AbortRequest(proposal_id=proposal_id)
        with refusals(self.address):
            return rotation_proposal(self._admin.Abort(request, timeout=TIMEOUT).proposal)
