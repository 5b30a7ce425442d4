"""Stopping a key at once, on one lead's word.

The order is stored under the lock that every claim shares: once it is committed, no instance claims anything with the
key. What was claimed before is completed. Nothing here asks a token or the sign path anything, so that it works where
those are wedged, and as well from a command on the host as over the wire.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from key_registry import dsse
from key_registry.errors import FormatError, SignatureError
from key_registry.replay import Registry
from key_registry.store import Conflict, KeyOrder, Store
from witness_service.orders import StopOrder, signed_by
from witness_service.refusal import Code, Reason, Refused, invalid
from witness_service.registry_view import RegistryView

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stopped:
    """A key that is stopped. order: the one that stopped it. was_before: whether an earlier one had done it."""

    order: KeyOrder
    was_before: bool


class Stops:
    """Takes stop orders over the wire."""

    def __init__(self, store: Store, view: RegistryView) -> None:
        self._store = store
        self._view = view

    async def stop(self, order: bytes) -> Stopped:
        """Stop a key. order: a StopOrder's DSSE envelope as JSON, signed by one lead. Raises Refused, StoreError."""
        try:
            envelope = dsse.Envelope.from_json(order)
        except FormatError as error:
            raise invalid("order", f"order: {error}") from error
        stopped = await stop_key(self._store, await self._view.replayed(), envelope)
        await self._view.look()
        return stopped

    async def orders(self) -> dict[str, KeyOrder]:
        """Return the last order of every key that has one, by key id."""
        return {order.key_id: order for order in await self._store.latest_key_orders()}


async def stop_key(store: Store, registry: Registry, envelope: dsse.Envelope) -> Stopped:
    """Check a stop order against the registry and store it; a key that is stopped stays as it is.

    Raises Refused, StoreError.
    """
    order = check_stop(registry, envelope)
    for _ in range(3):
        orders = await store.key_orders(order.key_id)
        if orders and orders[-1].stops:
            return Stopped(orders[-1], was_before=orders[-1].envelope != envelope)
        if order.number != len(orders) + 1:
            raise Refused(
                Code.ABORTED,
                Reason.ORDER_MOVED,
                f"expected order {len(orders) + 1} about this key, got {order.number}; sign a new one",
                {"number": str(len(orders) + 1)},
            )
        try:
            await store.add_key_order(order.key_id, order.number, envelope)
        except Conflict:
            continue
        log.critical("key stopped", key_id=order.key_id, reason=order.reason, lead=envelope.signatures[0].key_id)
        return Stopped((await store.key_orders(order.key_id))[-1], was_before=False)
    raise Refused(Code.ABORTED, Reason.ORDER_MOVED, "other orders about this key were stored meanwhile; ask again")


def check_stop(registry: Registry, envelope: dsse.Envelope) -> StopOrder:
    """Return the order in an envelope that one lead of the registry has signed; raises Refused."""
    try:
        if envelope.payload_type != StopOrder.PAYLOAD_TYPE:
            raise FormatError(f"expected payload type {StopOrder.PAYLOAD_TYPE}, got another")
        order = StopOrder.decode(envelope.body)
        signature = signed_by(envelope)
    except FormatError as error:
        raise invalid("order", f"order: {error}") from error
    check_lead_signature(registry, signature, envelope.pae())
    if order.registry_id != registry.registry_id:
        raise invalid("order", f"order: expected one for registry {registry.registry_id}, got one for another")
    if order.key_id not in registry.keys:
        raise Refused(Code.NOT_FOUND, Reason.UNKNOWN_KEY, "expected the id of a key of the registry, got another id")
    return order


def check_lead_signature(registry: Registry, signature: dsse.Signature, message: bytes) -> None:
    """Raise Refused unless a lead in office has signed the message."""
    leads = {lead.public_key.key_id: lead.public_key for lead in registry.leads}
    if signature.key_id not in leads:
        raise Refused(
            Code.PERMISSION_DENIED, Reason.NOT_A_LEAD, "expected the key id of a security lead, got another id"
        )
    try:
        leads[signature.key_id].verify(signature.signature, message)
    except SignatureError as error:
        raise bad_signature() from error


def bad_signature() -> Refused:
    """Return the refusal of a lead's signature that does not verify."""
    return Refused(
        Code.INVALID_ARGUMENT,
        Reason.BAD_APPROVAL,
        "expected the lead's signature over PAE(payload_type, body), got one that does not verify",
        {"field": "signature"},
    )
