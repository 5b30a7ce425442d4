"""`witness publish`: both logs, the bundle and the policy in a folder for a web server."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli.failure import Finding, InputProblem, command, refusal_object
from witness_service.cli.output import json_line, progress, write_facts, write_json, write_line
from witness_service.cli.where import Address, Json, RegistryId, State, Where, find
from witness_service.refusal import Code, Refused

if TYPE_CHECKING:
    from witness_service.publish import Folder, Growth, Published
    from witness_service.wire.answers import SignedCheckpoint
    from witness_service.wire.client import WitnessClient

_URL = re.compile("https?://[!-~]+")
_PASSING = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


@command
def publish(
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Folder to publish in; made if need be.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The service's configuration: where it listens, which registry."),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Where FOLDER is served, to be named in the policy.")
    ] = None,
    watch: Annotated[
        float | None, typer.Option("--watch", metavar="SECONDS", min=0.1, help="Go on, publishing so often.")
    ] = None,
    wait_cosigned: Annotated[
        float, typer.Option("--wait-cosigned", metavar="SECONDS", min=0, max=60, help="Wait so long for cosigners.")
    ] = 10.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Fetch and check everything, write nothing.")] = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Publish both logs, the bundle and the policy in a folder that any web server can serve.

    FOLDER gets registry/ and statements/ (C2SP tlog-tiles: checkpoint, tile/...), bundle.json, policy (C2SP
    tlog-policy) and timestamps/. It goes on where the published checkpoints end. Everything is verified before it is
    shown, and a checkpoint is replaced last. A service whose log is shorter than the published one
    (LOG_ROLLED_BACK), or another one (LOG_FORK), is refused with exit code 1 and the folder left as it is. Without
    the cosignatures that the policy asks for nothing is published: QUORUM_NOT_MET, exit code 3, try again later.

    \b
    Examples:
      witness publish --config /etc/witness-service/witness.toml --to /srv/www/witness
      witness publish --to public/ --watch 60
    """
    from witness_service.publish import Folder
    from witness_service.wire.client import WitnessClient

    if config is not None and (address or state):
        raise typer.BadParameter("expected --config, or --address or --state, got both", param_hint="--config")
    if url is not None and not _URL.fullmatch(url):
        raise typer.BadParameter("expected http:// or https:// and an address without spaces", param_hint="--url")
    where = find(address, state, registry_id) if config is None else _configured(config, registry_id)
    with WitnessClient(where.address) as client:
        work = _Work(_Service(client, wait_cosigned), Folder(to, dry_run=dry_run), where.registry_id, url, as_json)
        if watch is None:
            work.report(work.once())
            return
        while True:
            work.attempt()
            time.sleep(watch)


def _configured(config: Path, registry_id: str | None) -> Where:
    from witness_service.config import ConfigurationError, load

    try:
        service = load(config).service
    except ConfigurationError as error:
        raise InputProblem(str(error)) from error
    return Where(service.listen, registry_id or service.registry_id)


@dataclass(frozen=True)
class _Service:
    """The service as a source; it is asked to have its logs cosigned first."""

    client: WitnessClient
    wait_cosigned: float

    def checkpoint(self, log: str, at_least: int) -> SignedCheckpoint:
        return self.client.checkpoint(log, at_least, wait_cosigned=self.wait_cosigned)

    def bundle(self) -> bytes:
        return self.client.bundle()

    def entries(self, log: str, first: int, end: int) -> Iterator[bytes]:
        return self.client.entries(log, first, end)


@dataclass(frozen=True)
class _Work:
    source: _Service
    folder: Folder
    registry_id: str | None
    url: str | None
    as_json: bool

    def once(self) -> Published:
        """Publish once; what is wrong comes out as a failure of the command."""
        from witness_service.publish import Contradicted, FolderProblem, NotCosigned, Unfaithful, publish

        try:
            return publish(self.source, self.folder, registry_id=self.registry_id, url=self.url, bar=progress)
        except Contradicted as error:
            raise Finding(error.reason, str(error)) from error
        except Unfaithful as error:
            raise Finding("CHECK_FAILED", str(error)) from error
        except NotCosigned as error:
            raise Refused(Code.UNAVAILABLE, "QUORUM_NOT_MET", str(error)) from error
        except FolderProblem as error:
            raise InputProblem(str(error)) from error

    def attempt(self) -> None:
        """Publish once and report what is new; what may pass by itself is only said."""
        try:
            published = self.once()
        except Refused as refused:
            if refused.code not in _PASSING:
                raise
            said = json_line({"error": refusal_object(refused)}) if self.as_json else str(refused)
            write_line(said, colour="" if self.as_json else "yellow", stderr=True)
        else:
            if _is_news(published.registry) or _is_news(published.statements):
                self.report(published)
                sys.stdout.flush()

    def report(self, published: Published) -> None:
        """Say what was published."""
        logs = {"registry": published.registry, "statements": published.statements}
        cosigned = dict(zip(logs, published.cosigned, strict=True))
        if self.as_json:
            described = {name: _growth_object(growth, cosigned[name]) for name, growth in logs.items()}
            facts = {"folder": str(self.folder.path), "dry_run": self.folder.dry_run, "pinned": bool(self.registry_id)}
            write_json({**facts, "registry_id": published.registry_id, **described})
            return
        facts = {name: _growth_line(growth, cosigned[name]) for name, growth in logs.items()}
        if self.registry_id is None:
            facts["registry id"] = f"{published.registry_id}: said by the service itself, compare it"
        title = "would publish in" if self.folder.dry_run else "published in"
        write_facts(f"{title} {self.folder.path}", facts)


def _is_news(growth: Growth) -> bool:
    return growth.old_size != growth.checkpoint.size


def _growth_object(growth: Growth, cosigned: tuple[str, ...]) -> dict[str, object]:
    return {
        "origin": growth.checkpoint.origin,
        "old_size": growth.old_size,
        "size": growth.checkpoint.size,
        "root": growth.checkpoint.root.hex(),
        "new_files": growth.files,
        "cosigned_by": list(cosigned),
    }


def _growth_line(growth: Growth, cosigned: tuple[str, ...]) -> str:
    added = growth.checkpoint.size - growth.old_size
    by = f", cosigned by {', '.join(cosigned)}" if cosigned else ""
    return f"{growth.checkpoint.size:,} entries, {added:,} of them new, in {growth.files:,} new files{by}"
