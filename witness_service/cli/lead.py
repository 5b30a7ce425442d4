"""`witness lead keygen`, `show` and `sign`: a security lead's key, on the lead's own machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from witness_service.cli.failure import Finding, InputProblem, command
from witness_service.cli.files import write_file
from witness_service.cli.lead_option import LeadWhere, PassphraseFile, forbid_core_dumps, lead_opened
from witness_service.cli.output import write_facts, write_json
from witness_service.cli.where import Json


@command
def keygen(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="New file for the private key, PKCS#8 PEM.")],
    algorithm: Annotated[str, typer.Option("--algorithm", metavar="NAME", help="ed25519 or ecdsa-p256.")] = "ed25519",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Lead's name, noted in both files.")] = "",
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file", metavar="FILE", help="File with the passphrase; else it is asked for, twice."
        ),
    ] = None,
    unencrypted: Annotated[
        bool, typer.Option("--unencrypted", help="Write the key without a passphrase; for trying out.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a lead's key: an encrypted file for its owner, and beside it the public half, with the suffix .pub.

    \b
    Example:
      witness lead keygen --out anna.pem --name anna
    """
    from key_registry.public_key import ECDSA_P256, ED25519
    from witness_service.lead_key import LeadKey, LeadKeyError, check_lead_name, public_pem, write_key_file
    from witness_service.secret_input import new_passphrase

    if algorithm not in (ED25519, ECDSA_P256):
        raise typer.BadParameter(f"expected {ED25519} or {ECDSA_P256}, got another", param_hint="--algorithm")
    if unencrypted and passphrase_file:
        raise typer.BadParameter("expected --passphrase-file or --unencrypted, got both", param_hint="--unencrypted")
    public = out.with_suffix(".pub")
    forbid_core_dumps()
    try:
        if name:
            check_lead_name(name)
        for file in (out, public):
            if file.exists() or file == public == out:
                raise LeadKeyError(f"expected no file {file}, got one; keep it, and choose another name")
        passphrase = None if unencrypted else new_passphrase(passphrase_file)
        lead = LeadKey.create(out, algorithm=algorithm, name=name, passphrase=passphrase)
        write_key_file(public, public_pem(lead.public_key, name), mode=0o644)
    except LeadKeyError as error:
        raise InputProblem(str(error)) from error
    facts = {"key id": lead.public_key.key_id, "algorithm": algorithm, "name": name}
    if as_json:
        files = {"private_key_file": str(out), "public_key_file": str(public), "encrypted": not unencrypted}
        write_json({**{name.replace(" ", "_"): value for name, value in facts.items()}, **files})
        return
    write_facts(
        f"made the lead key {out}",
        {
            **{name: value for name, value in facts.items() if value},
            "encrypted": "no: whoever reads the file is this lead" if unencrypted else "yes, by the passphrase",
            "public half": f"{public}: give it to whoever drafts, and read them the key id by another way",
        },
    )


@command
def show(
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="New file for the public half, PEM.")
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name noted in that file; else the key's own.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Show a lead's key, and write its public half to a file.

    A key on a token is named by a PKCS#11 URI (RFC 7512). Its PIN is asked for, or stands in a file that the URI
    names with pin-source; it is tried once.

    \b
    Examples:
      witness lead show --lead anna.pem
      witness lead show --lead "pkcs11:token=ben;object=lead?module-name=softhsm2" --out ben.pub --name ben
    """
    from witness_service.lead_key import check_lead_name, public_pem, write_key_file

    with lead_opened(lead, passphrase_file, remarks=not as_json) as opened:
        called = check_lead_name(name) if name else opened.name
        if out is not None:
            write_key_file(out, public_pem(opened.public_key, called), mode=0o644)
        key_id, algorithm = opened.public_key.key_id, opened.public_key.algorithm
        remarks = list(opened.remarks)
    if as_json:
        written = str(out) if out else None
        write_json(
            {"key_id": key_id, "algorithm": algorithm, "name": called, "public_key_file": written, "remarks": remarks}
        )
        return
    facts = {"key id": key_id, "algorithm": algorithm, "name": called, "public half": str(out or "")}
    write_facts("lead key", {name: value for name, value in facts.items() if value})


@command
def sign(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Draft of a registry.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="File for the signature.")] = None,
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be signed, and sign nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Sign the draft of a registry as one of its leads, with no connection to anything.

    What the draft says is shown in words first. Compare the key ids of the leads with what each of them told you.

    \b
    Example:
      witness lead sign genesis.json --lead anna.pem --out anna.sig
    """
    from witness_service.cli.genesis_words import genesis_in_words, genesis_object
    from witness_service.genesis_files import BadDraft, read_draft, sign_draft

    if not dry_run and out is None:
        raise typer.BadParameter("expected --out FILE, got none", param_hint="--out")
    if not (yes or dry_run or (sys.stdin.isatty() and not as_json)):
        raise typer.BadParameter("expected --yes, for there is no terminal to ask on", param_hint="--yes")
    try:
        body, genesis = read_draft(file)
    except BadDraft as error:
        raise InputProblem(str(error)) from error
    if not as_json:
        write_facts(f"genesis record in {file}", genesis_in_words(body, genesis))
    if dry_run or out is None:
        if as_json:
            write_json({"dry_run": True, **genesis_object(body, genesis)})
        return
    if not yes and not typer.confirm("Sign it?"):
        raise Finding("NOT_APPROVED", "not signed")
    with lead_opened(lead, passphrase_file, remarks=not as_json) as opened:
        key_id = opened.public_key.key_id
        names = {it.public_key.key_id: it.name for it in genesis.leads}
        if key_id not in names:
            raise Finding("NOT_A_LEAD", f"expected the key of a lead in {file}, got {key_id}; not signed")
        write_file(out, sign_draft(opened, body))
    if as_json:
        write_json({"file": str(out), "lead": names[key_id], "key_id": key_id, **genesis_object(body, genesis)})
    else:
        write_facts(f"signed as {names[key_id]} in {out}", {"key id": key_id})
