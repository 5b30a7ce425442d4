"""`witness bundle`: the file an auditor judges evidence with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from witness_service.cli.failure import Finding, command
from witness_service.cli.files import write_file
from witness_service.cli.output import write_facts, write_json
from witness_service.cli.where import Address, Json, RegistryId, State, WaitCosigned, find

JUDGE = "witness-verify --bundle {bundle} --registry-id {registry_id} FILE.tlog-proof"


@command
def bundle(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to write it.")] = Path("bundle.json"),
    wait_cosigned: WaitCosigned = 0.0,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Write bundle.json: every key record, the registry checkpoint and its coverage.

    It is replayed here first; with a known registry id it must lead from there. The auditor needs the
    registry id from you by another way than this file.

    \b
    Example:
      witness bundle --output bundle.json --wait-cosigned 10
    """
    from key_registry.bundle import Bundle
    from key_registry.errors import FormatError, RecordError
    from key_registry.replay import Registry
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    with WitnessClient(where.address) as client:
        content = client.bundle(wait_cosigned=wait_cosigned)
    try:
        registry = Registry.replay(Bundle.from_json(content).records, registry_id=where.registry_id)
    except (FormatError, RecordError) as error:
        raise Finding("CHECK_FAILED", f"the service's bundle does not hold: {error}") from error
    write_file(output, content)
    pinned = where.registry_id is not None
    facts = {
        "file": str(output),
        "registry_id": registry.registry_id,
        "records": registry.size,
        "pinned": pinned,
    }
    if as_json:
        write_json(facts)
        return
    write_facts(
        f"wrote {output}",
        {
            "registry": registry.registry_id,
            "pinned": "yes" if pinned else "no: this id comes from the service itself, compare it",
            "records": f"{registry.size}, {len(registry.keys)} keys of {len(registry.witnesses)} witnesses",
            "judge with": JUDGE.format(bundle=output, registry_id=registry.registry_id),
        },
    )
