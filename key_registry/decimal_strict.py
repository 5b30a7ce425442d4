"""Sizes and indices as text: decimal, no leading zeros, below 2**63."""

import re

from key_registry.errors import FormatError

LIMIT = 2**63

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


def decode(text: str, name: str) -> int:
    """Return the number that text spells.

    Args:
        text: ASCII decimal without sign or leading zeros (C2SP tlog-checkpoint, tlog-proof).
        name: what the number is, for the error.

    Raises:
        FormatError: another spelling, or 2**63 and above.
    """
    if _DECIMAL.fullmatch(text) is None or (number := int(text)) >= LIMIT:
        raise FormatError(f"expected {name} in decimal without leading zeros, below 2**63, got other text")
    return number


def check(number: int, name: str) -> None:
    """Raise FormatError unless number, named so in the error, is from 0 to 2**63 - 1."""
    if not 0 <= number < LIMIT:
        raise FormatError(f"expected {name} from 0 to 2**63 - 1, got a number outside")
