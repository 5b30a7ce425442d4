"""The KeyRegistry service: the rotation history and the two logs, read."""

from __future__ import annotations

from collections.abc import AsyncIterator

from key_registry.errors import FormatError
from key_registry.record import Rotate
from key_registry.replay import Registry
from key_registry.statement import check_time
from key_registry.store import Store
from witness_service.cosigning.rounds import Cosigning
from witness_service.log_reading import Log, LogReading
from witness_service.log_signer import LogSigner
from witness_service.refusal import invalid
from witness_service.registry_view import RegistryView
from witness_service.v1 import key_registry_pb2, key_registry_pb2_grpc
from witness_service.wire import messages
from witness_service.wire.answering import Context, answering

MAX_INDEX = 2**62
"""Entry indices and numbers of entries in a request stay below; two of them can be added."""

_LOGS: dict[key_registry_pb2.Log.ValueType, Log] = {
    key_registry_pb2.LOG_REGISTRY: "registry",
    key_registry_pb2.LOG_STATEMENTS: "statements",
}


class KeyRegistryServicer(key_registry_pb2_grpc.KeyRegistryServicer):
    """Answers the calls of the KeyRegistry service."""

    def __init__(
        self, store: Store, view: RegistryView, signer: LogSigner, cosigning: Cosigning, reading: LogReading
    ) -> None:
        self._store = store
        self._view = view
        self._signer = signer
        self._cosigning = cosigning
        self._reading = reading

    async def ListKeys(
        self, request: key_registry_pb2.ListKeysRequest, context: Context
    ) -> key_registry_pb2.ListKeysResponse:
        async with answering(context, "ListKeys"):
            registry = await self._view.refresh()
            head = await self._store.statement_head()
            orders = {order.key_id: order for order in await self._store.latest_key_orders()}
            return key_registry_pb2.ListKeysResponse(
                keys=[messages.key_version(key, orders.get(key.key_id)) for key in registry.keys.values()],
                registry_size=registry.size,
                statement_size=head.size,
            )

    async def GetHistory(
        self, request: key_registry_pb2.GetHistoryRequest, context: Context
    ) -> key_registry_pb2.GetHistoryResponse:
        async with answering(context, "GetHistory"):
            registry = await self._view.refresh()
            if request.HasField("position"):
                registry = _at_position(registry, request.position)
            elif request.HasField("time"):
                registry = _at_time(registry, request.time)
            wanted = request.witness_id
            if wanted and wanted not in registry.witnesses:
                raise invalid("witness_id", "witness_id: expected a witness of this registry, got another id")
            return key_registry_pb2.GetHistoryResponse(
                records=[
                    message
                    for message, record in zip(messages.records(registry), registry.records, strict=True)
                    if not wanted or getattr(record, "witness_id", wanted) == wanted
                ],
                keys=[
                    messages.key_version(key)
                    for key in registry.keys.values()
                    if not wanted or key.witness_id == wanted
                ],
            )

    async def GetBundle(
        self, request: key_registry_pb2.GetBundleRequest, context: Context
    ) -> key_registry_pb2.GetBundleResponse:
        async with answering(context, "GetBundle"):
            if request.wait_cosigned_milliseconds:
                await self._cosigning.wait_for_head(request.wait_cosigned_milliseconds / 1000)
            bundle = await self._signer.bundle()
            return key_registry_pb2.GetBundleResponse(
                bundle=bundle.to_json(), registry_id=self._view.current.registry_id
            )

    async def GetCheckpoint(
        self, request: key_registry_pb2.GetCheckpointRequest, context: Context
    ) -> key_registry_pb2.GetCheckpointResponse:
        async with answering(context, "GetCheckpoint"):
            log, at_least = _log(request.log), _index("at_least", request.at_least)
            if request.wait_cosigned_milliseconds:
                await self._cosigning.wait_for_head(request.wait_cosigned_milliseconds / 1000)
            found = await self._reading.checkpoint(log, at_least)
            return key_registry_pb2.GetCheckpointResponse(
                checkpoint=found.note, size=found.size, timestamp_token=found.token or b""
            )

    async def ListEntries(
        self, request: key_registry_pb2.ListEntriesRequest, context: Context
    ) -> AsyncIterator[key_registry_pb2.ListEntriesResponse]:
        async with answering(context, "ListEntries"):
            log, first, limit = _log(request.log), _index("first", request.first), _index("limit", request.limit)
            async for page in self._reading.entries(log, first, limit):
                yield key_registry_pb2.ListEntriesResponse(entries=page)


def _log(value: key_registry_pb2.Log.ValueType) -> Log:
    if value not in _LOGS:
        raise invalid("log", "log: expected LOG_REGISTRY or LOG_STATEMENTS, got another value")
    return _LOGS[value]


def _index(field: str, value: int) -> int:
    if value >= MAX_INDEX:
        raise invalid(field, f"{field}: expected a number below 2^62, got a larger one")
    return value


def _at_position(registry: Registry, position: int) -> Registry:
    """Return the registry with the rotations that count for the leaf at a position, and nothing after them."""
    rotated = [size for size, record in enumerate(registry.records, 1) if isinstance(record, Rotate)]
    counting = [size for size in rotated if (head := registry.at_size(size).head) and head.size <= position]
    if not counting or counting == rotated:
        return registry
    return registry.at_size(counting[-1])


def _at_time(registry: Registry, time: str) -> Registry:
    try:
        check_time("time", time)
        return registry.at_time(time)
    except FormatError as error:
        raise invalid("time", str(error)) from error
    except ValueError:
        raise invalid("time", "time: expected one not before the genesis record, got an earlier one") from None
