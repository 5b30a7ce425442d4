"""The programs the demo starts: each in a process group of its own, ended with everything it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

START_SECONDS = 120.0
STOP_SECONDS = 60.0
COMMAND_SECONDS = 300.0
POLL_SECONDS = 0.02
STOPPING = (signal.SIGINT, signal.SIGTERM)


class ProgramFailed(Exception):
    """A program ended otherwise than it should; the message says which and how."""


def program(name: str) -> str:
    """Return the path of a program installed beside this Python; raises ProgramFailed."""
    path = Path(sys.executable).parent / name
    if not os.access(path, os.X_OK):
        raise ProgramFailed(f"expected the program {path}, got none; run script/bootstrap")
    return str(path)


@contextmanager
def running(
    arguments: Sequence[str], *, stop_seconds: float = STOP_SECONDS, **pipes: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run a program for the length of the block; afterwards it is gone, and so is what it started."""
    with _signals_held_back() as release:
        process = subprocess.Popen(arguments, text=True, start_new_session=True, **pipes)
        try:
            release()
            yield process
        finally:
            _end(process, stop_seconds)


def _end(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        stop(process, seconds)
    finally:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextmanager
def _signals_held_back() -> Iterator[Callable[[], None]]:
    """Hold SIGINT and SIGTERM back until the yielded function is called.

    A handler that raises while Popen waits for its child would leave the child to nobody. The mask of the process
    would not do: the child inherits it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # signals are handled in the main thread alone
        return
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda got, _: came.append(got)) for number in STOPPING}

    def release() -> None:
        while handlers:
            signal.signal(*handlers.popitem())
        while came:
            signal.raise_signal(came.pop())

    try:
        yield release
    finally:
        release()


def stop(process: subprocess.Popen[str], seconds: float) -> int | None:
    """End a program with SIGTERM within so many seconds; return its exit code, None when it had to be killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # What it left behind too: one that is ended while it starts may not have learned to clean up yet.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(seconds)


def run(arguments: Sequence[str], *, accept: Sequence[int] = (0,), seconds: float = COMMAND_SECONDS) -> str:
    """Run a command to its end and return its standard output; raises ProgramFailed for another exit code."""
    with running(arguments, stop_seconds=5.0, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"{_named(arguments)}: expected an end within {seconds:.0f} s, got none") from None
    if process.returncode not in accept:
        raise ProgramFailed(f"{_named(arguments)}: exit code {process.returncode}: {errors.strip() or output.strip()}")
    return output


@contextmanager
def serving(state: Path, log: IO[str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `witness dev` on a free port for the length of the block; yields it and its dev.json."""
    arguments = [program("witness"), "dev", "--state", str(state), "--listen", "127.0.0.1:0"]
    with running(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
        give_up_at = monotonic() + START_SECONDS
        announcement = state / "dev.json"
        while not announcement.exists():
            if process.poll() is not None:
                said = Path(log.name).read_text().strip()
                raise ProgramFailed(f"witness dev: exit code {process.returncode} before it served: {said}")
            if monotonic() > give_up_at:
                raise ProgramFailed(f"witness dev: expected {announcement} within {START_SECONDS:.0f} s, got none")
            sleep(POLL_SECONDS)
        yield process, json.loads(announcement.read_text())


def _named(arguments: Sequence[str]) -> str:
    return f"{Path(arguments[0]).name} {' '.join(arguments[1:3])}"
