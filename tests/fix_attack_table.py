"""The table of attacks: what each attacker does, which verdict was expected, and which one came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

ATTACK = "attack"

RecordAttack = Callable[[str, str, str, str], None]
"""Takes where (such as the policy), what the attacker does, the verdict expected and the one that came."""


@pytest.fixture
def record_attack(record_property: Callable[[str, Any], None]) -> RecordAttack:
    """Put a row into the table that `-m attacks` prints at its end."""

    def record(where: str, attack: str, expected: str, got: str) -> None:
        record_property(ATTACK, [where, attack, expected, got])

    return record


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the rows of this run, sorted, if the attacks were asked for."""
    if ATTACK not in (config.option.markexpr or ""):
        return
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = sorted(
        value for report in reports if report.when == "call" for name, value in report.user_properties if name == ATTACK
    )
    if rows:
        _print(terminalreporter, rows)


def _print(terminal: Any, rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    terminal.section(f"{len(rows)} attacks")
    for row in [["where", "attack", "expected", "got"], *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        wrong = "" if row[2] == row[3] or row is rows[0] or row[0] == "where" else "   <- WRONG"
        terminal.write_line("  ".join(cells).rstrip() + wrong)
