"""Writes the vectors: `python -m tests.vectors.make` from the top of the checkout.

The same bytes at every run. What was decided by hand is the code of each row in table.py; the interval and the
completeness are what the product says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from key_registry.judge import judge, open_bundle
from key_registry.verdict import Verdict
from tests.vectors.table import Vector, tables
from tests.vectors.worlds import World

FOLDER = Path(__file__).parent
TABLE = "vectors.json"


def files() -> dict[str, bytes]:
    """Return every file of the vectors, by its path below this folder."""
    written: dict[str, bytes] = {}
    for world in (World(cosigned=False), World(cosigned=True)):
        written[f"bundles/{world.name}.json"] = world.newest.to_json()
        written[f"evidence/{world.name}.tlog-proof"] = world.genuine(20)
    rows = [_row(world, vector, written) for world, vector in tables()]
    written[TABLE] = json.dumps(rows, indent=1, ensure_ascii=False).encode() + b"\n"
    return written


def _row(world: World, vector: Vector, written: dict[str, bytes]) -> dict[str, Any]:
    bundle = world.newest.to_json() if vector.bundle is None else vector.bundle
    evidence = world.genuine(20) if vector.evidence is None else vector.evidence
    pinned = vector.registry_id or world.registry_id
    trusted = open_bundle(bundle, pinned)
    environments = frozenset(vector.environments)
    verdict = (
        trusted
        if isinstance(trusted, Verdict)
        else judge(trusted, evidence, event_hash=vector.event_hash, environments=environments)
    )
    said = {"not_before": verdict.not_before, "existed_by": verdict.existed_by}
    return {
        "name": f"{world.name}: {vector.name}",
        "bundle": _kept(written, "bundles", world, vector.name, "json", bundle),
        "evidence": _kept(written, "evidence", world, vector.name, "tlog-proof", evidence),
        "registry_id": pinned,
        "environments": list(vector.environments),
        "event_hash": vector.event_hash,
        "code": vector.code,
        "completeness": verdict.completeness,
        **{name: it and {"time": it.time, "source": it.source} for name, it in said.items()},
    }


def _kept(written: dict[str, bytes], folder: str, world: World, name: str, ending: str, data: bytes) -> str:
    """Keep a file under the name of the first row that needs it, and return its path."""
    for path, known in written.items():
        if known == data:
            return path
    path = f"{folder}/{world.name}-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.{ending}"
    assert path not in written
    written[path] = data
    return path


def recorded() -> Iterator[dict[str, Any]]:
    """Return the rows as they are in the folder."""
    yield from json.loads((FOLDER / TABLE).read_bytes())


def main() -> None:
    """Write the files, and remove those that no row needs any more."""
    written = files()
    for folder in ("bundles", "evidence"):
        (FOLDER / folder).mkdir(exist_ok=True)
        for file in (FOLDER / folder).iterdir():
            if f"{folder}/{file.name}" not in written:
                file.unlink()
    for path, data in written.items():
        (FOLDER / path).write_bytes(data)


if __name__ == "__main__":
    main()
