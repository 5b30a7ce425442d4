"""What a failed call says, read back into one exception: `Refused`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from witness_service.refusal import REASON_DOMAIN, Code, Reason, Refused
from witness_service.v1 import attestation_pb2
from witness_service.wire.answers import attested

DETAILS_KEY = "grpc-status-details-bin"
"""Trailer that holds the serialised `google.rpc.Status`."""

_CODES = {
    grpc.StatusCode.CANCELLED: Code.UNAVAILABLE,
    grpc.StatusCode.UNAUTHENTICATED: Code.PERMISSION_DENIED,
    grpc.StatusCode.OUT_OF_RANGE: Code.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED: Code.FAILED_PRECONDITION,
}


@contextmanager
def refusals(address: str) -> Iterator[None]:
    """Turn the gRPC errors of the block into Refused; address is what the message names."""
    try:
        yield
    except grpc.RpcError as error:
        raise refusal_of(error, address) from error


def refusal_of(error: grpc.RpcError, address: str) -> Refused:
    """Return the refusal in a call's trailers, or what the bare status means when the service sent none."""
    if not isinstance(error, grpc.Call):
        return Refused(Code.INTERNAL, Reason.INTERNAL_ERROR, f"the call to {address} failed without a status")
    return _in_trailers(error) or _bare(error, address)


def refusal_from_message(message: attestation_pb2.Refusal) -> Refused:
    """Return the refusal in a message of the wire."""
    return Refused(
        _code(message.code),
        message.reason,
        message.message,
        dict(message.metadata),
        tuple(attested(item) for item in message.existing),
    )


def _in_trailers(error: grpc.Call) -> Refused | None:
    """Read `google.rpc.Status` out of the trailers: its ErrorInfo, and for equivocation the packed Refusal."""
    packed = next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), None)
    if not isinstance(packed, bytes):
        return None
    info = error_details_pb2.ErrorInfo()
    refusal = attestation_pb2.Refusal()
    try:
        status = status_pb2.Status.FromString(packed)
        for detail in status.details:
            if detail.Is(info.DESCRIPTOR):
                detail.Unpack(info)
            elif detail.Is(refusal.DESCRIPTOR):
                detail.Unpack(refusal)
    except DecodeError:
        return None
    if info.domain != REASON_DOMAIN or not info.reason:
        return None
    existing = tuple(attested(item) for item in refusal.existing)
    return Refused(_code(status.code), info.reason, status.message, dict(info.metadata), existing)


def _bare(error: grpc.Call, address: str) -> Refused:
    """Say what a status without details means: it came from the transport or from this client's own limits."""
    status = error.code() or grpc.StatusCode.UNKNOWN
    said = (error.details() or "nothing more is known").splitlines()[0]
    if status is grpc.StatusCode.UNAVAILABLE:
        return Refused(
            Code.UNAVAILABLE,
            Reason.UNREACHABLE,
            f"expected a witness service at {address}, got no connection: is it running? ({said})",
            {"address": address},
        )
    if status in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        code = Code.DEADLINE_EXCEEDED if status is grpc.StatusCode.DEADLINE_EXCEEDED else Code.UNAVAILABLE
        message = f"expected an answer from {address} in time, got none: ask again, it is safe"
        return Refused(code, Reason.OUTCOME_UNKNOWN, message, {"address": address})
    if status is grpc.StatusCode.UNIMPLEMENTED:
        said = f"expected a witness service at {address}, got a server that does not know the call"
    return Refused(_CODES.get(status) or _code(status.value[0]), status.name, said, {"address": address})


def _code(number: int) -> Code:
    """Return the code of a number of `google.rpc.Code`; one this service never sends counts as INTERNAL."""
    try:
        return Code(number)
    except ValueError:
        return Code.INTERNAL
