"""Base64 that can be spelled in one way only."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry import base64_strict
from key_registry.errors import FormatError


@given(st.binary(max_size=200))
def test_every_byte_string_has_the_standard_spelling(data: bytes) -> None:
    """Writing agrees with the standard library, and reading gives the bytes back."""
    text = base64_strict.encode(data)
    assert text == base64.b64encode(data).decode()
    assert base64_strict.decode(text) == data


@given(st.binary(max_size=200))
def test_either_alphabet_is_read_for_dsse(data: bytes) -> None:
    """DSSE demands that a verifier accepts the standard and the URL-safe alphabet."""
    assert base64_strict.decode_either(base64.b64encode(data).decode()) == data
    assert base64_strict.decode_either(base64.urlsafe_b64encode(data).decode()) == data


@given(st.text(alphabet="AQgw+/-_= \n\x00é", max_size=12))
def test_whatever_is_read_is_the_only_spelling(text: str) -> None:
    """Text that decodes at all is exactly what encoding its bytes writes."""
    try:
        data = base64_strict.decode(text)
    except FormatError:
        return
    assert base64_strict.encode(data) == text


@pytest.mark.parametrize(
    "text",
    [
        "QQ",
        "QQ=",
        "QQ===",
        "QR==",
        "QUJ=",
        "QQ==QQ==",
        "=QQ=",
        " QQ==",
        "QQ==\n",
        "QUJ\nD",
        "Q",
        "====",
        "QUJ!D",
        "QUJ\x00",
        "\N{FULLWIDTH LATIN CAPITAL LETTER Q}Q==",
        "\ud800",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    """Padding, white space, trailing bits and foreign characters leave no second spelling."""
    with pytest.raises(FormatError, match="expected base64"):
        base64_strict.decode(text)
    with pytest.raises(FormatError, match="expected base64"):
        base64_strict.decode_either(text)


def test_alphabets_are_not_mixed() -> None:
    """The standard reader refuses the URL-safe alphabet, and the DSSE reader refuses both in one text."""
    with pytest.raises(FormatError):
        base64_strict.decode("-___")
    for mixed in ("+___", "-__/", "-+==", "+/-_"):
        with pytest.raises(FormatError, match="mix"):
            base64_strict.decode_either(mixed)
