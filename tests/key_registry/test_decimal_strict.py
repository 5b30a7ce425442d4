"""Sizes and indices as decimal text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry import decimal_strict
from key_registry.errors import FormatError


@given(st.integers(0, 2**63 - 1))
def test_every_number_below_the_limit_is_read(number: int) -> None:
    """The decimal spelling of a number gives the number."""
    assert decimal_strict.decode(str(number), "tree size") == number
    decimal_strict.check(number, "tree size")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "01",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1\n",
        "1_0",
        "1e3",
        "0x1",
        "\N{ARABIC-INDIC DIGIT ONE}",
        str(2**63),
        "9" * 19,
        "9" * 5000,
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    """No sign, no leading zero, no foreign digit, nothing from 2**63 on, and no cost for long digits."""
    with pytest.raises(FormatError, match="expected leaf index in decimal"):
        decimal_strict.decode(text, "leaf index")


@pytest.mark.parametrize("number", [-1, 2**63])
def test_numbers_outside_the_range_cannot_be_written(number: int) -> None:
    """A number that no reader would accept is refused before it is written."""
    with pytest.raises(FormatError, match="tree size"):
        decimal_strict.check(number, "tree size")
