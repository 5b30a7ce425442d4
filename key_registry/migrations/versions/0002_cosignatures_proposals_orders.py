"""Cosignatures of checkpoints, proposals of several documents, and the leads' orders about keys."""

from key_registry.migrations import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make what the first schema lacks, and bring what it holds into the new form."""
    run_sql("0002")
