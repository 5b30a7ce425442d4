"""What the demo says while it works: each step as it happens, with its time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.text import Text

from witness_service.cli.output import Advance, console, progress


class Steps:
    """Writes steps to standard output, and bars to standard error when that is a terminal."""

    def __init__(self) -> None:
        self.console: Console = console()
        self._started = monotonic()

    def restart(self) -> None:
        """Count the time from now."""
        self._started = monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return monotonic() - self._started

    def say(self, what: str, text: str, style: str = "") -> None:
        """Write one step: a word for it and what happened."""
        line = Text(f"{self.seconds:7.2f} s  ", style="dim")
        line.append(f"{what:<9}", style="bold cyan not dim")
        line.append(text, style=f"not dim {style}")
        self.console.print(line, soft_wrap=True)
        sys.stdout.flush()

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """Show a bar while the block works."""
        with progress(what, total) as advance:
            yield advance
