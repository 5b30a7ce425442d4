"""A PKCS#11 token: where it is, how to log in, and what it says it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class TokenRef:
    """Where a token is and how to log in; holds no secret."""

    module: str
    """Path of the PKCS#11 module."""
    label: str
    """Label of the token: slot numbers move, labels do not. Empty accepts any, where other words name it."""
    serial: str
    """Serial number that the token must have; empty accepts any, for the first look at a new token."""
    pin_file: str
    """Path of the file with the user PIN; read only inside the signer process."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What the module needs in its environment, for example SOFTHSM2_CONF."""
    manufacturer: str = ""
    """Manufacturer that the token must name; empty accepts any."""
    model: str = ""
    """Model that the token must name; empty accepts any."""
    slot_id: int | None = None
    """Number of the slot that the token must be in; None accepts any."""
    attended: bool = False
    """Whether a person has just typed the PIN: one that mistyped it before may try again before the final try."""

    def fields(self) -> list[bytes]:
        """Return what a signer process is told, in the order of the fields; the environment it has already."""
        slot_id = "" if self.slot_id is None else str(self.slot_id)
        texts = (self.module, self.label, self.serial, self.pin_file, self.manufacturer, self.model, slot_id)
        return [text.encode() for text in (*texts, "attended" if self.attended else "")]

    @classmethod
    def from_fields(cls, fields: Sequence[bytes]) -> "TokenRef":
        """Return what `fields` was made from, without the environment; raises ValueError for another form."""
        module, label, serial, pin_file, manufacturer, model, slot_id, attended = (value.decode() for value in fields)
        return cls(
            module,
            label,
            serial,
            pin_file,
            manufacturer=manufacturer,
            model=model,
            slot_id=int(slot_id) if slot_id else None,
            attended=bool(attended),
        )


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What the token says of itself (CK_TOKEN_INFO)."""

    label: str
    serial: str
    manufacturer: str
    model: str
