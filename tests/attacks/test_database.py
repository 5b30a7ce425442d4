"""A database administrator who edits any table, triggers disabled; the service then serves what it finds.

The service, its database and its token are real. Each row edits a copy of the same past, starts the service on it, and
judges with witness-verify whatever evidence and bundle it gives out, by that bundle and by one from before. A wrong
VALID is one about a statement that was never attested there.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from hsm import TokenRef
from key_registry import merkle, note
from key_registry.checkpoint import Checkpoint
from key_registry.dsse import Envelope, Signature, pae
from key_registry.evidence import Evidence
from key_registry.judge import TrustedRegistry, open_bundle
from key_registry.key_version import KeyVersion
from key_registry.statement import STATEMENT_TYPE, Statement
from key_registry.store.schema import GUARDS, RECORD_TABLES
from key_registry.store.tiles import Edge
from key_registry.tlog_proof import TlogProof
from tests.fix_attack_table import RecordAttack
from tests.fix_service import Foundation, ServeService, serving
from tests.key_registry.software_registry import MemoryLog, SoftwareKey
from tests.witness_service.chain import Chain, batches
from tests.witness_service.rotating import rotate, witness_ids
from witness_service.custody import Custody
from witness_service.embedded_postgres import EmbeddedPostgres
from witness_service.refusal import Refused
from witness_service.wire.client import WitnessClient

pytestmark = [pytest.mark.attacks, pytest.mark.slow]

Fact = tuple[str, str, str, str, str]
"""Stream, sequence, event hash, key id and leaf index of a statement that was attested."""

BEFORE, AFTER = 300, 15
"""Statements before and after each witness has a new key; a tile of the log is full with 256."""

CHAIN = Chain("orders")


@dataclass(frozen=True)
class Past:
    """What a service has done before the administrator comes: to be copied for every row."""

    foundation: Foundation
    bundle: bytes
    evidence: dict[int, bytes]
    retired: KeyVersion
    token: TokenRef

    @property
    def facts(self) -> frozenset[Fact]:
        """Return what was attested."""
        return frozenset(fact_of(evidence) for evidence in self.evidence.values())


def fact_of(evidence: bytes) -> Fact:
    found = Evidence.read(evidence)
    said = Statement.decode(found.envelope.body)
    assert found.proof is not None
    return said.stream, str(said.sequence), said.event_hash, said.key_id, str(found.proof.index)


@pytest.fixture(scope="module")
def past(
    foundation: Foundation, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Past]:
    """A service that has signed, rotated every key and signed again, and is stopped."""
    with serving(foundation, postgres, tmp_path_factory.mktemp("past") / "service") as service:
        with WitnessClient(service.start().address) as client:
            list(client.sign_stream(batches(CHAIN.events(0, BEFORE), 100)))
            for witness_id in witness_ids(service.address):
                rotate(service.address, service.lead_key, witness_id)
            list(client.sign_stream([CHAIN.events(BEFORE, BEFORE + AFTER)]))
            bundle, evidence = client.bundle(), evidence_of(client)
        assert service.stop() == 0
        opened = open_bundle(bundle, service.registry_id)
        assert isinstance(opened, TrustedRegistry)
        said = Statement.decode(Evidence.read(evidence[5]).envelope.body)
        database = str(conninfo_to_dict(service.superuser_dsn)["dbname"])
        section = service.configuration["tokens"][0]
        yield Past(
            Foundation(foundation.registry, service.folder / "token", foundation.lead_key, database),
            bundle,
            evidence,
            opened.registry.keys[said.key_id],
            TokenRef(
                section["module"], section["label"], section["serial"], section["pin_file"], section["environment"]
            ),
        )


def evidence_of(client: WitnessClient) -> dict[int, bytes]:
    """Return the evidence for a sample of the places, on both sides of the rotation."""
    ranges = [(0, 20), (BEFORE - 5, None)]
    pages = [page for first, last in ranges for page in client.list_proofs(CHAIN.stream, first, last)]
    return {file.sequence: file.tlog_proof for page in pages for file in page}


@contextmanager
def unguarded(service: ServeService) -> Iterator[psycopg.Connection[Any]]:
    """Lend a connection that no trigger and no foreign key stops; the guards are back in their place after it."""
    with service.superuser() as database:
        database.execute("SET session_replication_role = replica")
        for table in RECORD_TABLES:
            database.execute(f"ALTER TABLE witness.{table} DISABLE TRIGGER ALL")
        yield database
        for table in RECORD_TABLES:
            database.execute(f"ALTER TABLE witness.{table} ENABLE TRIGGER ALL")
        for table, trigger in GUARDS:
            database.execute(f"ALTER TABLE witness.{table} ENABLE ALWAYS TRIGGER {trigger}")


Edit = Callable[[psycopg.Connection[Any], Past], None]


def sql(*statements: str) -> Edit:
    """Return what runs statements, each of which must change something."""

    def edit(database: psycopg.Connection[Any], past: Past) -> None:
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement

    return edit


def swapped_key(database: psycopg.Connection[Any], past: Past) -> None:
    """Put another key into the newest key-add record, its hash and the hash after it recomputed."""
    ((seq, data),) = database.execute(
        "SELECT seq, envelope FROM witness.registry_records"
        " WHERE convert_from(envelope, 'UTF8')::json ->> 'payload' IS NOT NULL ORDER BY seq DESC OFFSET 2 LIMIT 1"
    )
    said = json.loads(bytes(data))
    envelope = Envelope.from_json(bytes(data))
    body = envelope.body.replace(b"ed25519", b"ed25518")
    changed = Envelope(envelope.payload_type, body, envelope.signatures)
    assert said
    database.execute(
        "UPDATE witness.registry_records SET envelope = %s, leaf_hash = %s WHERE seq = %s",
        (changed.to_json(), merkle.leaf_hash(changed.entry()), seq),
    )


def forged(past: Past, sequence: int) -> Envelope:
    """Return a statement about another event at an old place, signed by the retired key itself, which was stolen."""
    said = Statement.decode(Evidence.read(past.evidence[sequence]).envelope.body)
    fields = {**vars(said), "event_hash": CHAIN.forked().hash(sequence)}
    body = Statement(**fields).encode()
    signature = asyncio.run(_sign(past, pae(STATEMENT_TYPE, body)))
    return Envelope(STATEMENT_TYPE, body, (Signature(past.retired.key_id, signature),))


async def _sign(past: Past, message: bytes) -> bytes:
    custody = await Custody.open([(past.token, 1)], sign_timeout=10.0)
    try:
        key = past.retired
        await custody.hold(key.public_key, key.cka_id, key.token_serial)
        return await custody.sign_one(key.key_id, message)
    finally:
        await custody.close()


def put(database: psycopg.Connection[Any], envelope: Envelope, index: int) -> None:
    """Put an attestation into the rows of another one."""
    said = Statement.decode(envelope.body)
    (signature,) = envelope.signatures
    database.execute(
        "UPDATE witness.claims SET statement = %s FROM witness.attestations AS leaf"
        " WHERE leaf.claim_id = claims.claim_id AND leaf.leaf_index = %s",
        (envelope.body, index),
    )
    database.execute(
        "UPDATE witness.places SET event_hash = %s FROM witness.streams AS stream"
        " WHERE stream.stream_id = places.stream_id AND stream.name = %s AND sequence = %s",
        (said.event_hash, said.stream, said.sequence),
    )
    database.execute(
        "UPDATE witness.attestations SET signature = %s, leaf_hash = %s WHERE leaf_index = %s",
        (signature.signature, merkle.leaf_hash(envelope.entry()), index),
    )


def forgery_in_place(database: psycopg.Connection[Any], past: Past) -> None:
    """Exchange an old attestation for one by the stolen retired key, and nothing else."""
    proof = Evidence.read(past.evidence[5]).proof
    assert proof is not None
    put(database, forged(past, 5), proof.index)


def history_rewritten(database: psycopg.Connection[Any], past: Past) -> None:
    """The same, with every tile and every head of the log recomputed, and every signed checkpoint gone."""
    forgery_in_place(database, past)
    leaves = [
        bytes(leaf) for (leaf,) in database.execute("SELECT leaf_hash FROM witness.attestations ORDER BY leaf_index")
    ]
    _, tiles = Edge.from_rows(0, []).extended(leaves)
    for tile in tiles:
        database.execute(
            "UPDATE witness.tiles SET root = %s, hashes = %s WHERE level = %s AND tile_index = %s",
            (tile.root, tile.hashes, tile.level, tile.tile_index),
        )
    for (size,) in database.execute("SELECT size FROM witness.seals").fetchall():
        database.execute("UPDATE witness.seals SET root = %s WHERE size = %s", (merkle.root(leaves[:size]), size))
    database.execute("DELETE FROM witness.checkpoints WHERE log = 'statements'")


def rewritten_root(database: psycopg.Connection[Any]) -> tuple[int, bytes]:
    """Return size and root of the log with the forgery in it."""
    rows = database.execute("SELECT leaf_hash FROM witness.attestations ORDER BY leaf_index").fetchall()
    return len(rows), merkle.root(bytes(leaf) for (leaf,) in rows)


def head_rewritten(database: psycopg.Connection[Any], past: Past) -> None:
    """The same, with the head alone recomputed: the administrator makes the proof himself, all he lacks is a name."""
    forgery_in_place(database, past)
    size, root = rewritten_root(database)
    database.execute("UPDATE witness.seals SET root = %s WHERE size = %s", (root, size))
    database.execute("DELETE FROM witness.checkpoints WHERE log = 'statements'")


def checkpoint_smuggled(database: psycopg.Connection[Any], past: Past) -> None:
    """The same, with a checkpoint that the log has not signed where its own stood."""
    forgery_in_place(database, past)
    size, root = rewritten_root(database)
    proof = Evidence.read(past.evidence[310]).proof
    assert proof is not None
    opened = note.parse(proof.checkpoint)
    origin = Checkpoint.parse(opened.text).origin
    thief = note.NoteSignature("thief", b"abcd", bytes(64))
    smuggled = note.serialize(Checkpoint(origin, size, root).text(), [thief])
    database.execute("DELETE FROM witness.checkpoints WHERE log = 'statements'")
    database.execute(
        "INSERT INTO witness.checkpoints (log, size, note) VALUES ('statements', %s, %s)", (size, smuggled)
    )


EDITS: dict[str, Edit] = {
    "claims: another event hash in a statement": sql(
        "UPDATE witness.claims SET statement = convert_to(replace(convert_from(statement, 'UTF8'),"
        " '\"event_hash\":\"sha256:', '\"event_hash\":\"blake3:'), 'UTF8') WHERE sequence = 7"
    ),
    "claims: the statements of two places swapped": sql(
        "UPDATE witness.claims SET statement = other.statement FROM witness.claims AS other"
        " WHERE claims.sequence IN (7, 8) AND other.sequence = 15 - claims.sequence"
    ),
    "claims: given to another key": sql(
        "UPDATE witness.claims SET key_id = (SELECT key_id FROM witness.claims WHERE sequence = 310) WHERE sequence = 7"
    ),
    "attestations: a bit of a signature": sql(
        "UPDATE witness.attestations SET signature = set_bit(signature, 7, 1 - get_bit(signature, 7))"
        " WHERE leaf_index = 7"
    ),
    "attestations: another leaf hash": sql(
        "UPDATE witness.attestations SET leaf_hash = sha256(leaf_hash) WHERE leaf_index = 310"
    ),
    "attestations: two leaves swapped": sql(
        "UPDATE witness.attestations SET leaf_index = 100000 WHERE leaf_index = 7",
        "UPDATE witness.attestations SET leaf_index = 7 WHERE leaf_index = 310",
        "UPDATE witness.attestations SET leaf_index = 310 WHERE leaf_index = 100000",
    ),
    "attestations: the last ones gone": sql("DELETE FROM witness.attestations WHERE leaf_index >= 310"),
    "attestations and seals: back to before the rotation": sql(
        "DELETE FROM witness.attestations WHERE leaf_index >= 300",
        "DELETE FROM witness.seals WHERE size > 300",
        "DELETE FROM witness.checkpoints WHERE log = 'statements' AND size > 300",
    ),
    "tiles: a hash in a tile": sql(
        "UPDATE witness.tiles SET hashes = set_byte(hashes, 7, 255 - get_byte(hashes, 7)) WHERE level = 0"
    ),
    "tiles: the root of a tile": sql("UPDATE witness.tiles SET root = sha256(root)"),
    "tiles: gone": sql("DELETE FROM witness.tiles"),
    "seals: another root of the head": sql(
        "UPDATE witness.seals SET root = sha256(root) WHERE size = (SELECT max(size) FROM witness.seals)"
    ),
    "checkpoints: another size under the signature": sql(
        "UPDATE witness.checkpoints SET note = convert_to(replace(convert_from(note, 'UTF8'),"
        " E'\\n' || size || E'\\n', E'\\n' || (size + 1) || E'\\n'), 'UTF8') WHERE log = 'statements'"
    ),
    "checkpoints: those of the other log": sql(
        "UPDATE witness.checkpoints SET note = (SELECT note FROM witness.checkpoints WHERE log = 'registry'"
        " ORDER BY size DESC LIMIT 1) WHERE log = 'statements'"
    ),
    "registry_records: another key": swapped_key,
    "registry_records: the last one gone": sql(
        "DELETE FROM witness.registry_records WHERE seq = (SELECT max(seq) FROM witness.registry_records)"
    ),
    "registry_records: a rotation cut out": sql(
        "DELETE FROM witness.registry_records WHERE seq = (SELECT max(seq) - 1 FROM witness.registry_records)"
    ),
    "registry_records: every rotation gone": sql("DELETE FROM witness.registry_records WHERE seq > 6"),
    "registry_records: two records swapped": sql(
        "UPDATE witness.registry_records SET envelope = other.envelope FROM witness.registry_records AS other"
        " WHERE registry_records.seq IN (2, 3) AND other.seq = 5 - registry_records.seq"
    ),
    "cosignatures: a line that nobody signed": sql(
        "INSERT INTO witness.cosignatures (log, size, cosigner_id, cosigned_at, line)"
        " SELECT log, size, sha256('x'), 0, E'\\u2014 x.example YWFhYWFhYWE=\\n' FROM witness.checkpoints"
    ),
    "timestamps: a token that nobody gave": sql(
        "INSERT INTO witness.timestamps (size, token)"
        " SELECT size, 'x' FROM witness.checkpoints WHERE log = 'statements'"
    ),
    "places: another hash": sql(
        "UPDATE witness.places SET event_hash = replace(event_hash, 'sha256', 'blake3') WHERE sequence = 7"
    ),
    "streams: renamed": sql("UPDATE witness.streams SET name = 'payments'"),
    "key_counts: another count": sql("UPDATE witness.key_counts SET signed = signed + 1000"),
    "unsealed: a claim that is sealed": sql(
        "INSERT INTO witness.unsealed SELECT claim_id, key_id FROM witness.claims WHERE sequence = 7"
    ),
    "all: a forgery by the stolen retired key in the place of a statement": forgery_in_place,
    "all: the same, with the whole log recomputed": history_rewritten,
    "all: the same, with the head of the log recomputed and its tiles kept": head_rewritten,
    "all: the same, with an unsigned checkpoint for the log to sign": checkpoint_smuggled,
}


@pytest.mark.parametrize("name", EDITS)
def test_no_table_can_be_edited_into_a_wrong_valid(
    name: str, past: Past, postgres: EmbeddedPostgres, tmp_path: Path, record_attack: RecordAttack
) -> None:
    """Whatever the administrator edits, nothing comes out VALID that was not attested."""
    with serving(past.foundation, postgres, tmp_path / "service") as service:
        with unguarded(service) as database:
            EDITS[name](database, past)
            rows = database.execute("SELECT leaf_hash FROM witness.attestations ORDER BY leaf_index").fetchall()
        evidence, bundle = served(service)
    evidence |= with_own_proofs(past, [bytes(leaf) for (leaf,) in rows], evidence)
    wrong = []
    for index, data in enumerate([past.bundle, *bundle]):
        folder = tmp_path / f"by-{index}"
        wrong += sorted(valid(folder, data, evidence, past.foundation.registry.registry_id) - past.facts)
    record_attack("database", name, "0 wrongly VALID", f"{len(wrong)} wrongly VALID")
    assert wrong == []


def with_own_proofs(past: Past, leaves: list[bytes], evidence: dict[int, bytes]) -> dict[int, bytes]:
    """Return a forgery under every checkpoint that the service gave out, with the administrator's own proofs."""
    log = MemoryLog("", SoftwareKey("unused"))
    log.leaf_hashes = leaves
    envelope, notes = forged(past, 5), {it.proof.checkpoint for it in map(Evidence.read, evidence.values()) if it.proof}
    sizes = {checkpoint: Checkpoint.parse(note.parse(checkpoint).text).size for checkpoint in notes}
    index = leaves.index(leaf) if (leaf := merkle.leaf_hash(envelope.entry())) in leaves else None
    return {
        2000 + number: Evidence(envelope, TlogProof(index, log.proof(index, size), checkpoint, None)).to_bytes()
        for number, (checkpoint, size) in enumerate(sizes.items())
        if index is not None and index < size <= len(leaves)
    }


def served(service: ServeService) -> tuple[dict[int, bytes], list[bytes]]:
    """Return the evidence and the bundles that the service gives out, if it starts and if it gives any."""
    evidence: dict[int, bytes] = {}
    bundles: list[bytes] = []
    service.spawn("serve", "--config", str(service.write_configuration()))
    assert service.process is not None
    for _ in range(600):
        if service.process.poll() is not None:
            return evidence, bundles
        if "serving on " in service.said() and service.said().partition("serving on ")[2].endswith("\n"):
            break
        try:
            service.process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    address = service.said().partition("serving on ")[2].split()[0]
    with WitnessClient(address) as client:
        for ask in (lambda: bundles.append(client.bundle()), lambda: evidence.update(evidence_of(client))):
            try:
                ask()
            except Refused:
                continue
        for sequence in (5, 7, 8, 310):
            try:
                evidence[1000 + sequence] = client.proof(CHAIN.stream, sequence)[0].tlog_proof
            except Refused:
                continue
        with suppress(Refused):
            bundles.append(client.bundle())
    return evidence, bundles


def valid(folder: Path, bundle: bytes, evidence: dict[int, bytes], registry_id: str) -> set[Fact]:
    """Return what witness-verify finds VALID."""
    pieces = folder / "evidence"
    pieces.mkdir(parents=True)
    for number, data in evidence.items():
        (pieces / f"{number}.tlog-proof").write_bytes(data)
    if not evidence:
        return set()
    (folder / "bundle.json").write_bytes(bundle)
    command = ["--bundle", str(folder / "bundle.json"), "--registry-id", registry_id, "--json", str(pieces)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "key_registry.verify", "--accept-environment", "development", *command],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        (said["stream"], said["sequence"], said["event_hash"], said["key_id"], said["leaf_index"])
        for said in lines
        if said.get("outcome") == "VALID"
    }
