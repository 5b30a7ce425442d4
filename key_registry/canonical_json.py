"""The subset of RFC 8785 canonical JSON that is signed: strings, null, arrays, objects with ASCII names.

Numbers are left out because their canonical spelling is the hard part of RFC 8785 and differs between
languages; booleans because nothing here needs them. With ASCII names the UTF-16 order of RFC 8785 is the
order of code points, so the encoder of the standard library already is the canonical one.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias

from key_registry.errors import FormatError

# Mapping and Sequence so that a dict[str, str] is one too; what is read is always dict and list.
JSONValue: TypeAlias = "str | Mapping[str, JSONValue] | Sequence[JSONValue] | None"

MAX_BYTES = 1_048_576
MAX_DEPTH = 16


def encode(value: JSONValue) -> bytes:
    """Return the canonical bytes of value.

    Args:
        value: str, None, dict with ASCII names, list or tuple; containers nested at most 16 deep.

    Raises:
        FormatError: anything else, or a lone surrogate in a string (RFC 8785 section 3.2.2.2).
    """
    _check(value, 0)
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError("expected Unicode text, got a lone surrogate") from None


def decode(data: bytes, *, max_bytes: int = MAX_BYTES) -> JSONValue:
    """Return the value whose canonical bytes are data.

    Args:
        data: UTF-8 without a byte order mark.
        max_bytes: the longest data accepted.

    Raises:
        FormatError: as for parse, or data is not exactly encode(value).
    """
    value, canonical = _parse(data, max_bytes)
    if canonical != data:
        raise FormatError("expected canonical JSON (RFC 8785), got another spelling of it")
    return value


def parse(data: bytes, *, max_bytes: int = MAX_BYTES) -> JSONValue:
    """Return the value of data in any spelling, with any white space, member order and escapes.

    For containers that no signature covers, such as a DSSE envelope.

    Args:
        data: UTF-8 without a byte order mark.
        max_bytes: the longest data accepted.

    Raises:
        FormatError: invalid UTF-8 or JSON, a number, a boolean, a member given twice, a name beyond ASCII, a
            lone surrogate, containers nested deeper than 16, or too many bytes.
    """
    return _parse(data, max_bytes)[0]


def _parse(data: bytes, max_bytes: int) -> tuple[JSONValue, bytes]:
    if len(data) > max_bytes:
        raise FormatError(f"expected at most {max_bytes} bytes of JSON, got {len(data)}")
    try:
        value: JSONValue = _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise FormatError("expected UTF-8, got other bytes") from None
    except json.JSONDecodeError:
        # Not chained: the exception holds the whole document.
        raise FormatError("expected JSON, got something else") from None
    except RecursionError:
        raise _too_deep() from None
    return value, encode(value)


def _check(value: object, depth: int) -> None:
    """Refuse what is outside the subset; the depth also bounds this recursion and the encoder's."""
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, dict | list | tuple):
        raise FormatError("expected strings, null, objects and arrays only, got another type")
    if depth == MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        if not all(isinstance(name, str) and name.isascii() for name in value):
            raise FormatError("expected member names in ASCII, got another name")
        value = value.values()
    for member in value:
        if type(member) is not str:
            _check(member, depth + 1)


def _too_deep() -> FormatError:
    return FormatError(f"expected JSON nested at most {MAX_DEPTH} deep, got deeper")


def _members(pairs: list[tuple[str, JSONValue]]) -> dict[str, JSONValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise FormatError("expected every member once, got a duplicate")
    return members


def _refuse_number(_literal: str) -> NoReturn:
    # Refused before conversion, which takes quadratic time for a long literal.
    raise FormatError("expected numbers as decimal strings, got a JSON number")


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), check_circular=False)
_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_refuse_number,
    parse_float=_refuse_number,
    parse_constant=_refuse_number,
)
