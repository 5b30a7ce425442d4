"""The part of the demo with a service: sign, rotate half way, fetch bundle and evidence, stop."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from witness_service.demo import programs
from witness_service.demo.folder import Folder
from witness_service.demo.log_file import lines
from witness_service.demo.result import FEWEST_EVENTS, Result
from witness_service.demo.steps import Steps

FEWEST_ROTATED = 1_000
"""Events signed after the rotation, so that the new key has signed some of them."""

ROTATE_AFTER = FEWEST_EVENTS // 2


@dataclass(frozen=True)
class Signed:
    """What was signed: events by stream, under which registry, and which key was retired meanwhile."""

    streams: Mapping[str, int]
    registry_id: str
    retired_key_id: str


def sign_log(folder: Folder, log: Path, steps: Steps, result: Result) -> Signed:
    """Sign the copy of a log file with a service of its own, and leave what an auditor needs in the folder.

    log: what the streams are named after. Raises ProgramFailed.
    """
    steps.say("service", "witness dev starts in a fresh folder: a token, a database, three witnesses")
    with (
        (folder.path / "dev.log").open("w") as output,
        programs.serving(folder.state, output) as (service, announced),
    ):
        steps.say("service", f"listens on {announced['address']}, registry {announced['registry_id']}")
        streams, retired = _sign(folder, log, announced["address"], steps, result)
        _fetch(folder, streams, steps)
        code = programs.stop(service, programs.STOP_SECONDS)
    if code != 0:
        raise programs.ProgramFailed(f"witness dev: expected exit code 0 after SIGTERM, got {code}")
    return Signed(streams, announced["registry_id"], retired)


def _sign(folder: Folder, log: Path, address: str, steps: Steps, result: Result) -> tuple[dict[str, int], str]:
    """Run the writer to its end, and the rotation beside it; return events by stream and the retired key."""
    listed = programs.run([programs.program("witness"), "keys", "list", "--json", *_at(folder)])
    witness_id = json.loads(listed.partition("\n")[0])["witness_id"]
    count = sum(1 for _ in lines(folder.source))
    rotation: Future[str] | None = None
    said: dict[str, Any] = {}
    began = monotonic()
    with (
        ThreadPoolExecutor(1) as pool,
        programs.running(_writer(folder, log, address), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer,
        steps.bar("events signed", -(-FEWEST_EVENTS // count) * count) as advance,
    ):
        assert writer.stdout is not None
        steps.say("writer", "signs over gRPC, 256 events a message")
        for line in writer.stdout:
            said = json.loads(line)
            advance(said["signed"] - result.signed)
            result.signed = said["signed"]
            if rotation is None and result.signed >= ROTATE_AFTER:
                steps.say("rotation", f"{witness_id} gets a new key; {result.signed:,} events are signed")
                rotation = pool.submit(_rotate, folder, witness_id, writer, steps)
        code = writer.wait(programs.STOP_SECONDS)
    retired = rotation.result() if rotation else ""
    if code != 0 or "streams" not in said:
        raise programs.ProgramFailed(f"writer: exit code {code} after {result.signed:,} events")
    result.sign_seconds = monotonic() - began
    rate = result.signed / result.sign_seconds
    steps.say("writer", f"{result.signed:,} events in {len(said['streams'])} streams, {rate:,.0f} a second")
    return said["streams"], retired


def _writer(folder: Folder, log: Path, address: str) -> list[str]:
    fewest = ["--fewest", str(FEWEST_EVENTS), "--fewest-rotated", str(FEWEST_ROTATED)]
    module = ["-P", "-m", "witness_service.demo.writer"]
    return [sys.executable, *module, *fewest, address, str(folder.source), str(log)]


def _rotate(folder: Folder, witness_id: str, writer: subprocess.Popen[str], steps: Steps) -> str:
    """Give a witness a new key while the writer goes on, and tell the writer; return the old key id."""
    try:
        command = [programs.program("witness"), "keys", "rotate", witness_id, "--yes", "--json", *_at(folder)]
        rotated = json.loads(programs.run(command))
    except BaseException:
        writer.terminate()
        raise
    assert writer.stdin is not None
    writer.stdin.write("rotated\n")
    writer.stdin.flush()
    new, old = rotated["new_key"], rotated["old_key"]
    steps.say("rotation", f"new key {new['key_id'][:16]} is valid from position {new['opened']:,}")
    steps.say("rotation", f"old key {old['key_id'][:16]} ends at {old['closed']:,}, signed {old['signed_count']:,}")
    return str(old["key_id"])


def _fetch(folder: Folder, streams: Mapping[str, int], steps: Steps) -> None:
    """Write the bundle, and one evidence file per event."""
    witness = programs.program("witness")
    with steps.bar("evidence", sum(streams.values())) as advance, ThreadPoolExecutor(2) as pool:

        def fetch(stream: str) -> int:
            where = ["--from", "0", "--output", str(folder.evidence), "--json", *_at(folder)]
            written: int = json.loads(programs.run([witness, "evidence", stream, *where]))["files"]
            advance(written)
            return written

        total = sum(pool.map(fetch, streams))
        programs.run([witness, "bundle", "--output", str(folder.bundle), *_at(folder)])
    steps.say("files", f"bundle.json and {total:,} .tlog-proof files in {folder.path}")


def _at(folder: Folder) -> list[str]:
    return ["--state", str(folder.state)]
