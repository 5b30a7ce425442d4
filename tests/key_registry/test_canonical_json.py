"""Canonical JSON: one spelling, and nothing hostile gets further than a FormatError."""

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from key_registry import canonical_json
from key_registry.errors import FormatError

NAMES = st.text(st.characters(max_codepoint=0x7F), max_size=6)
VALUES = st.recursive(
    st.none() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_encoding_is_rfc_8785(value: Any) -> None:
    """For strings, null, arrays and objects with ASCII names the bytes are those of RFC 8785."""
    assert canonical_json.encode(value) == rfc8785.dumps(value)


@given(VALUES)
def test_decoding_gives_the_value_back(value: Any) -> None:
    """What was encoded decodes to the same value."""
    assert canonical_json.decode(canonical_json.encode(value)) == value


@given(VALUES)
def test_only_the_canonical_spelling_decodes(value: Any) -> None:
    """Another spelling of the same value is parsed where no signature covers it, and refused elsewhere."""
    canonical = canonical_json.encode(value)
    respelt = json.dumps(value, indent=1).encode()
    assert canonical_json.parse(respelt) == value
    if respelt != canonical:
        with pytest.raises(FormatError, match="another spelling"):
            canonical_json.decode(respelt)


def test_the_string_example_of_rfc_8785() -> None:
    """Section 3.2.2.2: the shortest escapes, lower-case hex for the other controls, nothing else escaped."""
    example = {"string": json.loads(r'"\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/"')}
    expected = '{"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'.encode()
    assert canonical_json.encode(example) == expected
    assert canonical_json.decode(expected) == example


def test_the_sorting_example_of_rfc_8785() -> None:
    """Section 3.2.3: members by the UTF-16 code units of their names; of those names the format has the ASCII ones."""
    example = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    values = ["Carriage Return", "One", "Control", "Latin Small Letter O With Diaeresis", "Euro Sign"]
    values += ["Emoji: Grinning Face", "Hebrew Letter Dalet With Dagesh"]
    assert list(json.loads(rfc8785.dumps(example)).values()) == values
    with pytest.raises(FormatError, match="ASCII"):
        canonical_json.encode(example)
    ours = {name: value for name, value in example.items() if name.isascii()}
    assert canonical_json.encode(ours) == b'{"\\r":"Carriage Return","1":"One"}'


def test_the_sample_of_rfc_8785_without_its_numbers() -> None:
    """Section 3.2.2 and 3.2.3: what the format has none of, numbers and literals but null, stands in strings here."""
    sample = {
        "numbers": ["333333333.3333333", "1e+30", "4.5", "0.002", "1e-27"],
        "string": '\u20ac$\x0f\nA\'B"\\\\"/',
        "literals": [None, "true", "false"],
    }
    expected = (
        r'{"literals":[null,"true","false"],"numbers":["333333333.3333333","1e+30","4.5","0.002","1e-27"],'
        r'"string":"€$\u000f\nA' + "'" + r'B\"\\\\\"/"}'
    ).encode()
    assert canonical_json.encode(sample) == expected
    assert canonical_json.decode(expected) == sample


def test_members_are_in_the_order_of_their_names() -> None:
    """Names are ordered by code point, at every depth."""
    value: canonical_json.JSONValue = {"b": {"z": None, "A": "1"}, "a": ["2", {"_": "", "Z": ""}], "": "\x7f"}
    assert canonical_json.encode(value) == b'{"":"\x7f","a":["2",{"Z":"","_":""}],"b":{"A":"1","z":null}}'


@pytest.mark.parametrize(
    "value",
    [1, 1.5, True, {"a": False}, ["x", 3], {"é": "x"}, {1: "x"}, "\ud800", {"a": ["\udfff"]}, b"x", {"a"}],
)
def test_values_outside_the_subset_are_not_encoded(value: Any) -> None:
    """A number, a boolean, a name beyond ASCII or a lone surrogate never reaches signed bytes."""
    with pytest.raises(FormatError):
        canonical_json.encode(value)


def nested(depth: int) -> Any:
    value: Any = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_containers_nest_sixteen_deep_and_no_deeper() -> None:
    """Sixteen levels pass in both directions, seventeen in none."""
    assert canonical_json.decode(canonical_json.encode(nested(16))) == nested(16)
    with pytest.raises(FormatError, match="nested"):
        canonical_json.encode(nested(17))
    with pytest.raises(FormatError, match="nested"):
        canonical_json.decode(json.dumps(nested(17), separators=(",", ":")).encode())


def test_a_value_that_holds_itself_is_refused() -> None:
    """A circle ends at the depth limit instead of running on."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(FormatError, match="nested"):
        canonical_json.encode(circle)


HOSTILE = {
    "empty": b"",
    "white space only": b" ",
    "not JSON": b"{a:1}",
    "truncated": b'{"a":"b"',
    "trailing": b'"a""b"',
    "integer": b"1",
    "long integer": b"[" + b"9" * 100_000 + b"]",
    "negative": b"-0",
    "float": b'{"a":1.5}',
    "exponent": b"1e400",
    "NaN": b"NaN",
    "infinity": b"[-Infinity]",
    "true": b"true",
    "false in depth": b'{"a":[{"b":false}]}',
    "byte order mark": b'\xef\xbb\xbf"a"',
    "UTF-16": '"a"'.encode("utf-16"),
    "invalid UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "lone high surrogate": b'"\\ud800"',
    "lone low surrogate in depth": b'{"a":["\\udfff"]}',
    "duplicate": b'{"a":"1","a":"1"}',
    "duplicate in depth": b'["x",{"b":{"a":null,"a":null}}]',
    "duplicate by escape": b'{"a":"1","\\u0061":"1"}',
    "name beyond ASCII": '{"é":"x"}'.encode(),
    "control character": b'"\n"',
    "NUL": b'"a"\x00',
    "deep arrays": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_json_is_refused_in_any_spelling(data: bytes) -> None:
    """Every hostile document is a FormatError with a short reason."""
    for read in (canonical_json.decode, canonical_json.parse):
        with pytest.raises(FormatError) as refused:
            read(data)
        assert len(str(refused.value)) < 120


@pytest.mark.parametrize("data", [b"0", b"[1]", b'{"a":-1}', b"1.5", b"1e400", b"NaN", b"-Infinity"])
def test_the_refusal_of_a_number_says_how_to_write_it(data: bytes) -> None:
    """Every kind of number is refused with the way out, before it costs a conversion."""
    with pytest.raises(FormatError, match="expected numbers as decimal strings"):
        canonical_json.decode(data)


@pytest.mark.parametrize(
    "data",
    [b' "a"', b'"a"\n', b'{"b":"","a":""}', b'{"a": ""}', b'"\\u0061"', b'"\\/"', b'"\\u000A"', b'"\\u001F"'],
)
def test_other_spellings_are_no_canonical_json(data: bytes) -> None:
    """White space, member order and needless escapes are refused where bytes are signed."""
    canonical_json.parse(data)
    with pytest.raises(FormatError, match="another spelling"):
        canonical_json.decode(data)


def test_length_is_limited_before_anything_is_read() -> None:
    """A document longer than max_bytes is refused, one of exactly that length is read."""
    assert canonical_json.decode(b'"abc"', max_bytes=5) == "abc"
    with pytest.raises(FormatError, match="at most 4 bytes"):
        canonical_json.decode(b'"abc"', max_bytes=4)
    with pytest.raises(FormatError, match="at most 1048576 bytes"):
        canonical_json.parse(b'"' + b"a" * 1_048_575 + b'"')


def test_refusals_do_not_quote_the_document() -> None:
    """Neither the reason nor a chained exception holds what the caller sent."""
    for data in (
        b'{"secret"',
        b'"secret\xff"',
        b'{"secret":"a","secret":"b"}',
        b'["secret\\ud800"]',
        b'["secret",1]',
    ):
        with pytest.raises(FormatError) as refused:
            canonical_json.decode(data)
        assert "secret" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__ or refused.value.__context__ is None
