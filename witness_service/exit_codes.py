"""The exit codes of `witness`, in one place."""

import enum


class ExitCode(enum.IntEnum):
    """What a shell script learns from `witness`; typer itself ends with USAGE and INTERRUPTED."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNAVAILABLE = 3
    INPUT = 4
    NOT_STARTED = 5
    LATCHED = 6
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.REFUSED: "refused by the service, or a negative finding (a check failed, a token is not ready)",
    ExitCode.USAGE: "wrong usage of the command",
    ExitCode.UNAVAILABLE: "the service cannot be reached or is not available; trying again is safe",
    ExitCode.INPUT: "a problem with a local file",
    ExitCode.NOT_STARTED: "`dev`, `serve`: the service cannot start; standard error says why in one line",
    ExitCode.LATCHED: "`dev`, `serve`: the token refused the PIN; a supervisor must not start it again",
    ExitCode.INTERRUPTED: "interrupted",
}


def table() -> str:
    """Return the exit codes as lines for a help text."""
    return "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
