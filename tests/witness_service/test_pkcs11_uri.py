"""PKCS#11 URIs: the form of RFC 7512, and a refusal for what cannot be heeded or should not be said."""

from __future__ import annotations

from pathlib import Path

import pytest

from witness_service.lead_signer import LeadKeyError
from witness_service.pkcs11_uri import Pkcs11Uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pkcs11:", Pkcs11Uri()),
        ("PKCS11:token=a", Pkcs11Uri(token="a")),
        (
            "pkcs11:object=lead;type=private;id=%00%Ff;token=The%20token",
            Pkcs11Uri(token="The token", label="lead", cka_id=b"\x00\xff"),
        ),
        (
            "pkcs11:token=%e2%82%ac;serial=0001;manufacturer=A:B&C;model=%3B%3F%2F",
            Pkcs11Uri(token="\u20ac", serial="0001", manufacturer="A:B&C", model=";?/"),
        ),
        (
            "pkcs11:slot-id=1315476997?module-path=/usr/lib/x.so",
            Pkcs11Uri(slot_id=1315476997, module_path="/usr/lib/x.so"),
        ),
        (
            "pkcs11:id=abc?module-name=softhsm2&pin-source=/run/pin",
            Pkcs11Uri(cka_id=b"abc", module_name="softhsm2", pin_source="/run/pin"),
        ),
        ("pkcs11:?pin-source=file:/run/pin", Pkcs11Uri(pin_source="/run/pin")),
        ("pkcs11:?pin-source=file:///run/a%20pin", Pkcs11Uri(pin_source="/run/a pin")),
        ("pkcs11:?pin-source=file://localhost/run/pin", Pkcs11Uri(pin_source="/run/pin")),
    ],
)
def test_what_a_uri_says(text: str, expected: Pkcs11Uri) -> None:
    """Attributes in any order, percent-encoding undone once, a CKA_ID of any bytes."""
    assert Pkcs11Uri.parse(text) == expected


REFUSED = {
    "another scheme": ("file:token=a", "expected a PKCS#11 URI"),
    "no value": ("pkcs11:token", "expected NAME=VALUE"),
    "an empty attribute": ("pkcs11:token=a;;object=b", "expected NAME=VALUE"),
    "an attribute twice": ("pkcs11:token=a;token=a", "token once, got it twice"),
    "a query attribute twice": ("pkcs11:?module-name=a&module-name=b", "module-name once"),
    "an unknown attribute": ("pkcs11:tokn=a", "got tokn"),
    "one of the library": ("pkcs11:library-version=3", "got library-version"),
    "a vendor's": ("pkcs11:x-muppet=cookie", "got x-muppet"),
    "a vendor's in the query": ("pkcs11:token=a?x-a=b", "got x-a"),
    "a path attribute in the query": ("pkcs11:token=a?object=b", "got object"),
    "a query attribute in the path": ("pkcs11:module-path=/x", "got module-path"),
    "a raw blank": ("pkcs11:token=my token", "expected other characters as %XX"),
    "a raw slash in the path": ("pkcs11:token=a/b", "expected other characters as %XX"),
    "a raw question mark in the path": ("pkcs11:token=a?b", "expected NAME=VALUE"),
    "a fragment": ("pkcs11:token=a#b", "expected other characters as %XX"),
    "a letter beyond ASCII": ("pkcs11:token=\u20ac", "expected other characters as %XX"),
    "half an escape": ("pkcs11:token=a%2", "expected other characters as %XX"),
    "an escape that is none": ("pkcs11:token=%zz", "expected other characters as %XX"),
    "a line end": ("pkcs11:token=a\n", "expected other characters as %XX"),
    "text that is no UTF-8": ("pkcs11:token=%ff", "expected UTF-8"),
    "a certificate": ("pkcs11:type=cert", "type=private"),
    "a slot that is no number": ("pkcs11:slot-id=-1", "expected a number"),
    "a PIN command": ("pkcs11:?pin-source=|cat%20/run/pin", "never run"),
    "a relative PIN file": ("pkcs11:?pin-source=pin", "expected an absolute path"),
    "a PIN from the network": ("pkcs11:?pin-source=https://example.org/pin", "expected an absolute path"),
    "a PIN file elsewhere": ("pkcs11:?pin-source=file://example.org/pin", "expected an absolute path"),
    "too long": ("pkcs11:token=" + "a" * 9000, "at most"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    """Nothing is skipped or guessed: what a URI says was meant to say which key."""
    text, expected = REFUSED[case]
    with pytest.raises(LeadKeyError) as caught:
        Pkcs11Uri.parse(text)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "query", ["pin-value=SENTINEL", "module-name=x&pin-value=SENTINEL", "pin-value", "pin-value=%"]
)
def test_a_pin_in_the_uri_is_refused_and_not_repeated(query: str) -> None:
    """An argument list is seen by everybody on the machine."""
    with pytest.raises(LeadKeyError, match="pin-source") as caught:
        Pkcs11Uri.parse(f"pkcs11:token=a?{query}")
    assert "SENTINEL" not in str(caught.value)


def test_the_module_by_path_by_folder_and_by_name(tmp_path: Path) -> None:
    """module-path names the module or its folder, module-name what it is called without lib and .so."""
    module = tmp_path / "libtoken.so"
    module.write_bytes(b"")
    assert Pkcs11Uri(module_path=str(module)).module() == str(module)
    assert Pkcs11Uri(module_path=str(tmp_path), module_name="token").module() == str(module)
    assert Pkcs11Uri(module_name="softhsm2").module().endswith("/libsofthsm2.so")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (Pkcs11Uri(), "module-path=FILE or ?module-name=NAME"),
        (Pkcs11Uri(module_path="/nowhere/x.so"), "got no file"),
        (Pkcs11Uri(module_path="/usr/lib"), "module-path=FILE or ?module-name=NAME"),
        (Pkcs11Uri(module_name="no-such-module"), "libno-such-module.so"),
        (Pkcs11Uri(module_name="../evil"), "without a path"),
    ],
)
def test_a_module_that_is_not_there(uri: Pkcs11Uri, expected: str) -> None:
    """The error says what would name one."""
    with pytest.raises(LeadKeyError) as caught:
        uri.module()
    assert expected in str(caught.value)
