"""The check that `sign` and `get` make on this machine before they show an attestation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from witness_service.cli.failure import Finding
from witness_service.cli.where import Where
from witness_service.event import Attested, Event

if TYPE_CHECKING:
    from witness_service.wire.client import WitnessClient

Check = Callable[[Sequence[Attested], Event | None], None]
"""Raises Finding when the attestations of a place are not what was asked for."""


def checker(where: Where, client: WitnessClient) -> Check:
    """Return the check against the registry that is pinned; without one it asks only that there is an attestation."""
    if where.registry_id is None:
        return _check_some
    from witness_service.attested_check import NotAttested, PinnedRegistry

    pinned = PinnedRegistry(where.registry_id, client.bundle)

    def check(attestations: Sequence[Attested], event: Event | None) -> None:
        _check_some(attestations, event)
        try:
            for attested in attestations:
                pinned.check(attested, event)
        except NotAttested as error:
            raise Finding("CHECK_FAILED", f"the service's answer does not hold: {error}") from error

    return check


def _check_some(attestations: Sequence[Attested], event: Event | None) -> None:
    if not attestations:
        raise Finding("CHECK_FAILED", "expected at least one attestation from the service, got none")
