"""The interval in which a statement was signed: not before what it commits to, and by when the log held it.

Order never depends on clocks; this only tells what other people's clocks say about it. What comes from
cosigners holds as long as each of their quorums has one honest member; what comes from the leads is a claim.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from key_registry.replay import Registry
from key_registry.verdict import BY_COSIGNERS, BY_LEADS, BY_TIMESTAMP_AUTHORITY, Bound

CLOCK_SKEW = timedelta(minutes=5)


def existed_by(cosigned_at: int | None, stamped_at: str | None) -> Bound | None:
    """Return by when a checkpoint existed: the earlier of what cosigners and timestamp authority say, if any.

    Args:
        cosigned_at: POSIX seconds by which the quorum had cosigned it.
        stamped_at: the time of the authority's token over it.
    """
    bounds = []
    if cosigned_at is not None:
        bounds.append(Bound(time_of(cosigned_at), BY_COSIGNERS))
    if stamped_at is not None:
        bounds.append(Bound(stamped_at, BY_TIMESTAMP_AUTHORITY))
    return min(bounds, key=lambda bound: bound.time, default=None)


def not_before(registry: Registry, size: int) -> Bound:
    """Return when a statement that commits to the first `size` records was signed at the earliest.

    A record may embed a cosigned checkpoint, which did not exist before its cosigners' times. Where none does, there
    is only the leads' word for when the last of these records was made. Raises ValueError beyond the registry.
    """
    cosigned = registry.cosigned_before(size)
    if cosigned is None:
        return Bound(registry.at_size(size).last_time, BY_LEADS)
    return Bound(time_of(cosigned), BY_COSIGNERS)


@lru_cache(maxsize=4096)
def time_of(seconds: int) -> str:
    """Return POSIX seconds, before the year 10000, as YYYY-MM-DDTHH:MM:SS.ffffffZ."""
    return _text(datetime.fromtimestamp(seconds, UTC))


@lru_cache(maxsize=4096)
def shifted(time: str, by: timedelta) -> str:
    """Return the time moved, or as it is where the calendar ends."""
    try:
        return _text(datetime.fromisoformat(time) + by)
    except OverflowError:
        return time


def _text(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
