"""`witness publish` against a running service: what strangers then read in the folder."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from key_registry.public_key import PublicKey
from tests.fix_service import DevService, Foundation, ServeService, serving, until
from tests.published_reader import files, leaf, log_vkeys, read_log
from tests.witness_service.chain import Chain
from witness_service.embedded_postgres import EmbeddedPostgres
from witness_service.refusal import Refused
from witness_service.wire.client import WitnessClient

PUBLISH = [sys.executable, "-P", "-m", "witness_service.cli", "publish"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*PUBLISH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def done(*arguments: str | Path) -> dict[str, object]:
    """Run the command with --json and return what it said."""
    ran = run(*arguments, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


def sign(address: str, count: int) -> Chain:
    """Have the events of a new stream attested."""
    chain = Chain()
    with WitnessClient(address) as client:
        for first in range(0, count, 400):
            for outcomes in client.sign_stream([chain.events(first, min(first + 400, count))]):
                assert not any(isinstance(outcome, Refused) for outcome in outcomes)
    return chain


def test_the_folder_holds_what_the_service_signed(service: ServeService, tmp_path: Path) -> None:
    """Entries, tiles and checkpoints of both logs fit together, and grow with the service's."""
    public = tmp_path / "public"
    config = service.start().write_configuration()
    chain = sign(service.address, 300)
    config.write_text(config.read_text().replace("127.0.0.1:0", service.address))
    said = done("--config", config, "--to", public)
    assert (said["registry_id"], said["pinned"], said["dry_run"]) == (service.registry_id, True, False)
    statements, registry = read_log(public / "statements"), read_log(public / "registry")
    assert (statements.size, registry.size) == (300, 7)
    assert said["statements"] == {
        "origin": statements.origin,
        "old_size": 0,
        "size": 300,
        "root": statements.root.hex(),
        "new_files": 5,
        "cosigned_by": [],
    }
    with service.auditor() as database:
        rows = database.execute("SELECT leaf_hash FROM witness.attestations ORDER BY leaf_index").fetchall()
    assert [leaf(entry) for entry in statements.entries] == [bytes(value) for (value,) in rows]
    for sequence in (0, 299):
        assert any(chain.hash(sequence).encode() in entry for entry in statements.entries)
    sign(service.address, 20)
    before = files(public)
    assert "would publish in" in run("--config", config, "--to", public, "--dry-run").stdout
    assert files(public) == before
    plain = run("--config", config, "--to", public)
    assert plain.returncode == 0
    assert "320 entries, 20 of them new" in plain.stdout
    assert read_log(public / "statements").entries[:300] == statements.entries


def test_the_published_policy_names_the_keys_of_both_logs(service: ServeService, tmp_path: Path) -> None:
    """They are those of the genesis, in the form that other programs take."""
    service.start()
    done("--address", service.address, "--registry-id", service.registry_id, "--to", tmp_path)
    with WitnessClient(service.address) as client:
        genesis = client.history().records[0]
    vkeys = log_vkeys((tmp_path / "policy").read_text())
    body = json.loads(base64.b64decode(json.loads(genesis.envelope)["payload"]))
    for log in body["logs"].values():
        key = PublicKey.from_spki(base64.b64decode(log["public_key"]))
        assert key.raw in base64.b64decode(vkeys[log["origin"]].split("+", 2)[2])


@pytest.fixture
def restored(foundation: Foundation, postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[ServeService]:
    """The same registry as `service`, from before anything was signed."""
    with serving(foundation, postgres, tmp_path / "restored") as made:
        yield made.start()


@pytest.mark.attacks
def test_a_restored_backup_is_refused(service: ServeService, restored: ServeService, tmp_path: Path) -> None:
    """Its log is shorter, or has other entries where the published ones are; the folder stays as it was."""
    public = tmp_path / "public"
    sign(service.start().address, 5)
    pinned = ("--registry-id", service.registry_id, "--to", public)
    done("--address", service.address, *pinned)
    before = files(public)
    for reason in ("LOG_ROLLED_BACK", "LOG_FORK"):
        ran = run("--address", restored.address, *pinned, "--json")
        assert (ran.returncode, json.loads(ran.stderr)["error"]["reason"]) == (1, reason)
        assert files(public) == before
        sign(restored.address, 6)


def test_what_was_changed_in_the_database_is_not_published(service: ServeService, tmp_path: Path) -> None:
    """Entries must give the root that the log has signed."""
    sign(service.start().address, 5)
    with service.superuser() as database:
        database.execute("ALTER TABLE witness.attestations DISABLE TRIGGER USER")
        database.execute(
            "UPDATE witness.attestations SET signature = decode(repeat('00', 64), 'hex') WHERE leaf_index = 2"
        )
    ran = run("--address", service.address, "--registry-id", service.registry_id, "--to", tmp_path / "public", "--json")
    assert (ran.returncode, json.loads(ran.stderr)["error"]["reason"]) == (1, "CHECK_FAILED")
    assert files(tmp_path / "public") == {}


def test_it_can_go_on_by_itself(service: ServeService, tmp_path: Path) -> None:
    """With --watch every growth is published soon; a service that is away for a while is waited for."""
    public = tmp_path / "public"
    sign(service.start().address, 3)
    command = [*PUBLISH, "--address", service.address, "--to", str(public), "--watch", "0.2", "--json"]
    with open(tmp_path / "said", "wb") as said:
        watching = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        until(lambda: (public / "statements" / "checkpoint").exists())
        service.stop()
        until(lambda: "UNREACHABLE" in (tmp_path / "said").read_text())
        service.configuration["service"]["listen"] = service.address
        sign(service.start().address, 4)
        until(lambda: "\n7\n" in (public / "statements" / "checkpoint").read_text())
        assert watching.poll() is None
    finally:
        watching.terminate()
        watching.wait(20)
    read_log(public / "statements")


def test_an_address_that_nobody_answers(tmp_path: Path) -> None:
    ran = run("--address", "127.0.0.1:1", "--to", tmp_path / "public", "--json")
    assert (ran.returncode, json.loads(ran.stderr)["error"]["reason"]) == (3, "UNREACHABLE")


def test_a_folder_that_cannot_be_one(dev_service: DevService, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    ran = run("--state", dev_service.state, "--to", tmp_path / "file", "--json")
    assert (ran.returncode, json.loads(ran.stderr)["error"]["reason"]) == (4, "INPUT_PROBLEM")


def test_options_that_cannot_be_meant(tmp_path: Path) -> None:
    assert run("--config", tmp_path / "a", "--address", "127.0.0.1:1", "--to", tmp_path).returncode == 2
    two_lines = "https://log.example/\nquorum none"
    assert run("--address", "127.0.0.1:1", "--to", tmp_path, "--url", two_lines).returncode == 2
    ran = run("--config", tmp_path / "missing.toml", "--to", tmp_path)
    assert (ran.returncode, "missing.toml" in ran.stderr) == (4, True)


def test_the_logs_are_read_over_the_wire(service: ServeService) -> None:
    """Any range of either log, and checkpoints over at least what is asked for."""
    sign(service.start().address, 520)
    with WitnessClient(service.address) as client:
        whole = list(client.entries("statements", 0, 520))
        assert len(whole) == 520
        assert list(client.entries("statements", 250, 300)) == whole[250:300]
        assert list(client.entries("statements", 519, 9999)) == whole[519:]
        assert list(client.entries("statements", 520, 530)) == []
        records = list(client.entries("registry", 0, 100))
        assert len(records) == 7
        assert list(client.entries("registry", 2, 4)) == records[2:4]
        for at_least in (0, 520, 10_000):
            checkpoint = client.checkpoint("statements", at_least)
            assert (checkpoint.size, checkpoint.note.split(b"\n")[1]) == (520, b"520")
        assert client.checkpoint("registry", 0).size == 7
        with pytest.raises(Refused, match="2\\^62"):
            client.checkpoint("statements", 2**63)
        with pytest.raises(Refused, match="2\\^62"):
            list(client.entries("statements", 2**62, 2**62 + 1))


def test_publishing_often_does_not_disturb_signing(service: ServeService, tmp_path: Path) -> None:
    """While events are signed every publication is whole, and each continues the one before."""
    service.start()
    sizes = []
    with WitnessClient(service.address) as client:
        chain = Chain()
        outcomes = client.sign_stream(chain.events(first, first + 50) for first in range(0, 1000, 50))
        for _ in range(4):
            next(outcomes)
            done("--address", service.address, "--registry-id", service.registry_id, "--to", tmp_path / "public")
            sizes.append(read_log(tmp_path / "public" / "statements").size)
        for batch in outcomes:
            assert not any(isinstance(outcome, Refused) for outcome in batch)
    assert sizes == sorted(sizes)
    assert sizes[0] >= 50
