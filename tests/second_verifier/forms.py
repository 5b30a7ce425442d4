"""JSON and the fields of bodies, as docs/format.md gives them ("Words and forms").

Values stay what JSON makes of them: dicts, lists, strings and None. A form is a function that takes such a value and
returns what it says, or raises Malformed.
"""

from __future__ import annotations

import base64 as rfc4648
import datetime
import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

LARGEST_BODY = 1_048_576
DEEPEST = 16

Form = Callable[[Any], Any]


class Malformed(Exception):
    """Bytes that are not what the page asks for."""


class Unsupported(Exception):
    """A well-formed public key of an algorithm that this verifier does not have."""


def require(condition: object, what: str) -> None:
    """Raise Malformed, saying what was expected, unless the condition holds."""
    if not condition:
        raise Malformed(f"expected {what}")


# JSON


def _refuse(token: str) -> NoReturn:
    raise Malformed(f"a number or constant in JSON: {token[:20]}")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    require(len(members) == len(pairs), "each member once")
    return members


def _check(value: Any, depth: int = 1) -> None:
    if isinstance(value, str):
        require(not re.search("[\ud800-\udfff]", value), "no lone surrogate")
    elif isinstance(value, dict | list):
        require(depth <= DEEPEST, f"nesting of at most {DEEPEST}")
        for name in value if isinstance(value, dict) else ():
            require(name.isascii(), "member names in ASCII")
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1)
    else:
        require(value is None, "strings, null, objects and arrays alone")


def read_json(data: bytes) -> Any:
    """Read a container: the subset of JSON in any spelling."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_int=_refuse,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError) as error:
        raise Malformed("expected JSON in UTF-8") from error
    _check(value)
    return value


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def _quoted(text: str) -> str:
    return '"' + re.sub(r'[\x00-\x1f"\\]', lambda hit: _ESCAPES.get(hit[0], f"\\u{ord(hit[0]):04x}"), text) + '"'


def canonical(value: Any) -> str:
    """Spell a value of the subset as RFC 8785 has it; names are ASCII, so their UTF-16 order is their own."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    return "{" + ",".join(f"{_quoted(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"


def read_body(body: bytes) -> Any:
    """Read a signed body: bytes that are the canonical form of what they say."""
    require(len(body) <= LARGEST_BODY, f"a body of at most {LARGEST_BODY} bytes")
    value = read_json(body)
    require(canonical(value).encode() == body, "the canonical spelling")
    return value


# Fields


def shape(value: Any, forms: dict[str, Form]) -> dict[str, Any]:
    """Return what an object with exactly these members says."""
    require(isinstance(value, dict) and value.keys() == forms.keys(), f"an object of {sorted(forms)}")
    return {name: form(value[name]) for name, form in forms.items()}


def listed(form: Form) -> Form:
    """Return the form of a list of a form."""

    def items(value: Any) -> list[Any]:
        require(isinstance(value, list), "a list")
        return [form(item) for item in value]

    return items


def optional(form: Form) -> Form:
    """Return the form that also allows null."""
    return lambda value: None if value is None else form(value)


def text(value: Any) -> str:
    require(isinstance(value, str), "a string")
    return str(value)


def matching(pattern: str, what: str) -> Form:
    """Return the form of the strings that match a regular expression as a whole."""
    compiled = re.compile(pattern, re.ASCII)

    def match(value: Any) -> str:
        require(isinstance(value, str) and compiled.fullmatch(value), what)
        return str(value)

    return match


hex32 = matching(r"[0-9a-f]{64}", "32 bytes in lower-case hex")
cka_id = matching(r"([0-9a-f]{2}){1,64}", "1 to 64 bytes in lower-case hex")
event_hash = matching(r"(sha256|blake3):[0-9a-f]{64}", "an event hash")
environment = matching(r"production|development", "an environment")
witness_id = matching(r"WITNESS:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "a witness id")
algorithm = matching(r"[a-z0-9][a-z0-9-]{0,63}", "the name of an algorithm")
_digits = matching(r"0|[1-9][0-9]{0,18}", "a decimal number below 2^63")
_time = matching(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:[0-5]\d\.\d{6}Z", "a time")


def name(value: Any) -> str:
    """1 to 255 bytes of UTF-8 without control characters."""
    require(isinstance(value, str) and 1 <= len(value.encode()) <= 255, "a name of 1 to 255 bytes")
    require(not re.search(r"[\x00-\x1f\x7f-\x9f]", value), "a name without control characters")
    return str(value)


def number(value: Any) -> int:
    """A decimal number below 2^63, as an integer."""
    result = int(_digits(value))
    require(result < 2**63, "a decimal number below 2^63")
    return result


def moment(value: Any) -> str:
    """A time; it stays text, since times compare as text."""
    try:
        datetime.datetime.fromisoformat(_time(value).removesuffix("Z"))
    except ValueError as error:
        raise Malformed("expected a date of the calendar") from error
    return str(value)


def base64(value: Any) -> bytes:
    """RFC 4648 section 4, in the one spelling there is for each byte string."""
    try:
        data = rfc4648.b64decode(text(value), validate=True)
    except ValueError as error:
        raise Malformed("expected base64") from error
    require(rfc4648.b64encode(data).decode() == value, "base64 with its unused bits zero")
    return data


def base64_either(value: Any) -> bytes:
    """Base64 in the standard or the URL-safe alphabet, wholly in one of them."""
    characters = set(text(value))
    require(not (characters & set("-_") and characters & set("+/")), "one alphabet of base64")
    return base64(value.replace("-", "+").replace("_", "/"))


def covers(pattern: str, stream: str) -> bool:
    """Say whether a pattern covers a stream."""
    return stream.startswith(pattern[:-1]) if pattern.endswith("*") else stream == pattern
