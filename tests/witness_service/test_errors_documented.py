"""The document of errors and the service's reasons are one list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from witness_service.refusal import REASON_DOMAIN, Code, Reason

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "errors.md"


def rows() -> list[tuple[str, str, str, str]]:
    """Return status, reason, meaning and what to do of every row of the table."""
    found = re.findall(r"^\| `([A-Z_]+)` \| `([A-Z_]+)` \| (.+) \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(found) > 20
    return found


def test_every_reason_is_documented() -> None:
    """What a program can meet, a person can look up."""
    assert {reason.value for reason in Reason} - {reason for _, reason, _, _ in rows()} == set()


def test_every_documented_reason_exists() -> None:
    """The document promises nothing that the service never says."""
    assert {reason for _, reason, _, _ in rows()} - {reason.value for reason in Reason} == set()


def test_every_status_is_documented_and_exists() -> None:
    """The same holds for the status codes."""
    assert {status for status, _, _, _ in rows()} == {code.name for code in Code}


def test_no_row_twice_and_none_empty() -> None:
    """Status and reason together name one row, with a meaning and something to do."""
    pairs = [(status, reason) for status, reason, _, _ in rows()]
    assert len(set(pairs)) == len(pairs)
    assert all(meaning.strip() and remedy.strip() for _, _, meaning, remedy in rows())


def test_the_domain_is_documented() -> None:
    """A reason is unique only within its domain."""
    assert f"`{REASON_DOMAIN}`" in DOCUMENT.read_text()


@pytest.mark.parametrize("reason", list(Reason))
def test_the_document_has_the_status_that_the_code_gives(reason: Reason) -> None:
    """Wherever the service refuses for a reason, it does so with a status that the document has for it."""
    documented = {status for status, name, _, _ in rows() if name == reason}
    source = "".join(file.read_text() for file in (ROOT / "witness_service").rglob("*.py"))
    given = set(re.findall(rf"Code\.([A-Z_]+),\s+Reason\.{reason.name}\b", source))
    if reason is Reason.FIELD_INVALID:
        given |= {"INVALID_ARGUMENT"}
    assert given <= documented
