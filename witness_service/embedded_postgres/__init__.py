"""A private PostgreSQL cluster in a folder: what `witness dev` stores in, and what the tests run against."""

from witness_service.embedded_postgres.account import EmbeddedPostgresError
from witness_service.embedded_postgres.cluster import SUPERUSER, EmbeddedPostgres

__all__ = ["SUPERUSER", "EmbeddedPostgres", "EmbeddedPostgresError"]
