"""Why witness-verify gives up without a verdict."""


class CannotRun(Exception):
    """Something the program needs is missing or wrong; the text is one line for the person who called it."""


class NoRoom(CannotRun):
    """A temporary file cannot be made, or cannot grow."""
