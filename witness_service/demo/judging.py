"""The part of the demo with files only: judge what was signed, and what a thief forges."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic

from witness_service.demo import log_file, programs
from witness_service.demo.folder import Folder
from witness_service.demo.forger import NEVER, forge
from witness_service.demo.result import Result
from witness_service.demo.steps import Steps

TOKEN = "token"
TOKEN_LABEL = "witness-dev"
"""Folder and label of the token in the state folder of `witness dev`."""


def write_events(folder: Folder, streams: Iterable[str]) -> None:
    """Compute every event's hash anew from the log file: what the verifier compares the statements with."""
    with folder.events.open("w") as output:
        for stream in streams:
            for event in log_file.events(folder.source, stream):
                output.write(f"{event.stream}\t{event.sequence}\t{event.event_hash}\n")


def verify(folder: Folder, registry_id: str, steps: Steps, result: Result) -> None:
    """Have witness-verify judge every evidence file; count what is VALID, each place once."""
    began = monotonic()
    places: set[tuple[str, str]] = set()
    keys: set[str] = set()
    arguments = [*_judge(folder, registry_id), "--events", str(folder.events), str(folder.evidence)]
    with (
        (folder.path / "verify.log").open("w") as errors,
        programs.running(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as verifier,
        steps.bar("judged", result.signed) as advance,
    ):
        assert verifier.stdout is not None
        for line in verifier.stdout:
            verdict = json.loads(line)
            if "code" not in verdict:
                continue
            advance(1)
            result.codes[verdict["code"]] += 1
            if verdict["outcome"] == "VALID" and verdict["event_compared"] == "yes":
                places.add((verdict["stream"], verdict["sequence"]))
                keys.add(verdict["key_id"])
        code = verifier.wait(programs.STOP_SECONDS)
    if code not in (0, 1, 2):
        said = (folder.path / "verify.log").read_text().strip()
        raise programs.ProgramFailed(f"witness-verify: exit code {code}: {said}")
    result.valid, result.keys = len(places), len(keys)
    codes = ", ".join(f"{count:,} {name}" for name, count in result.codes.most_common())
    steps.say("verdicts", f"witness-verify, exit code {code}, {monotonic() - began:.1f} s: {codes}")


def try_forgeries(folder: Folder, registry_id: str, retired: str, steps: Steps, result: Result) -> None:
    """Let a thief with the token and the retired key forge, and have every forgery judged."""
    files = [path for stream in sorted(folder.evidence.iterdir()) for path in sorted(stream.iterdir())]
    steps.say("forger", f"steals the token and signs with the retired key {retired[:16]}")
    forgeries = forge(folder.state / TOKEN, TOKEN_LABEL, folder.bundle.read_bytes(), retired, files)
    folder.forgeries.mkdir()
    paths = {str(folder.forgeries / forgery.name): forgery for forgery in forgeries}
    for path, forgery in paths.items():
        Path(path).write_bytes(forgery.content)
    # The hash of the forged event is given, so that nothing is refused for the event's sake.
    output = programs.run([*_judge(folder, registry_id), "--event-hash", NEVER, *paths], accept=(0, 1, 2))
    for verdict in map(json.loads, output.splitlines()):
        if "code" not in verdict:
            continue
        words = paths[verdict["path"]].words
        refused = verdict["outcome"] != "VALID"
        result.forgeries_refused += refused
        result.forgeries.append((words, verdict["code"]))
        steps.say("forger", f"{words}: {verdict['code']}", style="green" if refused else "bold red")
    if len(result.forgeries) != len(forgeries):
        raise programs.ProgramFailed("witness-verify: expected a verdict on every forgery, got fewer")


def _judge(folder: Folder, registry_id: str) -> Sequence[str]:
    trust = ["--bundle", str(folder.bundle), "--registry-id", registry_id]
    return [programs.program("witness-verify"), *trust, "--accept-environment", "development", "--json"]
