"""The witness that drills rotate: its streams are its own, so that no event of production ever goes to it."""

from __future__ import annotations

from collections.abc import Sequence

DRILL_STREAMS = "drill/"
"""What the streams of a drill's witness start with, and those of no other."""


def is_drill(streams: Sequence[str]) -> bool:
    """Whether a key for these streams is there for drills alone."""
    return all(pattern.startswith(DRILL_STREAMS) for pattern in streams)
