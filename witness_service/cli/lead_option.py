"""The lead's key as commands take it: --lead with a file or a PKCS#11 URI, and what goes wrong with it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli.failure import Finding, InputProblem
from witness_service.cli.output import write_line

if TYPE_CHECKING:
    from witness_service.lead_signer import LeadSigner

LeadWhere = Annotated[
    str | None,
    typer.Option(
        "--lead",
        metavar="FILE|URI",
        help="Lead's key: a PKCS#8 PEM file, or a PKCS#11 URI of a key on the lead's own token.",
        show_default=False,
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="File with the passphrase, or PIN, of the lead's key; else it is asked for.",
    ),
]


def forbid_core_dumps() -> None:
    """Keep a lead's key out of the file that a crash of this process would leave; for good."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def lead_opened(
    where: str | Path | None, passphrase_file: Path | None = None, *, remarks: bool = False
) -> Iterator[LeadSigner]:
    """Lend a lead's key for the length of the block, in which it may be used to sign.

    remarks: whether to write on stderr what the lead should know of the key. Raises InputProblem, and Finding when
    a token refuses.
    """
    from witness_service.lead_signer import LeadKeyError, LeadTokenError, open_lead

    if where is None:
        raise typer.BadParameter("expected --lead FILE or --lead pkcs11:..., got none", param_hint="--lead")
    forbid_core_dumps()
    try:
        with open_lead(where, passphrase_file=passphrase_file) as lead:
            for remark in lead.remarks if remarks else ():
                write_line(f"note: {remark}", colour="yellow", stderr=True)
            yield lead
    except LeadTokenError as error:
        raise Finding("LEAD_TOKEN", str(error)) from error
    except LeadKeyError as error:
        raise InputProblem(str(error)) from error
