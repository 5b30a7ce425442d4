"""One publication: fetch, verify, make ready, and only then show; the checkpoints last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from key_registry import note
from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint
from key_registry.errors import FormatError, SignatureError
from key_registry.opening import open_bundle
from key_registry.policy import NONE
from key_registry.record import previous_hash
from key_registry.replay import Registry
from key_registry.trusted_registry import LoggedHead, TrustedRegistry
from key_registry.verdict import Code, Verdict
from witness_service.publish.folder import INCOMING, Contradicted, Folder
from witness_service.publish.source import Source
from witness_service.publish.tree import Advance, Growth, Tree, Unfaithful
from witness_service.wire.answers import SignedCheckpoint

BUNDLE = "bundle.json"
POLICY = "policy"
TIMESTAMPS = "timestamps"

Bar = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Takes a description and a number of steps, and shows how far the work is."""


class NotCosigned(Exception):
    """The policy's quorum has not cosigned what the service hands out; the folder stays as it is, and so do readers."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication did, or would do.

    registry_id: hex. cosigned: names, in the policy, of the cosigners of the registry and of the statement checkpoint.
    """

    registry_id: str
    registry: Growth
    statements: Growth
    cosigned: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What a service hands out at one moment, verified."""

    bundle: bytes
    trusted: TrustedRegistry
    registry: Checkpoint
    registry_note: bytes
    head: LoggedHead
    statements: SignedCheckpoint

    def records(self, first: int, end: int) -> Iterator[bytes]:
        """Yield entries of the registry log, which are all in the bundle."""
        return (envelope.entry() for envelope in self.trusted.registry.envelopes[first:end])


def publish(source: Source, folder: Folder, *, registry_id: str | None, url: str | None, bar: Bar) -> Published:
    """Bring a folder up to what a service has: both logs, bundle and policy.

    It goes on where the published checkpoints end. Readers never see a checkpoint before all that is under it.

    Args:
        source: the service.
        folder: to publish in; with dry_run everything is fetched and checked, and nothing written.
        registry_id: hex, from anywhere but the service; None believes the service which registry it has.
        url: where the folder will be served, for the `log` lines of the policy.
        bar: shows the progress of the statement log.

    Raises:
        Contradicted: the service's log is not a continuation of the published one.
        Unfaithful: what the service gave does not hold.
        NotCosigned: too few cosignatures yet; trying again later is safe.
        FolderProblem: the folder cannot be used.
    """
    with folder.locked():
        try:
            return _publish(source, folder, registry_id, url, bar)
        except (Contradicted, Unfaithful):
            folder.remove(INCOMING)
            raise


def _publish(source: Source, folder: Folder, registry_id: str | None, url: str | None, bar: Bar) -> Published:
    registry_tree, statement_tree = Tree(folder, "registry"), Tree(folder, "statements")
    old = statement_tree.published()
    fetched = _fetch(source, registry_id, 0 if old is None else old.size, registry_tree, statement_tree)
    target = fetched.head.checkpoint
    registry = registry_tree.grow(fetched.registry, fetched.records, lambda _: None)
    with bar("statement log, entries", target.size - (0 if old is None else old.size)) as advance:
        statements = statement_tree.grow(target, lambda first, end: source.entries("statements", first, end), advance)
    registry_tree.publish(registry)
    statement_tree.publish(statements)
    folder.replace(BUNDLE, fetched.bundle)
    folder.replace(POLICY, policy_file(fetched.trusted.registry, url).encode())
    if fetched.statements.token:
        folder.replace(f"{TIMESTAMPS}/checkpoint-{target.size}.tsr", fetched.statements.token)
    folder.flush()
    registry_tree.finish(registry, fetched.registry_note)
    statement_tree.finish(statements, fetched.statements.note)
    folder.remove(INCOMING)
    cosigned = tuple(sorted(fetched.trusted.cosigned)), tuple(sorted(fetched.head.cosigned))
    return Published(fetched.trusted.registry.registry_id, registry, statements, cosigned)


def _fetch(source: Source, registry_id: str | None, at_least: int, registry: Tree, statements: Tree) -> _Fetched:
    # The bundle after the checkpoint: it is then complete up to there.
    checkpoint = source.checkpoint("statements", at_least)
    content = source.bundle()
    try:
        bundle = Bundle.from_json(content)
        registry_head = Checkpoint.parse(note.parse(bundle.checkpoint).text)
        statement_head = Checkpoint.parse(note.parse(checkpoint.note).text)
        # A log that went back is the worse news, and a service that lost it also lost the cosignatures.
        registry.begin(registry_head)
        statements.begin(statement_head)
        trusted = open_bundle(content, registry_id or previous_hash(bundle.records[0]))
        if isinstance(trusted, Verdict):
            raise _refusal(trusted)
        head = trusted.logged_head(checkpoint.note)
    except (FormatError, SignatureError) as error:
        raise Unfaithful(f"expected a bundle and a checkpoint of the registry's logs: {error}") from error
    if head.checkpoint.size > trusted.coverage.statement_size:
        raise Unfaithful("expected a bundle that is complete up to the checkpoint fetched before it, got an older one")
    if not (trusted.counts(head) and head.is_quorum_met and trusted.is_fresh(head)):
        raise NotCosigned(
            f"expected a statement checkpoint cosigned by a quorum of the policy, got one of {head.checkpoint.size} "
            "entries with too few cosignatures; nothing was published, try again later"
        )
    return _Fetched(content, trusted, registry_head, bundle.checkpoint, head, checkpoint)


def _refusal(verdict: Verdict) -> Exception:
    if verdict.code is Code.QUORUM_NOT_MET:
        return NotCosigned(f"{verdict.reason}; nothing was published, try again later")
    return Unfaithful(f"the service's bundle does not hold: {verdict.code.name}: {verdict.reason}")


def policy_file(registry: Registry, url: str | None) -> str:
    """Return the policy with the present keys of both logs, as other C2SP programs take it (tlog-policy).

    url: prefix under which the folder is served, None where nobody knows.
    """
    logs = (("registry", registry.logs.registry), ("statements", registry.logs.statements))
    lines = []
    for name, log in logs:
        where = "" if url is None else f" {url.rstrip('/')}/{name}"
        lines.append(f"log {note.vkey(log.origin, log.public_key)}{where}\n")
    text = registry.policy.text
    return "".join(lines) + ("quorum none\n" if text == NONE else text)
