"""The table at the end of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from witness_service.demo.result import Result


def write_report(console: Console, result: Result) -> None:
    """Write what was shown, as a table."""
    table = Table(box=box.ROUNDED, show_header=False, title="what was shown", title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    rate = result.signed / result.sign_seconds
    table.add_row("events signed in the HSM", f"{result.signed:,}", f"{rate:,.0f} a second, durable, over gRPC")
    table.add_row("judged VALID offline", _judged(result), _codes(result))
    table.add_row("keys that signed them", f"{result.keys}", "one of them retired half way, without a pause")
    for words, code in result.forgeries:
        table.add_row("forged with the retired key", Text(code, style=_style(code)), words)
    table.add_row("from start to last verdict", f"{result.seconds:.1f} s", "")
    console.print(table)


def _judged(result: Result) -> Text:
    return Text(f"{result.valid:,}", style="green" if result.valid == result.signed else "bold red")


def _codes(result: Result) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in result.codes.most_common())


def _style(code: str) -> str:
    return "bold red" if code.startswith("VALID") else "green"
