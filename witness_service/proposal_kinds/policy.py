"""`policy`: another cosigner policy, new log keys, or both.

The record embeds a checkpoint of the statement log, and from its size on the new key's word counts. The leads take
their time, though, and meanwhile evidence is given out under larger checkpoints. So from the proposal on the
statement log's checkpoints carry the proposed key's signature beside the present one's: whichever way the leads
decide, what was given out stays good. The statement log stands still for the milliseconds it takes to begin that.
"""

from __future__ import annotations

from collections.abc import Mapping

from hsm import Algorithm, HsmError
from key_registry.canonical_json import JSONValue
from key_registry.checkpoint import Checkpoint
from key_registry.policy import Policy
from key_registry.record import LogKey, Logs, PolicyChange
from key_registry.record.fields import read_list, read_optional_text
from key_registry.statement import read_object, read_text
from key_registry.store import SealTransaction
from witness_service.custody import refusal_of
from witness_service.proposal_kinds.draft import Draft, Drafting, record_document
from witness_service.refusal import invalid

LOGS = ("registry", "statements")


async def policy(drafting: Drafting, arguments: Mapping[str, JSONValue]) -> Draft:
    """Draft a policy record.

    arguments: log_keys (names of LOGS that get a new key), policy (text, or null for the present one), token_serial
    ("" for the present keys' token).
    """
    asked = read_object("policy", arguments, ("log_keys", "policy", "token_serial"))
    renewed = [read_text("log_keys", name) for name in read_list("log_keys", asked["log_keys"])]
    if len(set(renewed)) != len(renewed) or not set(renewed) <= set(LOGS):
        raise invalid("log_keys", f"log_keys: expected names among {', '.join(LOGS)}, none twice")
    text = read_optional_text("policy", asked)
    present = drafting.registry.policy.text
    text = present if text is None else text
    Policy.parse(text)
    if text == present and not renewed:
        raise invalid("policy", "expected another policy than the present one, or a log that gets a new key")
    token_serial = read_text("token_serial", asked["token_serial"])
    if token_serial and token_serial not in drafting.custody.token_serials():
        raise invalid("token_serial", "token_serial: expected that of a configured token, got another")
    if drafting.dry_run and renewed:
        return Draft(())
    logs = drafting.registry.logs
    changed = Logs(
        registry=await _renewed(drafting, logs.registry, token_serial) if "registry" in renewed else logs.registry,
        statements=(
            await _renewed(drafting, logs.statements, token_serial) if "statements" in renewed else logs.statements
        ),
    )
    sealing = None
    if "statements" in renewed:
        sealing = await drafting.stack.enter_async_context(drafting.store.sealing())
        checkpoint = await _first_checkpoint(drafting, sealing, changed.statements)
    else:
        _, checkpoint = await drafting.checkpoint()
    record = PolicyChange(**drafting.link(), policy=text, logs=changed, checkpoint=checkpoint)
    return Draft((record_document(record.encode()),), seq=record.seq, sealing=sealing)


async def _renewed(drafting: Drafting, log: LogKey, token_serial: str) -> LogKey:
    try:
        serial = token_serial or log.token_serial
        public_key, made = await drafting.new_keys.make(
            drafting.registry, Algorithm.ED25519, "log", serial, purpose=log.origin
        )
    except HsmError as error:
        raise refusal_of(error) from error
    return LogKey(log.origin, public_key, made.cka_id, serial)


async def _first_checkpoint(drafting: Drafting, sealing: SealTransaction, key: LogKey) -> bytes:
    """Return the new key's checkpoint of the log as it is and stays until the proposal stands."""
    checkpoint = Checkpoint(key.origin, sealing.head.size, sealing.head.root)
    signature = await drafting.custody.sign_one(key.public_key.key_id, checkpoint.text().encode())
    return checkpoint.signed(signature, key.public_key)
