"""The statement log as the registry's records hold it: nothing is signed that contradicts it.

Whoever can edit the database can rewrite leaves, tiles and heads so that they fit each other. What they cannot rewrite
is the root in the last rotate or policy record, because the records are signed and chained. So a log key signs a head
only with a proof that it continues that root; otherwise it would lend its name to a past in which a stolen retired
key has signed where it was valid.
"""

from __future__ import annotations

from key_registry.errors import ProofError
from key_registry.merkle import Coordinates, consistency_proof, verify_consistency
from key_registry.replay import Registry
from key_registry.store import IntegrityBroken, LogHead, Store


async def check_continues(store: Store, registry: Registry, head: LogHead) -> None:
    """Raise IntegrityBroken unless a head of the statement log and the last one that a record holds are of one history.

    Args:
        registry: whose records hold it; before the first rotation there is none, and nothing is checked.
        head: smaller or larger than that one.
    """
    if registry.head is None:
        return
    heads = [(registry.head.size, registry.head.root), (head.size, head.root)]
    (old_size, old_root), (new_size, new_root) = sorted(heads, key=lambda it: it[0])
    needed = Coordinates()
    consistency_proof(old_size, new_size, needed)
    proof = consistency_proof(old_size, new_size, await store.nodes(needed.asked))
    try:
        verify_consistency(old_size, old_root, new_size, new_root, proof)
    except ProofError:
        raise IntegrityBroken(
            f"expected a statement log of {head.size} leaves that agrees with the one of {registry.head.size} in the "
            "registry's records, got another history; the database has been changed"
        ) from None
