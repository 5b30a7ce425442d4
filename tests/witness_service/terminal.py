"""A program on a terminal of its own, and somebody who types when asked."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60.0

# The terminal must be the program's own: what asks for secrets opens /dev/tty and not standard input.
_ON_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class Ended:
    """What a program showed, and its exit code."""

    shown: str
    exit_code: int


def on_terminal(
    command: Sequence[str],
    dialogue: Sequence[tuple[str, str]],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Ended:
    """Run a `witness` command on a terminal, in a folder.

    dialogue: what it is expected to ask, and what is typed then. Fails when it does not ask in time.
    """
    ours, theirs = os.openpty()
    program = [sys.executable, "-P", "-m", "witness_service.cli", *command]
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_TERMINAL, *program],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=dict(os.environ) | dict(environment or {}),
        cwd=folder,
    )
    os.close(theirs)
    shown, seen = "", 0
    deadline = time.monotonic() + SECONDS
    try:
        for question, answer in dialogue:
            while question not in shown[seen:]:
                more = _read(ours, deadline)
                assert more, f"expected {question!r}, got only {shown!r}"
                shown += more
            seen = len(shown)
            os.write(ours, f"{answer}\n".encode())
        while more := _read(ours, deadline):
            shown += more
        return Ended(shown, process.wait(max(0.1, deadline - time.monotonic())))
    finally:
        process.kill()
        process.wait(10)
        os.close(ours)


def _read(descriptor: int, deadline: float) -> str:
    """Return what comes next, "" at the end; fails when nothing comes in time."""
    ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
    assert ready, "the program neither wrote nor ended"
    try:
        return os.read(descriptor, 65536).decode(errors="replace")
    except OSError:  # how Linux says that nobody has the other side open any more
        return ""
