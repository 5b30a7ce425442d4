"""A PKCS#11 token: where it is, how to log in, and what it says it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class TokenRef:
    """Where a token is and how to log in; holds no secret."""

    module: str
    """Path of the PKCS#11 module."""
    label: str
    """Label of the token: slot numbers move, labels do not."""
    serial: str
    """Serial number that the token must have; empty accepts any, for the first look at a new token."""
    pin_file: str
    """Path of the file with the user PIN; read only inside the signer process."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What the module needs in its environment, for example SOFTHSM2_CONF."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What the token says of itself (CK_TOKEN_INFO)."""

    label: str
    serial: str
    manufacturer: str
    model: str
