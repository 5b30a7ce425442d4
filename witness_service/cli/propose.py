"""`witness keys propose …`: changes for the security leads to decide on, shown as what they sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli import change
from witness_service.cli.change import Bytes, DryRun
from witness_service.cli.failure import Finding, InputProblem, command
from witness_service.cli.keys import find_key, find_witness
from witness_service.cli.lead_option import LeadWhere, PassphraseFile, lead_opened
from witness_service.cli.output import write_facts, write_json, write_line
from witness_service.cli.where import Address, Json, RegistryId, State, Where, find

if TYPE_CHECKING:
    from key_registry.canonical_json import JSONValue
    from key_registry.replay import Registry
    from witness_service.orders import ProposalRequest
    from witness_service.wire.client import WitnessClient

Key = Annotated[str, typer.Argument(metavar="KEY_ID", help="Key; the start of its id will do.", show_default=False)]
ReasonText = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for ever in the record.")]
Algorithm = Annotated[str, typer.Option("--algorithm", metavar="NAME", help="ed25519 or ecdsa-p256.")]

Arguments = Callable[["Registry"], Mapping[str, "JSONValue"]]
"""What a kind needs, from what the registry says."""


@command
def rotate(
    witness: Annotated[
        str, typer.Argument(metavar="WITNESS_ID", help="Witness; the start of its UUID will do.", show_default=False)
    ],
    algorithm: Algorithm = "",
    reason: ReasonText = "rotation",
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Propose a new key for a witness; the old one signs until the new one is open, and is closed then.

    Works also where the old key is stopped, compromised, quarantined or lost: the leads sign in its place.
    """

    def arguments(registry: Registry) -> Mapping[str, JSONValue]:
        return {
            "algorithm": algorithm,
            "reason": reason,
            "witness_id": find_witness(witness, registry.witnesses),
        }

    where = find(address, state, registry_id)
    _propose("rotate", arguments, where, lead, passphrase_file, dry_run, with_bytes, as_json)


@command
def add_witness(
    streams: Annotated[
        list[str] | None,
        typer.Option("--stream", metavar="PATTERN", help="Stream it may attest, or a prefix and *; repeatable."),
    ] = None,
    algorithm: Algorithm = "ed25519",
    token_serial: Annotated[
        str, typer.Option("--token", metavar="SERIAL", help="Token to make its key in; else the first one.")
    ] = "",
    reason: ReasonText = "a new witness",
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Propose a witness with a first key."""

    def arguments(_: Registry) -> Mapping[str, JSONValue]:
        patterns: list[JSONValue] = [*(streams or ["*"])]
        return {"algorithm": algorithm, "reason": reason, "streams": patterns, "token_serial": token_serial}

    where = find(address, state, registry_id)
    _propose("add-witness", arguments, where, lead, passphrase_file, dry_run, with_bytes, as_json)


@command
def retire(
    key: Key,
    reason: ReasonText,
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Propose to close a key without a successor. Nothing may be signed with it any more: stop it first."""

    def arguments(registry: Registry) -> Mapping[str, JSONValue]:
        return {"key_id": find_key(key, registry.keys), "reason": reason}

    where = find(address, state, registry_id)
    _propose("retire", arguments, where, lead, passphrase_file, dry_run, with_bytes, as_json)


@command
def compromise(
    key: Key,
    reason: ReasonText,
    suspected_since: Annotated[
        str | None,
        typer.Option(
            "--suspected-since",
            metavar="TIME",
            help="Since when others may have had it, RFC 3339; the cut is chosen from it.",
        ),
    ] = None,
    trusted_size: Annotated[
        int | None,
        typer.Option("--trusted-size", metavar="N", min=0, help="The cut itself: what lies below stays trusted."),
    ] = None,
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Propose to distrust a key from a position of the statement log on, for ever; no other change comes before it.

    The cut is the largest position below which everything was certainly sealed before the suspected time. With
    --dry-run it is shown, with the number of attestations on either side, and nothing is proposed.

    \b
    Example:
      witness keys propose compromise 5e1f --suspected-since 2026-01-02T03:04:05Z --reason "laptop stolen" --dry-run
    """
    since = None if suspected_since is None else _time(suspected_since)

    def arguments(registry: Registry) -> Mapping[str, JSONValue]:
        key_id = find_key(key, registry.keys)
        if since is None and trusted_size is None and registry.keys[key_id].opened is not None:
            raise typer.BadParameter("expected --suspected-since TIME or --trusted-size N, got neither")
        size = None if trusted_size is None else str(trusted_size)
        return {"key_id": key_id, "reason": reason, "suspected_since": since, "trusted_size": size}

    where = find(address, state, registry_id)
    _propose("compromise", arguments, where, lead, passphrase_file, dry_run, with_bytes, as_json)


@command
def leads(
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="NAME=FILE", help="New lead: a name and a PEM public key; repeatable."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="NAME", help="Lead who leaves; repeatable.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", metavar="M", min=1, help="How many decide; else as many as now.")
    ] = None,
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Propose other leads or another threshold. A quorum of the present leads signs, and every lead of the new set."""

    def arguments(registry: Registry) -> Mapping[str, JSONValue]:
        return _new_leads(registry, add or [], remove or [], threshold)

    where = find(address, state, registry_id)
    _propose("leads", arguments, where, lead, passphrase_file, dry_run, with_bytes, as_json)


@command
def policy(
    file: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="Cosigner policy (C2SP tlog-policy, no log lines), or none."),
    ] = None,
    no_cosigners: Annotated[bool, typer.Option("--no-cosigners", help="Ask no cosigners any more.")] = False,
    new_log_keys: Annotated[
        list[str] | None,
        typer.Option("--new-log-key", metavar="LOG", help="Log that gets a new key: registry, statements; repeatable."),
    ] = None,
    token_serial: Annotated[
        str, typer.Option("--token", metavar="SERIAL", help="Token to make log keys in; else that of the present ones.")
    ] = "",
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Propose another cosigner policy, new log keys, or both."""
    if file and no_cosigners:
        raise typer.BadParameter("expected --policy or --no-cosigners, got both", param_hint="--no-cosigners")
    text = "none" if no_cosigners else None if file is None else _read_policy(file)
    log_keys: list[JSONValue] = [*(new_log_keys or [])]

    def arguments(_: Registry) -> Mapping[str, JSONValue]:
        return {"log_keys": log_keys, "policy": text, "token_serial": token_serial}

    where = find(address, state, registry_id)
    _propose("policy", arguments, where, lead, passphrase_file, dry_run, with_bytes, as_json)


@command
def destroyed(
    key: Key,
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Propose to record that a private key was destroyed.

    The service destroys no key: destroy it in its token first, with the token's own tools. A key that the service
    still finds in a token of its own is refused.
    """

    def arguments(registry: Registry) -> Mapping[str, JSONValue]:
        return {"key_id": find_key(key, registry.keys)}

    where = find(address, state, registry_id)
    _propose("destroyed", arguments, where, lead, passphrase_file, dry_run, with_bytes, as_json)


@command
def resume(
    key: Key,
    reason: ReasonText,
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Propose to let a stopped key sign again."""

    def arguments(registry: Registry) -> Mapping[str, JSONValue]:
        return {"key_id": find_key(key, registry.keys), "reason": reason}

    where = find(address, state, registry_id)
    _propose("resume", arguments, where, lead, passphrase_file, dry_run, with_bytes, as_json)


@command
def again(
    proposal_id: Annotated[
        str, typer.Argument(metavar="PROPOSAL_ID", help="A proposal that ended without effect.", show_default=False)
    ],
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Propose once more what was overtaken, expired, rejected or aborted; what is signed is made anew."""
    from key_registry.errors import FormatError
    from witness_service.orders import ProposalRequest
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    with WitnessClient(where.address) as client:
        earlier = client.proposal(proposal_id)
    if earlier.state in ("open", "approved", "done"):
        raise Finding("PROPOSAL_NOT_OPEN", f"expected a proposal that ended without effect, got one {earlier.state}")
    try:
        request = ProposalRequest.decode(earlier.request)
    except FormatError as error:
        raise Finding("CHECK_FAILED", f"expected the request of the proposal, got something else: {error}") from error

    def arguments(_: Registry) -> Mapping[str, JSONValue]:
        return request.arguments

    _propose(request.kind, arguments, where, lead, passphrase_file, dry_run, with_bytes, as_json)


def _propose(
    kind: str,
    arguments: Arguments,
    where: Where,
    lead: str | None,
    passphrase_file: Path | None,
    dry_run: bool,
    with_bytes: bool,
    as_json: bool,
) -> None:
    """Propose a change, check what came back, and show it."""
    from witness_service.wire.client import WitnessClient

    pinned = change.pinned(where)
    with WitnessClient(where.address) as client:
        registry = change.replay(client, pinned)
        request = change.new_request(pinned, kind, arguments(registry))
        if dry_run:
            _write_draft(client, registry, request, with_bytes=with_bytes, as_json=as_json)
            return
        if lead is None:
            approval = change.proposed(client, pinned, request)
        else:
            with lead_opened(lead, passphrase_file) as signer:
                approval = change.proposed(client, pinned, request, signer)
    if as_json:
        write_json(change.proposal_object(approval.proposal, approval))
        return
    change.show(approval, with_bytes=with_bytes)
    write_line(f"approve it with: witness keys approve {approval.proposal.proposal_id} --lead FILE")


def _write_draft(
    client: WitnessClient, registry: Registry, request: ProposalRequest, *, with_bytes: bool, as_json: bool
) -> None:
    """Show what would be proposed; what needs a key made first is shown without its documents."""
    draft = client.propose(request.encode(), dry_run=True)
    approval = change.checked(draft, registry, asked=request) if draft.documents else None
    if as_json:
        write_json({"dry_run": True, **change.proposal_object(draft, approval)})
    elif approval is not None:
        change.show(approval, with_bytes=with_bytes)
        write_line("nothing was proposed")
    else:
        facts = {"kind": draft.kind, "witness": draft.witness_id, **draft.facts}
        words = {name.replace("_", " "): value for name, value in facts.items() if value}
        write_facts("would make a key and propose its records; nothing was changed", words)


def _new_leads(registry: Registry, add: list[str], remove: list[str], threshold: int | None) -> dict[str, JSONValue]:
    from key_registry.base64_strict import encode
    from witness_service.lead_key import LeadKeyError, load_public

    found: dict[str, JSONValue] = {lead.name: encode(lead.public_key.spki) for lead in registry.leads}
    for name in remove:
        if found.pop(name, None) is None:
            raise typer.BadParameter(f"expected the name of a lead, got {name!a}", param_hint="--remove")
    for item in add:
        name, separator, path = item.partition("=")
        if not separator or name in found:
            raise typer.BadParameter("expected NAME=FILE with a new name", param_hint="--add")
        try:
            found[name] = encode(load_public(Path(path))[0].spki)
        except LeadKeyError as error:
            raise InputProblem(str(error)) from error
    named: list[JSONValue] = [{"name": name, "public_key": key} for name, key in found.items()]
    return {"leads": named, "threshold": str(threshold or registry.threshold)}


def _read_policy(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        raise InputProblem(f"{file}: expected a readable file with a cosigner policy, got none") from None


def _time(text: str) -> str:
    """Return a time as records have it, from RFC 3339 with a zone."""
    from witness_service.clock import utc_text

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(
            "expected a time with its zone, such as 2026-01-02T03:04:05Z", param_hint="--suspected-since"
        )
    if moment > datetime.now(UTC):
        raise typer.BadParameter("expected a time that is past", param_hint="--suspected-since")
    return utc_text(moment)
