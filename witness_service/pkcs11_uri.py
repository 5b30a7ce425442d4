"""PKCS#11 URIs (RFC 7512), as far as they name one private key on one token."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from witness_service.lead_signer import PKCS11_SCHEME, LeadKeyError

_LONGEST = 8192
_NAME = re.compile("[A-Za-z0-9_-]+")
# RFC 7512 section 2.3: pk11-pchar and pk11-qchar.
_PATH_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&-]|%[0-9A-Fa-f]{2})*")
_QUERY_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=/?|-]|%[0-9A-Fa-f]{2})*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_DIGITS = re.compile("[0-9]{1,10}")

_PATH = frozenset({"id", "manufacturer", "model", "object", "serial", "slot-id", "token", "type"})
_QUERY = frozenset({"module-name", "module-path", "pin-source"})

_MODULE_FOLDERS = (
    "/usr/lib/*-linux-gnu*/pkcs11",
    "/usr/lib/*-linux-gnu*",
    "/usr/lib64/pkcs11",
    "/usr/lib64",
    "/usr/lib/pkcs11",
    "/usr/lib",
    "/usr/lib/softhsm",
    "/usr/lib/*-linux-gnu*/softhsm",
    "/usr/local/lib/pkcs11",
    "/usr/local/lib",
)


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """What a URI says; what it does not say is empty, and fits everything.

    Attributes:
        token, serial, manufacturer, model: of the token (CK_TOKEN_INFO).
        slot_id: number of the slot.
        label: CKA_LABEL of the key (the attribute `object`).
        cka_id: CKA_ID of the key.
        module_path: of the PKCS#11 module, or of the folder with it.
        module_name: of the module, without "lib" and ".so".
        pin_source: path of a file with the PIN.
    """

    token: str = ""
    serial: str = ""
    manufacturer: str = ""
    model: str = ""
    slot_id: int | None = None
    label: str = ""
    cka_id: bytes = b""
    module_path: str = ""
    module_name: str = ""
    pin_source: str = ""

    @classmethod
    def parse(cls, text: str) -> Pkcs11Uri:
        """Read a URI; raises LeadKeyError for one that is not of the form, or says what cannot be heeded.

        An attribute that this program does not know is refused and not skipped: it was meant to say which key.
        """
        scheme, rest = text[: len(PKCS11_SCHEME)], text[len(PKCS11_SCHEME) :]
        if scheme.lower() != PKCS11_SCHEME or len(text) > _LONGEST:
            raise LeadKeyError(f"expected a PKCS#11 URI of at most {_LONGEST} characters, got something else")
        path, mark, query = rest.partition("?")
        # Not even parsed: an argument list is seen by everybody on the machine.
        if re.search("(?:^|&)pin-value(?:=|&|$)", query):
            raise LeadKeyError(
                "expected no pin-value: others see it in the list of processes; change that PIN, leave it out and "
                "type it when asked, or keep it in a file and use pin-source"
            )
        named = _attributes(path, ";", _PATH, _PATH_VALUE)
        asked = _attributes(query, "&", _QUERY, _QUERY_VALUE) if mark else {}
        if _text(named, "type", "private") != "private":
            raise LeadKeyError("PKCS#11 URI: expected type=private or none, got another type")
        slot_id = _text(named, "slot-id")
        if slot_id and not _DIGITS.fullmatch(slot_id):
            raise LeadKeyError("PKCS#11 URI: expected a number as slot-id, got something else")
        return cls(
            token=_text(named, "token"),
            serial=_text(named, "serial"),
            manufacturer=_text(named, "manufacturer"),
            model=_text(named, "model"),
            slot_id=int(slot_id) if slot_id else None,
            label=_text(named, "object"),
            cka_id=named.get("id", b""),
            module_path=_text(asked, "module-path"),
            module_name=_text(asked, "module-name"),
            pin_source=_file(_text(asked, "pin-source")),
        )

    def module(self) -> str:
        """Return the path of the PKCS#11 module; raises LeadKeyError when there is none."""
        folder = self.module_path and os.path.isdir(self.module_path)
        if self.module_path and not folder:
            if not os.path.isfile(self.module_path):
                raise LeadKeyError(f"expected a PKCS#11 module at {self.module_path}, got no file")
            return self.module_path
        if not self.module_name:
            raise LeadKeyError(
                "PKCS#11 URI: expected ?module-path=FILE or ?module-name=NAME, for nothing else says which module "
                "serves the token; got neither"
            )
        if "/" in self.module_name or self.module_name.startswith("."):
            raise LeadKeyError("PKCS#11 URI: expected a module-name without a path, got one; use module-path")
        folders = (self.module_path,) if folder else _MODULE_FOLDERS
        for path in _candidates(folders, self.module_name):
            if os.path.isfile(path):
                return path
        raise LeadKeyError(
            f"expected a PKCS#11 module {self.module_name}.so or lib{self.module_name}.so in the usual folders, got "
            "none; use module-path"
        )


def _candidates(folders: tuple[str, ...], name: str) -> Iterator[str]:
    for pattern in folders:
        for folder in sorted(glob(pattern)) or []:
            yield from (f"{folder}/{name}.so", f"{folder}/lib{name}.so")


def _attributes(text: str, separator: str, known: frozenset[str], value_form: re.Pattern[str]) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise LeadKeyError(f"PKCS#11 URI: expected NAME=VALUE between each {separator!r}, got something else")
        if name not in known:
            raise LeadKeyError(f"PKCS#11 URI: expected one of {', '.join(sorted(known))}, got {name}; leave it out")
        if name in found:
            raise LeadKeyError(f"PKCS#11 URI: expected {name} once, got it twice")
        if not value_form.fullmatch(value):
            raise LeadKeyError(f"PKCS#11 URI: {name}: expected other characters as %XX, got one as it is")
        found[name] = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), value.encode())
    return found


def _text(attributes: Mapping[str, bytes], name: str, default: str = "") -> str:
    try:
        return attributes[name].decode() if name in attributes else default
    except UnicodeDecodeError:
        raise LeadKeyError(f"PKCS#11 URI: {name}: expected UTF-8 (RFC 7512 section 2.3), got other bytes") from None


def _file(source: str) -> str:
    """Return the path in a pin-source: one of a file, as it is or as a file URI."""
    if source.startswith("|"):
        raise LeadKeyError("PKCS#11 URI: pin-source: expected a file, got a command, which is never run")
    path = re.sub("^file:(?://(?:localhost)?)?(?=/(?!/))", "", source, count=1, flags=re.IGNORECASE)
    if path and not Path(path).is_absolute():
        raise LeadKeyError("PKCS#11 URI: pin-source: expected an absolute path or file:/PATH, got something else")
    return path
