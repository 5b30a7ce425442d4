"""A line on standard error that says how far long work is."""

import sys
import time


class Progress:
    """Says how far work is, if standard error is a terminal; otherwise nothing is counted or written."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self._start = self._last = time.monotonic()
        self._drawn = False

    def show(self, what: str, count: int, total: int | None = None) -> None:
        """Say that `count` of `what` are done, from the second second on and five times a second at most.

        Args:
            what: the work, in words.
            count: how much is done.
            total: how much there is to do; None when nobody knows.
        """
        now = time.monotonic()
        if not self.shown or now - self._start < 1 or now - self._last < 0.2:
            return
        self._last, self._drawn = now, True
        rate = count / (now - self._start)
        of, left = "", ""
        if total is not None and count <= total:
            of = f" of {total:,}"
            left = f", {_duration((total - count) / rate)} left" if rate else ""
        sys.stderr.write(f"\r\x1b[K{count:,}{of} {what}, {rate:,.0f} per second{left}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away, before anything else is printed."""
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
