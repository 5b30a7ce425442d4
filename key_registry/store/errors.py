"""What can go wrong in the store. No message holds a connection string or the data of a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests


class StoreError(Exception):
    """The database did not do what was asked."""


class StoreUnavailable(StoreError):
    """No answer, or none that can be relied on: the outcome is unknown, and is found by reading again."""


class Conflict(StoreError):
    """Another transaction was first; nothing was changed, and the work may be done again from its start."""


class SchemaMismatch(StoreError):
    """The database, its schema or this role's rights are not what this release works with."""


class IntegrityBroken(StoreError):
    """What was to be stored contradicts what is stored, or what is stored itself; nothing was changed."""


class RegistryMoved(Conflict):
    """The registry log is not as long as the writer believed. size: records in it."""

    def __init__(self, size: int) -> None:
        super().__init__(f"expected to append at the end of the registry log, which has {size} records")
        self.size = size


class KeyInUse(Conflict):
    """The key has claims that are not sealed yet. unsealed: how many."""

    def __init__(self, unsealed: int) -> None:
        super().__init__(f"expected no unsealed claims of the key to close, got {unsealed}; seal them first")
        self.unsealed = unsealed


class SignedSince(Conflict):
    """The key to close has signed more than the record counts. signed: how many."""

    def __init__(self, signed: int) -> None:
        super().__init__(f"expected a record that counts every signature of the key, which are {signed}")
        self.signed = signed


class EmergencyFirst(Conflict):
    """A key is to be declared compromised; no other record is stored before that is decided."""

    def __init__(self) -> None:
        super().__init__("expected no open compromise proposal, got one: it goes first")


class ProposalEnded(Conflict):
    """The proposal that was to take effect is neither open nor approved any more."""

    def __init__(self) -> None:
        super().__init__("expected an open or approved proposal to carry out, got none")


_LOST_RACES = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)
_WRONG_SCHEMA = (
    errors.InsufficientPrivilege,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.InvalidSchemaName,
)
_ENDED_BY_THE_SERVER = (errors.ReadOnlySqlTransaction, errors.IdleInTransactionSessionTimeout)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what psycopg and its pool raise inside into a StoreError."""
    try:
        yield
    except (psycopg.Error, PoolClosed, PoolTimeout, TooManyRequests) as error:
        # Not `from error`: a libpq message can hold host, user and the data of a row.
        raise translate(error) from None


def translate(error: Exception) -> StoreError:
    """Return the StoreError of an exception of psycopg or its pool."""
    code = getattr(error, "sqlstate", None) or "no SQLSTATE"
    if isinstance(error, _LOST_RACES):
        return Conflict(f"another transaction was first ({code}); do the work again")
    if isinstance(error, psycopg.IntegrityError):
        message = error.diag.message_primary if code in ("23000", "23001") else None  # ours: hold numbers only
        return IntegrityBroken(message or f"the database refused a row that breaks a constraint ({code})")
    if isinstance(error, _WRONG_SCHEMA):
        return SchemaMismatch(
            f"expected the schema and grants of this release, got a refusal ({code}); check the database"
        )
    if isinstance(error, (psycopg.OperationalError, *_ENDED_BY_THE_SERVER)):
        return StoreUnavailable(f"expected the database to answer, got {_what(error)} ({code})")
    if isinstance(error, PoolClosed):
        return StoreUnavailable("expected an open store, got one that is closed")
    return StoreError(f"the database refused ({code})")


def _what(error: Exception) -> str:
    if isinstance(error, PoolTimeout):
        return "no free connection in time"
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return "a read-only node"
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return "a wait that took too long"
    if isinstance(error, errors.DiskFull):
        return "a full disk"
    # Without SQLSTATE the server refused the session; what it says names role and database, and no password.
    _, refused, reason = str(error).rpartition("FATAL:")
    return reason.strip() if refused and not getattr(error, "sqlstate", None) else "a lost connection"
