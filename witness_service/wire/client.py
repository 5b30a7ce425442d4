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

from key_registry.dsse import Signature
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
    Evidence,
    EvidenceFile,
    History,
    KeyList,
    ServiceStatus,
    SignedCheckpoint,
    attested,
    event_message,
    evidence,
    listed_key,
    listed_record,
    service_status,
)
from witness_service.wire.backoff import Backoff
from witness_service.wire.proposal_answers import ListedProposal, StoppedKey, listed_proposal
from witness_service.wire.refusals import refusals
from witness_service.wire.sign_flow import SignFlow, SignOutcome

TIMEOUT = 10.0
"""Seconds a unary call may take."""

CHANGE_TIMEOUT = 90.0
"""Seconds a change of keys may take: it makes a key in the token, or waits for what the old one still signs."""

ENTRIES = 8192
"""Entries asked for in one call."""

ENTRIES_TIMEOUT = 120.0
"""Seconds such a call may take, with what the caller does to the entries meanwhile."""

_LOGS = {"registry": key_registry_pb2.LOG_REGISTRY, "statements": key_registry_pb2.LOG_STATEMENTS}

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

    def proof(self, stream: str, sequence: int, *, wait_cosigned: float = 0.0) -> list[EvidenceFile]:
        """Return the evidence for a place, one per attestation; wait_cosigned as in `evidence`."""
        return list(self.evidence(stream, sequence, wait_cosigned=wait_cosigned).files)

    def list_proofs(self, stream: str, first: int, last: int | None) -> Iterator[list[EvidenceFile]]:
        """Yield the evidence for the places first to last (None: the last attested), in their order, in portions."""
        for portion in self.list_evidence(stream, first, last):
            yield list(portion.files)

    def evidence(self, stream: str, sequence: int, *, wait_cosigned: float = 0.0) -> Evidence:
        """Return the evidence for a place, one file per attestation, with what timestamps there are.

        wait_cosigned: seconds, up to 60, to wait for a checkpoint that the policy's quorum has cosigned.
        """
        request = witness_pb2.GetProofRequest(
            stream=stream, sequence=sequence, wait_cosigned_milliseconds=_milliseconds(wait_cosigned)
        )
        with refusals(self.address):
            return evidence(self._witness.GetProof(request, timeout=TIMEOUT + wait_cosigned))

    def list_evidence(
        self, stream: str, first: int, last: int | None, *, wait_cosigned: float = 0.0
    ) -> Iterator[Evidence]:
        """Yield the evidence for the places first to last (None: the last attested), in their order, in portions.

        wait_cosigned as in `evidence`. Each timestamp comes once.
        """
        request = witness_pb2.ListProofsRequest(
            stream=stream,
            first_sequence=first,
            last_sequence=last,
            wait_cosigned_milliseconds=_milliseconds(wait_cosigned),
        )
        with refusals(self.address):
            for response in self._witness.ListProofs(request):
                yield evidence(response)

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

    def bundle(self, *, wait_cosigned: float = 0.0) -> bytes:
        """Return the content of bundle.json, unverified.

        wait_cosigned: seconds, up to 60, to wait until the policy's quorum has cosigned both logs as they are.
        """
        request = key_registry_pb2.GetBundleRequest(wait_cosigned_milliseconds=_milliseconds(wait_cosigned))
        with refusals(self.address):
            return self._registry.GetBundle(request, timeout=TIMEOUT + wait_cosigned).bundle

    # -- the logs --------------------------------------------------------------------------------------------

    def checkpoint(self, log: str, at_least: int, *, wait_cosigned: float = 0.0) -> SignedCheckpoint:
        """Return the largest checkpoint of a log ("registry" or "statements") that a quorum has cosigned, unverified.

        at_least: entries it must be over, if the log has so many; where no cosigned one is, it is over the whole log.
        wait_cosigned: seconds, up to 60, to wait until the policy's quorum has cosigned both logs as they are.
        """
        request = key_registry_pb2.GetCheckpointRequest(
            log=_LOGS[log], at_least=at_least, wait_cosigned_milliseconds=_milliseconds(wait_cosigned)
        )
        with refusals(self.address):
            found = self._registry.GetCheckpoint(request, timeout=TIMEOUT + wait_cosigned)
        return SignedCheckpoint(found.checkpoint, found.size, found.timestamp_token)

    def entries(self, log: str, first: int, end: int) -> Iterator[bytes]:
        """Yield the entries first to end - 1 of a log, fewer if it has fewer, unverified."""
        while first < end:
            asked = min(ENTRIES, end - first)
            request = key_registry_pb2.ListEntriesRequest(log=_LOGS[log], first=first, limit=asked)
            came = 0
            with refusals(self.address):
                for response in self._registry.ListEntries(request, timeout=ENTRIES_TIMEOUT):
                    came += len(response.entries)
                    yield from response.entries
            if came < asked:
                return
            first += came

    # -- key changes -----------------------------------------------------------------------------------------

    def propose(self, request: bytes, lead: Signature | None = None, *, dry_run: bool = False) -> ListedProposal:
        """Return what the leads have to sign for a change.

        request: the bytes of an orders.ProposalRequest; the same again returns the proposal it made. lead: signature
        of the lead who proposes. dry_run: make and store nothing.
        """
        message = key_admin_pb2.ProposeRequest(request=request, dry_run=dry_run)
        if lead is not None:
            message.lead.lead_key_id, message.lead.signature = lead.key_id, lead.signature
        with refusals(self.address):
            return listed_proposal(self._admin.Propose(message, timeout=CHANGE_TIMEOUT).proposal)

    def approve(self, proposal_id: str, lead_key_id: str, signatures: Sequence[bytes]) -> tuple[ListedProposal, bool]:
        """Add one lead's raw signatures (64 bytes), one for each document.

        Returns the proposal as it is afterwards, and whether the signatures were there before.
        """
        request = key_admin_pb2.ApproveRequest(proposal_id=proposal_id, lead_key_id=lead_key_id, signatures=signatures)
        with refusals(self.address):
            response = self._admin.Approve(request, timeout=CHANGE_TIMEOUT)
        return listed_proposal(response.proposal), response.already_signed

    def reject(self, proposal_id: str, order: bytes) -> ListedProposal:
        """Say no; order: a lead's orders.Rejection, a DSSE envelope as JSON. Returns the proposal."""
        request = key_admin_pb2.RejectRequest(proposal_id=proposal_id, order=order)
        with refusals(self.address):
            return listed_proposal(self._admin.Reject(request, timeout=TIMEOUT).proposal)

    def proposal(self, proposal_id: str = "") -> ListedProposal:
        """Return a proposal; the oldest one that runs when no id is given."""
        request = key_admin_pb2.GetProposalRequest(proposal_id=proposal_id)
        with refusals(self.address):
            return listed_proposal(self._admin.GetProposal(request, timeout=TIMEOUT).proposal)

    def proposals(self, *, ended: bool = False) -> list[ListedProposal]:
        """Return the proposals that run; with ended, the newest 100 in any state."""
        request = key_admin_pb2.ListProposalsRequest(all=ended)
        with refusals(self.address):
            return [listed_proposal(it) for it in self._admin.ListProposals(request, timeout=TIMEOUT).proposals]

    def abort(self, proposal_id: str) -> ListedProposal:
        """End a proposal that has not reached its quorum and return it."""
        request = key_admin_pb2.AbortRequest(proposal_id=proposal_id)
        with refusals(self.address):
            return listed_proposal(self._admin.Abort(request, timeout=TIMEOUT).proposal)

    def stop_key(self, order: bytes) -> StoppedKey:
        """Stop a key at once; order: a lead's orders.StopOrder, a DSSE envelope as JSON."""
        with refusals(self.address):
            response = self._admin.StopKey(key_admin_pb2.StopKeyRequest(order=order), timeout=TIMEOUT)
        return StoppedKey(response.order, response.stopped_at, response.was_stopped)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
