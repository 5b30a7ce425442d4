"""How a call ends: with its answer, with a refusal in rich form, or with an opaque reference.

gRPC sends the text of an unhandled exception to the client; nothing of ours may leave that way, so every handler
runs inside `answering`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from hsm import HsmError
from key_registry.store import StoreError
from witness_service.custody import refusal_of
from witness_service.refusal import REASON_DOMAIN, Code, Reason, Refused, invalid
from witness_service.wire import messages

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

MAX_EXISTING_BYTES = 4096
"""Trailers are small: evidence is left out of them when it would not fit, and GetAttestation has it."""


@asynccontextmanager
async def answering(context: Context, method: str) -> AsyncIterator[None]:
    """End the call with a status for every exception of the block."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Refused as refused:
        await _abort(context, refused)
    except DecodeError:  # of a message in a stream; one that begins a call is refused by gRPC itself
        await _abort(context, invalid("request", "request: expected a message of this call, got other bytes"))
    except HsmError as error:
        await _abort(context, refusal_of(error))
    except StoreError as error:
        log.error("store failed", method=method, error=str(error))
        await _abort(
            context,
            Refused(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, "the database did not answer; ask again, it is safe"),
        )
    except Exception as error:
        reference = secrets.token_hex(8)
        log.error("call failed", method=method, reference=reference, exc_info=error)
        await _abort(
            context,
            Refused(
                Code.INTERNAL,
                Reason.INTERNAL_ERROR,
                f"the service failed; its log says why under reference {reference}",
                {"reference": reference},
            ),
        )


async def _abort(context: Context, refused: Refused) -> NoReturn:
    status = status_pb2.Status(code=refused.code.value, message=refused.message)
    info = error_details_pb2.ErrorInfo(reason=refused.reason, domain=REASON_DOMAIN, metadata=refused.metadata)
    status.details.append(_packed(info))
    if refused.code is Code.UNAVAILABLE:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(200)
        status.details.append(_packed(retry))
    if refused.existing:
        evidence = _packed(messages.refusal(refused))
        if evidence.ByteSize() <= MAX_EXISTING_BYTES:
            status.details.append(evidence)
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, rich.trailing_metadata)
    raise AssertionError("abort returned")


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
