"""`witness publish` under a policy: what strangers read is cosigned, and evidence and bundle agree with it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cosigner.note import COSIGNATURE, Checkpoint, key_id, raw
from tests.fix_cosigner import RunningCosigner, StartCosigners
from tests.fix_service import ServeService
from tests.published_reader import files, read_log
from tests.witness_service.chain import Chain
from tests.witness_service.cosigned import cosigned_service
from witness_service.embedded_postgres import EmbeddedPostgres
from witness_service.wire.client import WitnessClient


@pytest.fixture
def cosigners(start_cosigners: StartCosigners) -> list[RunningCosigner]:
    return start_cosigners(2)


@pytest.fixture
def service(postgres: EmbeddedPostgres, tmp_path: Path, cosigners: list[RunningCosigner]) -> Iterator[ServeService]:
    """A service under a policy of both cosigners, with three statements."""
    with cosigned_service(postgres, tmp_path / "service", cosigners, 2) as made:
        made.start()
        sign(made, Chain(), 3)
        yield made


def sign(service: ServeService, chain: Chain, count: int) -> None:
    with WitnessClient(service.address) as client:
        for sequence in range(count):
            client.sign(chain.event(sequence))


def publish(service: ServeService, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    where = ["--address", service.address, "--registry-id", service.registry_id, "--to", str(folder)]
    command = [sys.executable, "-P", "-m", "witness_service.cli", "publish", *where, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def cosigned_by(folder: Path, cosigners: list[RunningCosigner]) -> list[str]:
    """Return who cosigned a published checkpoint, each cosignature verified as a stranger would."""
    checkpoint = Checkpoint.parse((folder / "checkpoint").read_text())
    found = []
    for cosigner in cosigners:
        own = cosigner.key_name, key_id(cosigner.key_name, COSIGNATURE, raw(cosigner.key))
        (signature,) = [value for name, identity, value in checkpoint.signatures if (name, identity) == own]
        (time,) = struct.unpack(">Q", signature[:8])
        cosigner.key.public_key().verify(signature[8:], f"cosignature/v1\ntime {time}\n{checkpoint.text}".encode())
        found.append(cosigner.name)
    return found


def test_published_checkpoints_carry_their_cosignatures(
    service: ServeService, cosigners: list[RunningCosigner], tmp_path: Path
) -> None:
    """Both logs', each line good, and in the policy file beside them the cosigners' keys."""
    public = tmp_path / "public"
    ran = publish(service, public, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    said = json.loads(ran.stdout)
    for name in ("registry", "statements"):
        assert cosigned_by(public / name, cosigners) == said[name]["cosigned_by"] == ["c1", "c2"]
    assert read_log(public / "statements").size == 3
    policy = (public / "policy").read_text()
    assert all(cosigner.vkey in policy for cosigner in cosigners)
    assert policy.endswith("\nquorum cosigners\n")


def test_what_is_not_cosigned_is_not_published(
    service: ServeService, cosigners: list[RunningCosigner], tmp_path: Path
) -> None:
    """While a cosigner is away the last cosigned checkpoint stays; when it is back the log goes on."""
    public = tmp_path / "public"
    assert publish(service, public).returncode == 0
    before = files(public / "statements")
    cosigners[0].stop()
    sign(service, Chain(), 2)
    again = publish(service, public, "--wait-cosigned", "0.5")
    assert again.returncode == 0, again.stderr
    assert files(public / "statements") == before
    cosigners[0].start()
    assert publish(service, public).returncode == 0
    assert read_log(public / "statements").size == 5
    assert cosigned_by(public / "statements", cosigners) == ["c1", "c2"]


def test_nothing_is_published_before_the_first_quorum(
    postgres: EmbeddedPostgres, cosigners: list[RunningCosigner], tmp_path: Path
) -> None:
    """A service whose cosigners never answered has nothing to show yet."""
    cosigners[0].misbehave("fails")
    with cosigned_service(postgres, tmp_path / "service", cosigners, 2) as made:
        made.start()
        sign(made, Chain(), 1)
        ran = publish(made, tmp_path / "public", "--wait-cosigned", "0.5", "--json")
    assert (ran.returncode, json.loads(ran.stderr)["error"]["reason"]) == (3, "QUORUM_NOT_MET")
    assert files(tmp_path / "public") == {}
