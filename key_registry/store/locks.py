"""The advisory locks of the store, all held to the end of the transaction.

Order everywhere: registry, statement log, streams by ascending id. Whoever takes a later one first can
deadlock.

A reader of what a lock protects asks in a statement of its own after the lock: under READ COMMITTED the
snapshot of the statement that waits is older than the wait.
"""

REGISTRY = 0x7769_7472_6567_6973
"""One bigint ("witregis"): shared by claims and seals, exclusive while a record is appended."""

STATEMENT_LOG = 0x7769_7473_746D_7473
"""One bigint ("witstmts"): exclusive while leaves are appended."""

STREAMS = 0x7769_7473
"""First of two integers ("wits"), the second being the stream id: exclusive while places are claimed."""

SHARE_REGISTRY = f"SELECT pg_advisory_xact_lock_shared({REGISTRY})"
LOCK_REGISTRY = f"SELECT pg_advisory_xact_lock({REGISTRY})"
LOCK_STATEMENT_LOG = f"SELECT pg_advisory_xact_lock({STATEMENT_LOG})"
LOCK_STREAMS = f"SELECT pg_advisory_xact_lock({STREAMS}, stream_id) FROM unnest(%b::integer[]) AS stream_id"
"""Takes the ids in the order given: ascending."""
