"""The one place that reads the wall clock; everything else takes time as an argument."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], str]
"""Returns the time as YYYY-MM-DDTHH:MM:SS.ffffffZ."""


def utc_text(moment: datetime) -> str:
    """Return an aware datetime as YYYY-MM-DDTHH:MM:SS.ffffffZ."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def now() -> str:
    """Return the current time as YYYY-MM-DDTHH:MM:SS.ffffffZ."""
    return utc_text(datetime.now(UTC))


def moment_of(time: str) -> datetime:
    """Return the aware datetime of YYYY-MM-DDTHH:MM:SS.ffffffZ; raises ValueError."""
    return datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
