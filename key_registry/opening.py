"""Opening a bundle: is it a faithful copy of the registry, as complete as its policy asks it to be shown?

The order of the steps is normative and the first that fails decides (docs/format.md, "The bundle, first").
"""

from collections.abc import Mapping

from key_registry import note
from key_registry.bundle import Bundle
from key_registry.checkpoint import verify_checkpoint
from key_registry.coverage import COVERAGE_TYPE, Coverage
from key_registry.dsse import Envelope
from key_registry.errors import FormatError, RecordError, SignatureError, UnsupportedAlgorithm
from key_registry.record import previous_hash
from key_registry.replay import Registry
from key_registry.trusted_registry import TrustedRegistry
from key_registry.verdict import Code, Verdict


def open_bundle(data: bytes, registry_id: str) -> TrustedRegistry | Verdict:
    """Verify a bundle and return the registry to judge by, or the verdict that it cannot be used.

    Args:
        data: the bundle file.
        registry_id: hex SHA-256 of the genesis record's PAE, from anywhere but the bundle.

    Returns:
        The registry; or REGISTRY_INVALID, WRONG_REGISTRY, QUORUM_NOT_MET or UNSUPPORTED_ALGORITHM.
    """
    try:
        bundle = Bundle.from_json(data)
        found_id = previous_hash(bundle.records[0])
        if found_id != registry_id:
            return Verdict(Code.WRONG_REGISTRY, f"expected registry {registry_id}, got a bundle of {found_id}")
        registry = Registry.replay(bundle.records, registry_id=registry_id)
        cosigned = _read_checkpoint(registry, note.parse(bundle.checkpoint))
        if not registry.policy.is_met(cosigned.keys()):
            return Verdict(Code.QUORUM_NOT_MET, _missing(cosigned))
        return TrustedRegistry(registry, _read_coverage(registry, bundle.coverage), cosigned)
    except UnsupportedAlgorithm as error:
        return Verdict(Code.UNSUPPORTED_ALGORITHM, str(error))
    except (FormatError, RecordError, SignatureError) as error:
        return Verdict(Code.REGISTRY_INVALID, str(error))


def _read_checkpoint(registry: Registry, opened: note.Note) -> Mapping[str, int]:
    """Check the registry checkpoint and return when each cosigner of the present policy cosigned it."""
    log = registry.logs.registry
    head, _ = verify_checkpoint(opened, log.origin, lambda _: (log.public_key,))
    if head.size != registry.size:
        raise RecordError(f"expected {head.size} records as the registry checkpoint says, got {registry.size}")
    if head.root != registry.root():
        raise RecordError("expected the registry checkpoint's root, got records of another root")
    return registry.policy.times(opened)


def _missing(cosigned: Mapping[str, int]) -> str:
    found = ", ".join(sorted(cosigned)) or "nobody"
    return f"expected the registry checkpoint to be cosigned by a quorum of the policy, got {found!a}"


def _read_coverage(registry: Registry, envelope: Envelope) -> Coverage:
    key = registry.logs.registry.public_key
    if envelope.payload_type != COVERAGE_TYPE:
        raise FormatError(f"expected a coverage of type {COVERAGE_TYPE}, got another type")
    if [signature.key_id for signature in envelope.signatures] != [key.key_id]:
        raise SignatureError("expected the coverage to be signed by the registry log key alone, got other signatures")
    key.verify(envelope.signatures[0].signature, envelope.pae())
    coverage = Coverage.decode(envelope.body)
    if coverage.registry_id != registry.registry_id:
        raise RecordError(f"expected a coverage of registry {registry.registry_id}, got {coverage.registry_id}")
    if (coverage.registry_size, coverage.registry_root) != (registry.size, registry.root().hex()):
        raise RecordError(f"expected a coverage of these {registry.size} records, got one of other records")
    head = registry.head
    if head is not None and coverage.statement_size < head.size:
        raise RecordError(f"expected a coverage of at least {head.size} statements, got {coverage.statement_size}")
    if head is not None and coverage.statement_size == head.size and coverage.statement_root != head.root.hex():
        raise RecordError(f"expected the coverage to have the last rotation's root at {head.size}, got another")
    return coverage
