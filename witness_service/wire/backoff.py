"""Waiting between attempts: a random part of a doubling time, within a total that progress renews."""

from __future__ import annotations

import random
from time import monotonic, sleep

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 2.0


class Backoff:
    """The waits of one caller. total: seconds without progress after which it gives up; 0 for no second attempt."""

    def __init__(self, total: float) -> None:
        self._total = total
        self.reset()

    def reset(self) -> None:
        """Take note of progress: the total runs anew, the waits start short."""
        self._give_up_at = monotonic() + self._total
        self._next = FIRST_SECONDS

    def time_left(self) -> bool:
        """Say whether another attempt is allowed."""
        return monotonic() < self._give_up_at

    def wait(self) -> bool:
        """Wait before the next attempt; False, without waiting, when the total is used up."""
        left = self._give_up_at - monotonic()
        if left <= 0:
            return False
        # Full jitter: many writers that lost the same server must not come back in step.
        sleep(min(left, random.uniform(0, self._next)))
        self._next = min(LONGEST_SECONDS, 2 * self._next)
        return True
