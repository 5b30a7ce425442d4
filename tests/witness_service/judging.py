"""What an auditor finds: every piece of evidence judged offline, and the tables of record read as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import psycopg

from key_registry.evidence import Evidence
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.statement import Statement
from key_registry.verdict import Verdict
from tests.fix_service import Service
from tests.witness_service.chain import Chain
from witness_service.event import Attested
from witness_service.wire.client import WitnessClient

ENVIRONMENTS = frozenset({"development"})


def trusted(service: Service) -> TrustedRegistry:
    """Return the registry of a fresh bundle, opened with the id the service was founded with."""
    with WitnessClient(service.address) as client:
        opened = open_bundle(client.bundle(), service.registry_id)
    assert isinstance(opened, TrustedRegistry), opened
    return opened


def evidence_of(service: Service, stream: str) -> dict[int, bytes]:
    """Return the evidence for every place of a stream, by sequence."""
    with WitnessClient(service.address) as client:
        pages = client.list_proofs(stream, 0, None)
        return {file.sequence: file.tlog_proof for page in pages for file in page}


def verdicts(service: Service, chain: Chain) -> dict[int, Verdict]:
    """Judge the evidence for every place of a stream against the chain's own hashes, by sequence."""
    found = evidence_of(service, chain.stream)
    registry = trusted(service)
    return {
        sequence: judge(registry, proof, event_hash=chain.hash(sequence), environments=ENVIRONMENTS)
        for sequence, proof in found.items()
    }


def codes(service: Service, chain: Chain) -> Counter[str]:
    """Return how often each verdict was given for a stream."""
    return Counter(verdict.code.name for verdict in verdicts(service, chain).values())


def signed_bytes(proof: bytes) -> tuple[bytes, bytes]:
    """Return statement and signature of a piece of evidence."""
    envelope = Evidence.read(proof).envelope
    return envelope.body, envelope.signatures[0].signature


Row = tuple[int, bytes, int | None, bytes | None]
_STORED = """
SELECT claim.sequence, claim.statement, leaf.leaf_index, leaf.signature
FROM witness.claims AS claim JOIN witness.streams AS stream USING (stream_id)
LEFT JOIN witness.attestations AS leaf USING (claim_id)
WHERE stream.name = %s ORDER BY claim.sequence, leaf.leaf_index
"""


def stored(database: psycopg.Connection[Any], stream: str) -> list[Row]:
    """Return what the database holds of a stream: sequence, statement, leaf index and signature of every claim."""
    return [
        (sequence, bytes(statement), leaf_index, signature and bytes(signature))
        for sequence, statement, leaf_index, signature in database.execute(_STORED, (stream,))
    ]


def check_stored(database: psycopg.Connection[Any], stream: str, released: Iterable[Attested]) -> list[Row]:
    """Check a stream's rows and return them: one attestation per claim, and every released one among them."""
    rows = stored(database, stream)
    assert [row for row in rows if row[2] is None] == [], "claims without an attestation"
    assert len({row[0] for row in rows}) == len(rows), "places with more than one claim"
    for sequence, statement, _, _ in rows:
        said = Statement.decode(statement)
        assert (said.stream, said.sequence) == (stream, sequence)
    at = {row[0]: row[1:] for row in rows}
    for item in released:
        assert at[item.sequence] == (item.statement, item.leaf_index, item.signature)
    return rows


def check_log(database: psycopg.Connection[Any]) -> int:
    """Check that leaf indices have no gap, that nothing is left unsealed and that every claim has its leaf."""
    ((leaves, highest, claims, unsealed),) = database.execute(
        "SELECT count(*), coalesce(max(leaf_index), -1), (SELECT count(*) FROM witness.claims),"
        " (SELECT count(*) FROM witness.unsealed) FROM witness.attestations"
    )
    assert highest == leaves - 1
    assert (claims, unsealed) == (leaves, 0)
    return int(leaves)
