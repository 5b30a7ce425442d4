"""How a command fails: one message on stderr, as text or as JSON, and the exit code that belongs to it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn, ParamSpec

import typer

from witness_service.cli.output import attested_object, json_line, write_line
from witness_service.exit_codes import ExitCode
from witness_service.refusal import Code, Refused

P = ParamSpec("P")

_UNAVAILABLE = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


class InputProblem(Exception):
    """A local file cannot be used; the message names it, what was expected and what to do."""


class Finding(Exception):
    """A check on this machine failed; reason: stable, upper case."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Make a function a command: what it raises becomes a message on stderr and an exit code.

    The function has a parameter as_json, which says in which form.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            function(*args, **kwargs)
        except Refused as refused:
            _fail_refused(refused, as_json)
        except Finding as finding:
            _fail(ExitCode.REFUSED, finding.reason, str(finding), as_json)
        except InputProblem as problem:
            _fail(ExitCode.INPUT, "INPUT_PROBLEM", str(problem), as_json)

    return run


def refusal_object(refused: Refused) -> dict[str, object]:
    """Return a refusal as a JSON object."""
    return {
        "code": refused.code.name,
        "reason": str(refused.reason),
        "message": refused.message,
        "metadata": dict(refused.metadata),
        "existing": [attested_object(item) for item in refused.existing],
    }


def exit_code(refused: Refused) -> ExitCode:
    """Return the exit code of a refusal."""
    return ExitCode.UNAVAILABLE if refused.code in _UNAVAILABLE else ExitCode.REFUSED


def _fail_refused(refused: Refused, as_json: bool) -> NoReturn:
    if as_json:
        _write({"error": refusal_object(refused)})
        raise typer.Exit(exit_code(refused))
    facts = ", ".join(f"{name}={value}" for name, value in sorted(refused.metadata.items()))
    lines = [refused.message, *([f"({facts})"] if facts else [])]
    for item in refused.existing:
        lines.append(f"stands there: position {item.leaf_index}, key {item.key_id}")
        lines.append(item.statement.decode("utf-8", "replace"))
    _fail(exit_code(refused), str(refused.reason), "\n  ".join(lines), as_json)


def _fail(code: ExitCode, reason: str, message: str, as_json: bool) -> NoReturn:
    if as_json:
        _write({"error": {"reason": reason, "message": message}})
    else:
        for number, line in enumerate(f"{reason}: {message}".split("\n")):
            write_line(line, colour="" if number else "red", stderr=True)
    raise typer.Exit(code)


def _write(error: Mapping[str, object]) -> None:
    sys.stderr.write(json_line(error) + "\n")
