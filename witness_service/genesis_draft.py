"""Drafting a genesis record: its terms, the log keys made for it, and the file that every lead signs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from key_registry import note
from key_registry.errors import FormatError
from key_registry.policy import Policy
from key_registry.record import Genesis, Lead, Logs
from key_registry.record.lead import check_leads
from key_registry.statement import check_environment, check_name
from witness_service import durable_file
from witness_service.clock import Clock
from witness_service.custody import Custody
from witness_service.founding import origins
from witness_service.genesis_files import BadDraft, read_draft
from witness_service.log_key_notes import KeyNotes


@dataclass(frozen=True)
class Terms:
    """What a registry is to begin with, but for its log keys and the time.

    Args:
        environment: "production" or "development".
        origin: schema-less URL below which both logs have their names.
        leads: in any order.
        threshold: leads that make a quorum.
        policy: "none", or the text of a C2SP tlog-policy without log lines.

    Raises:
        FormatError: one of them is not of its form, or a cosigner has the key of a lead.
    """

    environment: str
    origin: str
    leads: tuple[Lead, ...]
    threshold: int
    policy: str

    def __post_init__(self) -> None:
        check_environment("environment", self.environment)
        check_leads(self.ordered_leads, self.threshold)
        for origin in origins(self.origin):
            check_name("origin", origin)
            note.check_name(origin)
        keys = {lead.public_key.key_id for lead in self.leads}
        for cosigner in Policy.parse(self.policy).cosigners:
            if cosigner.public_key.key_id in keys:
                raise FormatError(
                    f"policy: expected cosigners that are no leads, got {cosigner.name} with a lead's key"
                )

    @property
    def ordered_leads(self) -> tuple[Lead, ...]:
        """The leads in the order of their key ids, as they stand in the record."""
        return tuple(sorted(self.leads, key=lambda lead: lead.public_key.key_id))

    def genesis(self, logs: Logs, created_at: str) -> Genesis:
        """Return the record; raises FormatError when a log has the key of a lead."""
        return Genesis(created_at, self.environment, self.ordered_leads, self.threshold, logs, self.policy)

    def are_those_of(self, genesis: Genesis) -> bool:
        """Say whether a record has these terms."""
        here = (genesis.logs.registry.origin, genesis.logs.statements.origin) == origins(self.origin)
        return here and self.genesis(genesis.logs, genesis.created_at) == genesis


@dataclass(frozen=True)
class Draft:
    """A draft that stands in its file.

    Attributes:
        body: the record's exact bytes.
        genesis: what they say.
        remark: what the operator should know about the token; empty when there is nothing.
    """

    body: bytes
    genesis: Genesis
    remark: str = ""


def standing(path: Path, terms: Terms, *, replace: bool) -> tuple[Draft | None, KeyNotes]:
    """Return the draft that stands in a file and the notes of one that was interrupted.

    Raises BadDraft when the draft has other terms and is not to be replaced, or its log keys, or those of the notes,
    are of another origin.
    """
    notes = KeyNotes.beside(path)
    found = Draft(*read_draft(path)) if path.exists() else None
    if found is not None and not replace and not terms.are_those_of(found.genesis):
        raise BadDraft(
            f"expected no other draft in {path}, got one with other terms; write it anew with --replace, which keeps "
            "its log keys, and have it signed again"
        )
    logs = found.genesis.logs if found else None
    named = {logs.registry.origin, logs.statements.origin} if logs else set(notes.made)
    if not named <= set(origins(terms.origin)):
        raise BadDraft(
            f"expected the origin that the log keys were made for, {', '.join(sorted(named))}, got another; keep it, "
            f"or choose another file than {path} for new keys"
        )
    return found, notes


async def draft(path: Path, terms: Terms, *, replace: bool, custody: Custody, token_serial: str, clock: Clock) -> Draft:
    """Write a draft, or return the one that stands there already with the same terms.

    Args:
        path: of the draft.
        terms: of the registry.
        replace: whether to write a draft with other terms anew, with the log keys it has.
        custody: of the tokens.
        token_serial: token for new log keys.
        clock: for the time in the record.

    Raises:
        BadDraft: as of standing, or the file cannot be written.
        HsmError: a key cannot be made, or is not in its token.
    """
    found, notes = standing(path, terms, replace=replace)
    remark = notes.stray(token_serial)
    try:
        if found is not None:
            for key in (found.genesis.logs.registry, found.genesis.logs.statements):
                await custody.hold(key.public_key, key.cka_id, key.token_serial)
            if terms.are_those_of(found.genesis):
                notes.remove()
                return found
            logs = found.genesis.logs
        else:
            registry_log, statement_log = origins(terms.origin)
            logs = Logs(
                registry=await notes.log_key(custody, registry_log, token_serial),
                statements=await notes.log_key(custody, statement_log, token_serial),
            )
        genesis = terms.genesis(logs, clock())
        body = genesis.encode()
        write = durable_file.replace if found else durable_file.write_new
        write(path, body, mode=0o644)
        notes.remove()
    except OSError as error:
        raise BadDraft(f"cannot write {path}: {error.strerror}") from error
    return Draft(body, genesis, remark)
