"""What a record changes in the registry."""

from dataclasses import dataclass

from key_registry.checkpoint import Checkpoint
from key_registry.key_version import KeyVersion


@dataclass(frozen=True)
class Seal:
    """The statement-log checkpoint that a rotate or policy record embeds.

    Attributes:
        head: size and root.
        cosigned: POSIX seconds from which on a quorum of cosigners had it in hand; None: no quorum, or none asked.
    """

    head: Checkpoint
    cosigned: int | None


@dataclass(frozen=True)
class Change:
    """What the record says beyond itself: key versions as they are from then on, and the embedded checkpoint."""

    keys: tuple[KeyVersion, ...] = ()
    seal: Seal | None = None
