"""`witness keys drill`: a rotation from end to end, of a witness that is there for it, judged as an auditor would."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli import change
from witness_service.cli.change import DryRun
from witness_service.cli.failure import Finding, command
from witness_service.cli.lead_option import PassphraseFile, lead_opened
from witness_service.cli.output import write_json, write_line
from witness_service.cli.where import Address, Json, RegistryId, State, find
from witness_service.drill_witness import DRILL_STREAMS, is_drill
from witness_service.refusal import Refused

if TYPE_CHECKING:
    from key_registry.canonical_json import JSONValue
    from key_registry.replay import KeyVersion, Registry
    from witness_service.event import Attested
    from witness_service.lead_signer import LeadSigner
    from witness_service.wire.client import WitnessClient

COSIGNED_SECONDS = 30.0
"""How long evidence may wait for cosigners, where the policy asks for any."""

STREAMS_TRIED = 1000


@dataclass
class Report:
    """What a drill did. ok: whether every step went well."""

    registry_id: str
    ok: bool = False
    witness_id: str = ""
    old_key_id: str = ""
    new_key_id: str = ""
    proposal_id: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)
    steps: list[dict[str, object]] = field(default_factory=list)
    problem: str = ""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note a step and how long it took; what it raises ends the drill."""
        began = monotonic()
        try:
            yield
        except BaseException as error:
            self.steps.append({"step": name, "ok": False, "seconds": round(monotonic() - began, 3)})
            self.problem = f"{name}: {error}"
            raise
        self.steps.append({"step": name, "ok": True, "seconds": round(monotonic() - began, 3)})


@command
def drill(
    lead: Annotated[
        list[str] | None,
        typer.Option("--lead", metavar="FILE|URI", help="A lead's key; as many as make a quorum.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Rehearse a rotation: the drill's witness gets a new key, and what it signs before and after is judged offline.

    The same proposal, approvals and hand-over as for any witness; the records say that it was a drill. The first time
    the drill's witness is made, for the streams drill/* alone. Witnesses of production are not touched. Exit code 0
    says that everything went as it should, and that the leads' keys work.

    \b
    Example:
      witness keys drill --lead anna.pem --lead ben.pem
    """
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    pinned = change.pinned(where)
    leads: list[str | Path] = [*(lead or [])]
    if not leads and where.lead_key is not None:
        leads = [where.lead_key]
    report = Report(pinned)
    try:
        with WitnessClient(where.address) as client, ExitStack() as stack:
            with report.step("open the leads' keys"):
                signers = [stack.enter_context(lead_opened(it, passphrase_file)) for it in leads]
                registry = change.replay(client, pinned)
                _check_leads(registry, signers)
            _Drill(client, pinned, signers, report).run(registry, dry_run)
    except (Refused, Finding) as error:
        report.problem = report.problem or str(error)
    _write(report, dry_run, as_json)
    if not report.ok:
        raise Finding("DRILL_FAILED", report.problem or "a verdict is not the one expected")


def _check_leads(registry: Registry, signers: list[LeadSigner]) -> None:
    known = {lead.public_key.key_id for lead in registry.leads}
    given = {signer.public_key.key_id for signer in signers}
    if not given <= known:
        raise Finding("NOT_A_LEAD", f"expected keys of leads of this registry, got {', '.join(sorted(given - known))}")
    if len(given) < registry.threshold:
        raise Finding("TOO_FEW_LEADS", f"expected the keys of {registry.threshold} leads, got {len(given)}")


@dataclass(frozen=True)
class _Drill:
    client: WitnessClient
    registry_id: str
    signers: list[LeadSigner]
    report: Report

    def run(self, registry: Registry, dry_run: bool) -> None:
        report = self.report
        old = _drill_key(registry)
        if dry_run:
            report.witness_id, report.old_key_id = (old.witness_id, old.key_id) if old else ("", "")
            report.ok = True
            return
        if old is None:
            with report.step("make the drill's witness"):
                arguments: dict[str, JSONValue] = {
                    "algorithm": "",
                    "reason": "drill",
                    "streams": [f"{DRILL_STREAMS}*"],
                    "token_serial": "",
                }
                self._change("add-witness", arguments)
                old = _drill_key(self._replay())
                if old is None:
                    raise Finding("DRILL_FAILED", "expected the drill's witness in the registry, got none")
        report.witness_id, report.old_key_id = old.witness_id, old.key_id
        with report.step("sign with the old key"):
            before = self._sign(old.witness_id, old.key_id)
        with report.step("rotate"):
            arguments = {"algorithm": "", "reason": "drill", "witness_id": old.witness_id}
            report.proposal_id, report.new_key_id = self._change("rotate", arguments)
        with report.step("sign with the new key"):
            after = self._sign(old.witness_id, report.new_key_id)
        with report.step("judge both offline"):
            self._judge(before, after)
        report.ok = True

    def _replay(self) -> Registry:
        return change.replay(self.client, self.registry_id)

    def _change(self, kind: str, arguments: dict[str, JSONValue]) -> tuple[str, str]:
        """Propose, check and sign with as many leads as are needed; returns the proposal's id and the new key's."""
        request = change.new_request(self.registry_id, kind, arguments)
        proposal = change.proposed(self.client, self.registry_id, request).proposal
        for signer in self.signers:
            if proposal.state != "open":
                break
            change.checked(proposal, self._replay(), asked=request, lead=signer.public_key)
            proposal, _ = change.approve(self.client, proposal, signer)
        if proposal.state != "done" or proposal.note:
            raise Finding("DRILL_FAILED", f"expected a change that is done, got one {proposal.state} {proposal.note}")
        return proposal.proposal_id, proposal.key_id

    def _sign(self, witness_id: str, key_id: str) -> Attested:
        """Have an event attested by the drill's key.

        Witnesses for all streams are candidates for the drill's as well. Which of them attests follows from the
        stream's name, among other things, so a name is looked for that falls to the drill's witness.
        """
        from witness_service.event import Event

        stream = _stream_for(self._replay(), witness_id)
        event_hash = "sha256:" + hashlib.sha256(stream.encode()).hexdigest()
        (attested,) = self.client.sign(Event(stream, 0, event_hash, None, stream, "drill"), retry_for=10.0)
        if attested.key_id != key_id:
            raise Finding("DRILL_FAILED", f"expected a signature by key {key_id}, got one by {attested.key_id}")
        return attested

    def _judge(self, before: Attested, after: Attested) -> None:
        from key_registry.judge import judge, open_bundle
        from key_registry.verdict import Verdict

        proofs = [
            self.client.proof(it.stream, it.sequence, wait_cosigned=COSIGNED_SECONDS)[0].tlog_proof
            for it in (before, after)
        ]
        trusted = open_bundle(self.client.bundle(wait_cosigned=COSIGNED_SECONDS), self.registry_id)
        if isinstance(trusted, Verdict):
            raise Finding("DRILL_FAILED", f"the bundle does not hold: {trusted.code.name}")
        environments = frozenset({trusted.registry.environment})
        for name, proof in zip(("before", "after"), proofs, strict=True):
            self.report.verdicts[name] = judge(trusted, proof, event_hash=None, environments=environments).code.name
        expected = {"before": "VALID_KEY_ROTATED", "after": "VALID_KEY_ACTIVE"}
        if self.report.verdicts != expected:
            raise Finding("DRILL_FAILED", f"expected the verdicts {expected}, got {self.report.verdicts}")


def _drill_key(registry: Registry) -> KeyVersion | None:
    """Return the key that the drill's witness signs with."""
    keys = (registry.signing_key(witness_id) for witness_id in registry.witnesses)
    return next((key for key in keys if key is not None and is_drill(key.streams)), None)


def _stream_for(registry: Registry, witness_id: str) -> str:
    from key_registry import selection

    prefix = f"{DRILL_STREAMS}{witness_id.removeprefix('WITNESS:')}/{uuid.uuid4().hex[:12]}"
    for number in range(STREAMS_TRIED):
        stream = f"{prefix}-{number}"
        if selection.rank(registry, stream=stream, sequence=0, previous_event_hash=None)[0] == witness_id:
            return stream
    raise Finding("DRILL_FAILED", "expected a stream that falls to the drill's witness, got none")


def _write(report: Report, dry_run: bool, as_json: bool) -> None:
    if as_json:
        write_json({**({"dry_run": True} if dry_run else {}), **asdict(report)})
        return
    if dry_run:
        what = (
            f"rotate key {report.old_key_id} of {report.witness_id}" if report.old_key_id else "make its witness first"
        )
        write_line(f"would {what}; nothing was changed" if report.ok else f"cannot: {report.problem}")
        return
    for step in report.steps:
        write_line(f"{'ok  ' if step['ok'] else 'FAIL'}  {step['seconds']:>8} s  {step['step']}")
    for name, code in report.verdicts.items():
        write_line(f"      signed {name} the rotation: {code}")
    if report.ok:
        write_line(f"drill passed: {report.witness_id} went from key {report.old_key_id} to {report.new_key_id}")
