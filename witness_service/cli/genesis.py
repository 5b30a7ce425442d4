"""`witness genesis draft` and `store`: found a production registry, with leads who sign elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli.failure import Finding, InputProblem, command
from witness_service.cli.output import write_facts, write_json, write_line
from witness_service.cli.where import Json
from witness_service.refusal import Code, Reason, Refused

if TYPE_CHECKING:
    from key_registry.record import Lead
    from key_registry.replay import Registry
    from witness_service.config import Configuration
    from witness_service.genesis_draft import Draft, Terms

Config = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="Configuration of the service; registry_id comes later.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything; make, write and store nothing.")]


@command
def draft(
    config: Config,
    origin: Annotated[
        str,
        typer.Option("--origin", metavar="NAME", help="URL without scheme: both logs have their names below it."),
    ],
    leads: Annotated[
        list[str],
        typer.Option("--lead", metavar="NAME=FILE", help="A lead's name and public key (PEM); once for each lead."),
    ],
    threshold: Annotated[int, typer.Option("--threshold", metavar="M", min=1, help="Leads that make a quorum.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File for the draft.")],
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="Cosigner policy: C2SP tlog-policy without log lines."),
    ] = None,
    token: Annotated[
        str, typer.Option("--token", metavar="SERIAL", help="Token for the log keys; else the first configured.")
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Write the draft in FILE anew, with the log keys it has.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Draft the first record of a registry: make the two log keys in the token, write what every lead signs.

    A draft that was interrupted is gone on with, and one that stands there already is shown again. Nothing is
    stored in the database yet.

    \b
    Example:
      witness genesis draft --config witness.toml --origin witness.example.org/2026 --threshold 2 \\
        --lead anna=anna.pub --lead ben=ben.pub --lead cleo=cleo.pub --out genesis.json
    """
    from witness_service.cli.genesis_words import genesis_in_words, genesis_object

    with _problems():
        configuration = _configuration(config)
        if configuration.service.registry_id:
            raise Finding(
                "REGISTRY_EXISTS", f"expected no registry_id in {config}, got one: it names a registry already"
            )
        serial = _token_serial(configuration, token)
        terms = _terms(configuration, origin, leads, threshold, policy)
        drafted = asyncio.run(_draft(configuration, out, terms, serial, replace=replace, dry_run=dry_run))
    if drafted is None:
        _write_plan(terms, serial, as_json)
    elif as_json:
        write_json({"file": str(out), **genesis_object(drafted.body, drafted.genesis), "remark": drafted.remark})
    else:
        write_facts(f"drafted in {out}", genesis_in_words(drafted.body, drafted.genesis))
        if drafted.remark:
            write_line(f"note: {drafted.remark}", colour="yellow", stderr=True)
        write_line(f"next: each lead runs `witness lead sign {out.name} --lead ... --out NAME.sig` on an own machine,")
        write_line(f"      then here `witness genesis store --config {config} {out} *.sig`")


@command
def store(
    config: Config,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The draft.", show_default=False)],
    signatures: Annotated[
        list[Path], typer.Argument(metavar="SIG...", help="What every lead's `lead sign` wrote.", show_default=False)
    ],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Store the first record of a registry, when every lead has signed it. Storing it again changes nothing.

    \b
    Example:
      witness genesis store --config witness.toml genesis.json anna.sig ben.sig cleo.sig
    """
    with _problems():
        configuration = _configuration(config)
        registry = _signed(file, signatures)
        named = configuration.service.registry_id
        if named and named != registry.registry_id:
            raise Finding(
                "OTHER_REGISTRY", f"expected registry {named}, which {config} names, got {registry.registry_id}"
            )
        if registry.environment != configuration.service.environment:
            raise Finding(
                "OTHER_ENVIRONMENT",
                f"expected a {configuration.service.environment} registry, got one for {registry.environment}; "
                f"check [service] environment in {config}",
            )
        is_new = asyncio.run(_store(configuration, registry, dry_run=dry_run))
    state = "not stored: dry run" if dry_run else "stored" if is_new else "stored already"
    if as_json:
        write_json({"registry_id": registry.registry_id, "stored": is_new, "dry_run": dry_run})
        return
    write_facts(
        f"registry {state}",
        {
            "registry id": registry.registry_id,
            "auditors": "must have this id from you, by a way of its own, and pin it",
            f"in {config.name}": f'[service] registry_id = "{registry.registry_id}"',
            "next": "start `witness serve`, then propose the first witness with `witness keys propose`",
        },
    )


def _configuration(path: Path) -> Configuration:
    from witness_service import logs
    from witness_service.config import load

    logs.configure()
    return load(path, founded=False)


def _token_serial(configuration: Configuration, wanted: str) -> str:
    serials = [section.serial for section in configuration.tokens]
    if wanted and wanted not in serials:
        raise typer.BadParameter(
            f"expected a configured token, {', '.join(serials)}, got another", param_hint="--token"
        )
    return wanted or serials[0]


def _terms(
    configuration: Configuration, origin: str, leads: Sequence[str], threshold: int, policy: Path | None
) -> Terms:
    from key_registry.policy import NONE
    from witness_service.genesis_draft import Terms

    try:
        text = policy.read_bytes().decode() if policy else NONE
    except OSError as error:
        raise InputProblem(f"cannot read the policy {policy}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputProblem(f"expected UTF-8 in the policy {policy}, got other bytes") from error
    return Terms(configuration.service.environment, origin, tuple(map(_lead, leads)), threshold, text)


def _lead(text: str) -> Lead:
    from key_registry.record import Lead
    from witness_service.lead_key import check_lead_name, load_public

    name, equals, file = text.partition("=")
    if not equals:
        name, file = "", text
    public_key, own_name = load_public(Path(file))
    if not name and not own_name:
        raise typer.BadParameter(f"expected NAME={file}, for the file itself names nobody", param_hint="--lead")
    return Lead(check_lead_name(name or own_name), public_key)


async def _draft(
    configuration: Configuration, out: Path, terms: Terms, serial: str, *, replace: bool, dry_run: bool
) -> Draft | None:
    from witness_service import clock, genesis_draft, service
    from witness_service.founding import require_unfounded

    genesis_draft.standing(out, terms, replace=replace)
    async with service.opened_store(configuration) as opened:
        await require_unfounded(opened)
    async with service.opened_custody(configuration) as custody:
        if dry_run:
            return None
        return await genesis_draft.draft(
            out, terms, replace=replace, custody=custody, token_serial=serial, clock=clock.now
        )


def _write_plan(terms: Terms, serial: str, as_json: bool) -> None:
    from witness_service.founding import origins

    if as_json:
        leads = [{"name": lead.name, "key_id": lead.public_key.key_id} for lead in terms.ordered_leads]
        facts = {"environment": terms.environment, "leads": leads, "threshold": terms.threshold, "policy": terms.policy}
        write_json({"dry_run": True, **facts, "origins": list(origins(terms.origin)), "token_serial": serial})
        return
    write_facts(
        "would draft; nothing was made",
        {
            "environment": terms.environment,
            "logs": f"{' and '.join(origins(terms.origin))}, each with a new key in token {serial}",
            **{lead.name: lead.public_key.key_id for lead in terms.ordered_leads},
            "quorum": f"{terms.threshold} of {len(terms.leads)} leads",
        },
    )


def _signed(file: Path, signatures: Sequence[Path]) -> Registry:
    """Return the registry that begins with a draft which every lead has signed."""
    from key_registry.errors import RecordError
    from witness_service.founding import founded
    from witness_service.genesis_files import read_draft, read_signature

    body, genesis = read_draft(file)
    found = dict(read_signature(path, body, genesis) for path in signatures)
    missing = [lead.name for lead in genesis.leads if lead.public_key.key_id not in found]
    if missing:
        raise Finding("SIGNATURES_MISSING", f"expected the signatures of all leads, got none by {', '.join(missing)}")
    try:
        return founded(body, found.values())
    except RecordError as error:
        raise Finding("BAD_RECORD", f"{file}: {error}") from error


async def _store(configuration: Configuration, registry: Registry, *, dry_run: bool) -> bool:
    from witness_service import service
    from witness_service.founding import require_unfounded, store_genesis

    async with service.opened_custody(configuration) as custody:
        for key in (registry.logs.registry, registry.logs.statements):
            await custody.hold(key.public_key, key.cka_id, key.token_serial)
    async with service.opened_store(configuration) as opened:
        if dry_run:
            await require_unfounded(opened, but=registry.registry_id)
            return False
        return await store_genesis(opened, registry)


@contextmanager
def _problems() -> Iterator[None]:
    """Turn what the parts of the service raise into what a command fails with."""
    from hsm import HsmError
    from key_registry.errors import FormatError
    from key_registry.store import StoreError, StoreUnavailable
    from witness_service.config import ConfigurationError
    from witness_service.custody import refusal_of
    from witness_service.founding import NotFounded
    from witness_service.genesis_files import BadDraft
    from witness_service.lead_signer import LeadKeyError

    try:
        yield
    except HsmError as error:
        raise refusal_of(error) from error
    except StoreUnavailable as error:
        raise Refused(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, str(error)) from error
    except StoreError as error:
        raise Finding("SCHEMA_MISMATCH", str(error)) from error
    except NotFounded as error:
        raise Finding(error.reason, str(error)) from error
    except (ConfigurationError, BadDraft, LeadKeyError, FormatError) as error:
        raise InputProblem(str(error)) from error
