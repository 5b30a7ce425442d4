"""The service's log: one JSON object a line, so that nothing a caller sends can make a second line."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog


def configure(stream: TextIO = sys.stderr) -> None:
    """Write the log of this process to a stream, from level INFO up."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    # psycopg's pool writes libpq's messages, which tell where the database is; the store says the same without that.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    logging.basicConfig(handlers=[_Library()], level=logging.WARNING, force=True)


class _Library(logging.Handler):
    """Hands on what libraries log, which they would write to standard error as text of any number of lines."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
