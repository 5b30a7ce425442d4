"""Witness selection: an order of the witnesses that nobody can choose and everybody can recompute."""

from hashlib import sha256

from key_registry import canonical_json
from key_registry.dsse import pae
from key_registry.replay import Registry

SELECTION_TYPE = "application/vnd.witness-service.selection.v1+json"


def rank(registry: Registry, *, stream: str, sequence: int, previous_event_hash: str | None) -> list[str]:
    """Return the ids of the witnesses that can sign for this place, in the order they are chosen.

    Round r takes the witness at r modulo their number. Candidates have a key that is open, not compromised and covers
    the stream. They are ordered by ascending SHA-256 of the PAE of `SELECTION_TYPE` over what is known before the event
    is: its place, the hash it continues, the registry, and the witness id.

    Args:
        registry: the head the signer believes in.
        stream, sequence: the event's place.
        previous_event_hash: the hash the event continues, or None.
    """
    body = canonical_json.encode(
        {
            "previous_event_hash": previous_event_hash,
            "registry_id": registry.registry_id,
            "registry_root": registry.root().hex(),
            "registry_size": str(registry.size),
            "sequence": str(sequence),
            "stream": stream,
            "witness_id": "",
        }
    )
    # Encoded once: the witness id is the last member, and is plain ASCII.
    start = body.removesuffix(b'"}')
    candidates = (it for it in registry.witnesses if registry.signing_key(it, stream=stream) is not None)
    return sorted(candidates, key=lambda it: sha256(pae(SELECTION_TYPE, start + it.encode() + b'"}')).digest())
