"""A gRPC server on a real socket that answers as a test says: for what a sound service does not do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from witness_service.event import Attested, Event
from witness_service.refusal import REASON_DOMAIN, Refused
from witness_service.v1 import attestation_pb2, witness_pb2, witness_pb2_grpc

HOLD_SECONDS = 30.0


def event(sequence: int, stream: str = "orders") -> Event:
    return Event(stream, sequence, "sha256:" + f"{sequence:064x}", None, str(sequence), "order.placed")


def attested(sequence: int, stream: str = "orders") -> Attested:
    """Return what the stage answers for an event."""
    return Attested(stream, sequence, b"statement %d" % sequence, "type", "ab" * 32, bytes(64), sequence)


class Stage(witness_pb2_grpc.WitnessServicer):
    """Counts what comes and answers every event, except where told otherwise.

    failures: what the next unary calls end with. break_after: how many messages the next streams answer
    before they break. unavailable: the refusal a sequence gets once. held: while set, nothing is answered.
    """

    def __init__(self) -> None:
        self.address = ""
        self.failures: list[Refused | grpc.StatusCode] = []
        self.break_after: list[int] = []
        self.unavailable: dict[int, Refused] = {}
        self.held = threading.Event()
        self.released = threading.Event()
        self.ended = threading.Event()
        self.calls = 0
        self.streams: list[list[int]] = []
        self.most_in_flight = 0

    def Sign(self, request: witness_pb2.SignRequest, context: grpc.ServicerContext) -> witness_pb2.SignResponse:
        self.calls += 1
        self._hold()
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Refused):
                _abort(context, failure)
            context.abort(failure, "the stage said so")
        return witness_pb2.SignResponse(attestations=[_attestation(request.event)])

    def SignStream(
        self, request_iterator: Iterator[witness_pb2.SignStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[witness_pb2.SignStreamResponse]:
        context.add_callback(self.ended.set)
        seen: list[int] = []
        self.streams.append(seen)
        waiting: list[witness_pb2.SignStreamRequest] = []
        break_after = self.break_after.pop(0) if self.break_after else None
        reader = threading.Thread(target=self._read, args=(request_iterator, seen, waiting), daemon=True)
        reader.start()
        answered = 0
        while True:
            self._hold()
            with self._changed:
                self._changed.wait_for(lambda: waiting or not reader.is_alive(), HOLD_SECONDS)
                if not waiting:
                    return
                request = waiting.pop(0)
            if answered == break_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the stage breaks the stream")
            answered += 1
            yield witness_pb2.SignStreamResponse(results=[self._result(item) for item in request.events])

    _changed = threading.Condition()

    def _read(
        self,
        requests: Iterator[witness_pb2.SignStreamRequest],
        seen: list[int],
        waiting: list[witness_pb2.SignStreamRequest],
    ) -> None:
        try:
            for request in requests:
                with self._changed:
                    waiting.append(request)
                    seen.extend(item.sequence for item in request.events)
                    self.most_in_flight = max(self.most_in_flight, len(waiting))
                    self._changed.notify_all()
        except grpc.RpcError:
            pass  # the client went away
        finally:
            threading.Thread(target=self._tell, args=(threading.current_thread(),), daemon=True).start()

    def _tell(self, reader: threading.Thread) -> None:
        reader.join()
        with self._changed:
            self._changed.notify_all()

    def _hold(self) -> None:
        if self.held.is_set():
            self.released.wait(HOLD_SECONDS)

    def _result(self, item: attestation_pb2.Event) -> witness_pb2.SignResult:
        refused = self.unavailable.pop(item.sequence, None)
        if refused is None:
            return witness_pb2.SignResult(attestations=[_attestation(item)])
        message = attestation_pb2.Refusal(code=refused.code, reason=refused.reason, message=refused.message)
        return witness_pb2.SignResult(refusal=message)


def new_stage() -> Stage:
    """Return a stage; the calls it does not answer are unknown to it, as to a server of another kind."""
    return Stage()  # type: ignore[abstract]  # on purpose, see above


@contextmanager
def serving(stage: Stage, address: str = "127.0.0.1:0") -> Iterator[Stage]:
    """Serve the stage for the length of the block."""
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    witness_pb2_grpc.add_WitnessServicer_to_server(stage, server)
    stage.address = f"127.0.0.1:{server.add_insecure_port(address)}"
    server.start()
    try:
        yield stage
    finally:
        stage.released.set()
        server.stop(None).wait(HOLD_SECONDS)


def _attestation(item: attestation_pb2.Event) -> attestation_pb2.Attestation:
    return attestation_message(attested(item.sequence, item.stream))


def attestation_message(item: Attested) -> attestation_pb2.Attestation:
    return attestation_pb2.Attestation(
        stream=item.stream,
        sequence=item.sequence,
        statement=item.statement,
        payload_type=item.payload_type,
        key_id=item.key_id,
        signature=item.signature,
        leaf_index=item.leaf_index,
    )


def _abort(context: grpc.ServicerContext, refused: Refused) -> NoReturn:
    """End a call in the rich form: google.rpc.Status in the trailers."""
    status = status_pb2.Status(code=refused.code, message=refused.message)
    info = error_details_pb2.ErrorInfo(reason=refused.reason, domain=REASON_DOMAIN, metadata=refused.metadata)
    status.details.append(_packed(info))
    if refused.existing:
        existing = [attestation_message(item) for item in refused.existing]
        status.details.append(_packed(attestation_pb2.Refusal(existing=existing)))
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    codes = {code.value[0]: code for code in grpc.StatusCode}
    context.abort(codes[refused.code], refused.message)


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
