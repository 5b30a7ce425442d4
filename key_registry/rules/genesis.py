"""The rules of the genesis record."""

from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.record import Genesis
from key_registry.rules.change import Change
from key_registry.rules.roles import check_roles
from key_registry.rules.signers import lead_keys, verified_signers


def begin(envelope: Envelope, record: Genesis) -> Change:
    """Check a genesis record: signed by every lead and nobody else."""
    check_roles(None, record)
    signers = verified_signers(envelope, lead_keys(record.leads))
    if len(signers) != len(record.leads):
        raise RecordError(f"expected the signatures of all {len(record.leads)} leads, got {len(signers)}")
    return Change()
