"""What one verdict means, as a paragraph for people who know nothing about the service."""

from collections.abc import Iterator

from key_registry.judge import TrustedRegistry
from key_registry.key_version import KeyVersion
from key_registry.report import NO_POLICY, as_of_text
from key_registry.statement import Statement
from key_registry.verdict import (
    BY_COSIGNERS,
    BY_LEADS,
    BY_OPERATOR,
    BY_TIMESTAMP_AUTHORITY,
    Code,
    Outcome,
    Verdict,
)

# Judging got past the signature, so what the statement says was said by the key's holder.
_SIGNED = {Code.NOT_LOGGED, Code.LOG_PROOF_INVALID, Code.QUORUM_NOT_MET, Code.KEY_NOT_ACTIVE, Code.KEY_COMPROMISED}
_SIGNED |= {Code.LOG_FORK, Code.TIME_INCONSISTENT, Code.EQUIVOCATION}


def explain(verdict: Verdict, trusted: TrustedRegistry | None) -> str:
    """Return what a verdict means, who signed what and when, by which key, and what that rests on.

    Args:
        verdict: any.
        trusted: the registry it was judged by; None if there is none because the bundle cannot be used.
    """
    return " ".join(_sentences(verdict, trusted))


def _sentences(verdict: Verdict, trusted: TrustedRegistry | None) -> Iterator[str]:
    yield verdict.code.meaning
    said = verdict.statement
    if trusted is None:
        return
    if said is not None and (verdict.outcome is Outcome.VALID or verdict.code in _SIGNED):
        yield from _signed(said, verdict)
        yield from _key(trusted.registry.keys[said.key_id])
    elif said is not None:
        yield "Nothing shows that the witness said what the statement says: it is a claim of whoever made the file."
    if verdict.outcome is Outcome.VALID:
        yield from _interval(verdict)
    yield from rests_on(trusted)
    if verdict.completeness == BY_OPERATOR and trusted.as_of.completeness == BY_COSIGNERS:
        yield "No cosigners were asked about this checkpoint of the statement log: its history is the operator's word."


def _signed(said: Statement, verdict: Verdict) -> Iterator[str]:
    yield (
        f'{said.witness_id} signed that the event "{said.event_id}" ({said.event_type}) with the hash '
        f'{said.event_hash} is at place {said.sequence} of the stream "{said.stream}"; by the signer\'s own clock that '
        f"was at {said.signed_at}, which is a claim."
    )
    if verdict.outcome is Outcome.VALID:
        yield f"The signature stands at index {verdict.leaf_index} of the statement log."


def _key(key: KeyVersion) -> Iterator[str]:
    yield (
        f"The signature was made by the key {key.key_id} ({key.public_key.algorithm}, on the token "
        f'"{key.token_serial}"), which a quorum of the security leads added to the registry at {key.added_at}.'
    )
    if key.opened is None:
        yield "That key was never opened, so it was valid nowhere."
    elif key.closed is None:
        yield f"That key is valid from index {key.opened} on, since {key.opened_at}, and has not been closed."
    else:
        yield (
            f"That key was valid from index {key.opened} to below {key.closed}; it was closed at {key.closed_at}, "
            f"having signed {key.count} statements."
        )
    if key.trusted_size is not None:
        suspected = f", suspected since {key.suspected_since}" if key.suspected_since else ""
        yield (
            f"At {key.compromised_at} a quorum of the leads declared it compromised{suspected} "
            f"({key.compromise_reason}): what it signed at index {key.trusted_size} and above is distrusted."
        )
    if key.destroyed_at is not None:
        yield f"Its private key was destroyed, say the leads at {key.destroyed_at}."


def _interval(verdict: Verdict) -> Iterator[str]:
    before, after = verdict.not_before, verdict.existed_by
    if before is not None:
        yield f"The statement was signed no earlier than {before.time}, {_SAYS.get(before.source, before.source)}."
    if after is not None:
        yield f"It existed by {after.time}, {_SAYS.get(after.source, after.source)}."
    else:
        yield "Nobody outside the operator has confirmed by when it existed."


_SAYS = {
    BY_COSIGNERS: "as a quorum of cosigners confirmed",
    BY_TIMESTAMP_AUTHORITY: "as a timestamp authority confirmed",
    BY_LEADS: "as the leads' record says, by their own clock",
}


def rests_on(trusted: TrustedRegistry) -> Iterator[str]:
    """Iterate over sentences that say what every verdict by this registry rests on."""
    registry, as_of = trusted.registry, trusted.as_of
    yield (
        f"All this is {as_of_text(as_of)}: what came later is not in it. It rests on the registry id you pinned and on "
        f"the records that {registry.threshold} of {len(registry.leads)} leads must sign."
    )
    if as_of.completeness == BY_COSIGNERS:
        names = ", ".join(cosigner.name for cosigner in registry.policy.cosigners)
        yield (
            f"The registry's policy asks for cosigners ({names}); a quorum of them had seen these records and no more "
            f"at {as_of.cosigned_at}."
        )
    else:
        yield NO_POLICY
