"""The state of a token's signer processes, as health reports it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class PoolStatus(enum.StrEnum):
    """One word for the state of a token."""

    READY = "ready"
    """Every process and every key serves."""
    DEGRADED = "degraded"
    """Something does not serve; something else does."""
    DOWN = "down"
    """Nothing serves; it is tried again until it does."""
    LATCHED = "latched"
    """Nothing serves and nothing is tried before a person has acted: the PIN was refused."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """The state of one token at one moment."""

    status: PoolStatus
    reason: str
    """Why it is not ready; empty when it is."""
    processes: int
    processes_serving: int
    refused_keys: Mapping[str, str]
    """CKA_ID in hex of a key that was loaded and is refused since, and why."""

    @property
    def serving(self) -> bool:
        """Whether a signature can be had."""
        return self.processes_serving > 0
