"""The registry log, the statement log, the places of events, and what is being worked on."""

from key_registry.migrations import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table, guard and grant of the first schema."""
    run_sql("0001")
