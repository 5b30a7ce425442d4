"""The gRPC server: its services, its limits, and a health service that tells the truth."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from witness_service.config import LimitsSection
from witness_service.v1 import (
    key_admin_pb2,
    key_admin_pb2_grpc,
    key_registry_pb2,
    key_registry_pb2_grpc,
    witness_pb2,
    witness_pb2_grpc,
)
from witness_service.wire.key_admin_servicer import KeyAdminServicer
from witness_service.wire.key_registry_servicer import KeyRegistryServicer
from witness_service.wire.witness_servicer import WitnessServicer

SERVICES = (
    witness_pb2.DESCRIPTOR.services_by_name["Witness"].full_name,
    key_registry_pb2.DESCRIPTOR.services_by_name["KeyRegistry"].full_name,
    key_admin_pb2.DESCRIPTOR.services_by_name["KeyAdmin"].full_name,
)

PENDING_CALLS = 32_768
"""Calls that may wait for a handler to start."""

HEALTH_SECONDS = 0.25
"""How often the parts are asked whether they can serve."""


class Server:
    """A gRPC server over the three services, with the standard health and reflection services."""

    def __init__(
        self,
        witness: WitnessServicer,
        key_registry: KeyRegistryServicer,
        key_admin: KeyAdminServicer,
        limits: LimitsSection,
    ) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limits.message_bytes),
                ("grpc.so_reuseport", 0),
                # Beyond these gRPC drops calls as CANCELLED, of which no caller can tell what it means; the sign
                # path refuses what is too much itself, with a reason.
                ("grpc.server.max_pending_requests", PENDING_CALLS),
                ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING_CALLS),
            ]
        )
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        witness_pb2_grpc.add_WitnessServicer_to_server(witness, self._server)
        key_registry_pb2_grpc.add_KeyRegistryServicer_to_server(key_registry, self._server)
        key_admin_pb2_grpc.add_KeyAdminServicer_to_server(key_admin, self._server)
        reflection.enable_server_reflection((*SERVICES, reflection.SERVICE_NAME), self._server)
        self._watch: asyncio.Task[None] | None = None

    async def start(self, listen: str, can_serve: Callable[[], Awaitable[bool]]) -> str:
        """Listen on HOST:PORT, port 0 for a free one, and return the address; raises OSError when it is taken.

        can_serve: asked again and again; health says SERVING only while it says yes.
        """
        host, _, _ = listen.rpartition(":")
        _check_free(listen)
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {listen}: is another service running there?") from error
        await self._set_health(await can_serve())
        await self._server.start()
        self._watch = asyncio.create_task(self._watch_health(can_serve))
        return f"{host}:{port}"

    async def say_not_serving(self) -> None:
        """Say NOT_SERVING from here on, so that callers turn to another instance."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._set_health(False)

    async def stop(self, grace: float) -> None:
        """Take no new calls, and give running ones the grace, in seconds."""
        await self._server.stop(grace)

    async def _watch_health(self, can_serve: Callable[[], Awaitable[bool]]) -> None:
        while True:
            await self._set_health(await can_serve())
            await asyncio.sleep(HEALTH_SECONDS)

    async def _set_health(self, serving: bool) -> None:
        state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *SERVICES):
            await self._health.set(service, state)


def _check_free(listen: str) -> None:
    """Raise OSError when nobody can listen there; gRPC itself says it on standard error and gives no reason."""
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
                probe.bind(address)
    except OSError as error:
        reason = (error.strerror or "no such address").lower()
        raise OSError(f"cannot listen on {listen}: {reason}; is another service running there?") from error
