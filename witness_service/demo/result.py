"""What the demo found out, and what it must find to have succeeded."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

FEWEST_EVENTS = 10_000
FEWEST_KEYS = 4


@dataclass
class Result:
    """Counts for the last line, and what the table shows besides.

    valid: places, each counted once, whose evidence is VALID for the hash computed anew. keys: key versions
    that signed them. forgeries: what was tried, in words, and the verdict's code. Times in seconds.
    """

    signed: int = 0
    valid: int = 0
    keys: int = 0
    forgeries_refused: int = 0
    seconds: float = 0.0
    sign_seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    forgeries: list[tuple[str, str]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the demo showed what it is there to show."""
        return (
            self.valid == self.signed >= FEWEST_EVENTS
            and self.keys >= FEWEST_KEYS
            and self.forgeries_refused == len(self.forgeries) >= 1
        )

    def last_line(self) -> str:
        """Return the counts as one JSON object."""
        return json.dumps(
            {
                "signed": self.signed,
                "valid": self.valid,
                "keys": self.keys,
                "forgeries_refused": self.forgeries_refused,
                "seconds": round(self.seconds, 2),
            }
        )
