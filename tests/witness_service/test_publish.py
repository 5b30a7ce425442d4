"""What is published is what the logs signed, complete, and never taken back."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from key_registry.judge import open_bundle
from key_registry.trusted_registry import TrustedRegistry
from tests.key_registry.software_registry import SoftwareCosigner, SoftwareKey, SoftwareRegistry, policy_of
from tests.published_reader import files, log_vkeys, read_log
from witness_service.publish import (
    Contradicted,
    Folder,
    FolderProblem,
    NotCosigned,
    Published,
    Unfaithful,
    publish,
)
from witness_service.wire.answers import SignedCheckpoint


class MemoryService:
    """A service in memory over a software registry; `entries` of its statement log are any bytes.

    asked: the ranges of entries it was asked for. broken_after: how many entries it gives before it fails.
    """

    def __init__(self, registry: SoftwareRegistry | None = None) -> None:
        self.registry = registry or SoftwareRegistry(leads=1, threshold=1)
        self.statements: list[bytes] = []
        self.cosigned_by: list[SoftwareCosigner] = []
        self.token = b""
        self.asked: list[tuple[int, int]] = []
        self.broken_after: int | None = None

    def grow(self, count: int, mark: str = "") -> None:
        """Log so many entries more."""
        for _ in range(count):
            entry = f"entry {len(self.statements)} {mark}".encode() * (1 + len(self.statements) % 3)
            self.statements.append(entry)
            self.registry.statements.append(entry)

    def checkpoint(self, log: str, at_least: int) -> SignedCheckpoint:
        assert log == "statements"
        content = self.registry.statements.checkpoint(cosigned_by=self.cosigned_by)
        return SignedCheckpoint(content, self.registry.statements.size, self.token)

    def bundle(self) -> bytes:
        self.registry.tick()
        return self.registry.bundle(cosigned_by=self.cosigned_by).to_json()

    def entries(self, log: str, first: int, end: int) -> Iterator[bytes]:
        self.asked.append((first, end))
        for index, entry in enumerate(self.statements[first:end]):
            if index == self.broken_after:
                raise ConnectionError("the service is gone")
            yield entry


@contextmanager
def no_bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    yield lambda steps: None


def published(service: MemoryService, folder: Path, *, dry_run: bool = False, url: str | None = None) -> Published:
    made = Folder(folder, dry_run=dry_run)
    return publish(service, made, registry_id=service.registry.registry_id, url=url, bar=no_bar)


def check(service: MemoryService, folder: Path) -> None:
    """Read the folder as a stranger and compare it with the service's logs."""
    statements, registry = read_log(folder / "statements"), read_log(folder / "registry")
    assert statements.entries == service.statements
    assert statements.root == service.registry.statements.root()
    assert registry.entries == [envelope.entry() for envelope in service.registry.registry.envelopes]
    assert registry.root == service.registry.registry.root()
    assert not (folder / ".incoming").exists()


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 700])
def test_a_folder_holds_both_logs_whole(tmp_path: Path, size: int) -> None:
    service = MemoryService()
    service.grow(size)
    result = published(service, tmp_path / "public")
    check(service, tmp_path / "public")
    assert (result.statements.old_size, result.statements.checkpoint.size) == (0, size)
    assert result.registry.checkpoint.size == 1


def test_a_log_of_three_levels(tmp_path: Path) -> None:
    """65,536 entries fill a tile of level 1, and the level above begins."""
    service = MemoryService()
    service.grow(65_700)
    published(service, tmp_path)
    check(service, tmp_path)
    assert {path.name for path in (tmp_path / "statements" / "tile").iterdir()} == {"entries", "0", "1", "2"}


@settings(max_examples=25)
@given(steps=st.lists(st.integers(0, 600), min_size=1, max_size=5))
def test_growing_in_any_steps_gives_the_same_folder(tmp_path_factory: pytest.TempPathFactory, steps: list[int]) -> None:
    """In whatever steps it came to be, the tree is whole, asks for no full bundle twice, and keeps nothing old."""
    folder = tmp_path_factory.mktemp("public")
    service = MemoryService()
    for step in steps:
        before = len(service.statements)
        service.grow(step)
        service.asked.clear()
        published(service, folder)
        check(service, folder)
        assert service.asked == ([(before - before % 256, before + step)] if step else [])
    once = tmp_path_factory.mktemp("once")
    published(service, once)
    small = {path for path in files(folder) if ".p/" not in path}
    assert {path: content for path, content in files(once).items() if ".p/" in path}.items() <= files(folder).items()
    assert small == {path for path in files(once) if ".p/" not in path}
    full = {path for path in small if "/tile/" in path}
    assert not {path.partition(".p/")[0] for path in files(folder) if ".p/" in path} & full


def test_full_tiles_are_never_written_again(tmp_path: Path) -> None:
    """Not even with the same bytes: caches and copies may rely on it."""
    service = MemoryService()
    service.grow(600)
    published(service, tmp_path)
    before = {path: path.stat() for path in tmp_path.rglob("tile/*/0*") if path.is_file()}
    assert len(before) == 4
    service.grow(600)
    published(service, tmp_path)
    for path, stat in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_partial_tiles_stay_until_the_full_one_is_there(tmp_path: Path) -> None:
    """Who has read a checkpoint finds the partial tiles of its size, or the full ones."""
    service = MemoryService()
    service.grow(10)
    published(service, tmp_path)
    service.grow(10)
    published(service, tmp_path)
    partial = tmp_path / "statements" / "tile" / "0" / "000.p"
    assert {path.name for path in partial.iterdir()} == {"10", "20"}
    service.grow(300)
    published(service, tmp_path)
    assert not partial.exists()
    assert (tmp_path / "statements" / "tile" / "0" / "000").stat().st_size == 8192
    assert not (tmp_path / "statements" / "tile" / "entries" / "000.p").exists()


def test_the_bundle_and_the_policy_are_beside_the_logs(tmp_path: Path) -> None:
    service = MemoryService()
    service.grow(3)
    service.token = b"token"
    published(service, tmp_path, url="https://log.example/public/")
    opened = open_bundle((tmp_path / "bundle.json").read_bytes(), service.registry.registry_id)
    assert isinstance(opened, TrustedRegistry)
    policy = (tmp_path / "policy").read_text()
    assert policy.endswith("\nquorum none\n")
    assert [line.split()[2] for line in policy.splitlines()[:2]] == [
        "https://log.example/public/registry",
        "https://log.example/public/statements",
    ]
    assert set(log_vkeys(policy)) == {read_log(tmp_path / name).origin for name in ("registry", "statements")}
    assert (tmp_path / "timestamps" / "checkpoint-3.tsr").read_bytes() == b"token"


def test_a_log_key_that_was_replaced_is_not_in_the_policy(tmp_path: Path) -> None:
    service = MemoryService()
    service.grow(3)
    published(service, tmp_path)
    before = log_vkeys((tmp_path / "policy").read_text())
    service.registry.change_policy(statement_key=SoftwareKey("new"), registry_key=SoftwareKey("newer"))
    service.grow(3)
    published(service, tmp_path)
    check(service, tmp_path)
    after = log_vkeys((tmp_path / "policy").read_text())
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())


def test_cosignatures_are_published_and_asked_for(tmp_path: Path) -> None:
    """Without the policy's quorum nothing is shown, and readers keep what they had."""
    cosigners = [SoftwareCosigner(name) for name in ("one", "two")]
    service = MemoryService(SoftwareRegistry(leads=1, threshold=1, policy=policy_of(*cosigners)))
    service.grow(3)
    service.cosigned_by = cosigners
    result = published(service, tmp_path)
    assert result.cosigned == (("one", "two"), ("one", "two"))
    for name in ("registry", "statements"):
        assert read_log(tmp_path / name).checkpoint.count("\u2014 ") == 3
    policy = (tmp_path / "policy").read_text()
    assert policy.endswith(service.registry.registry.policy.text)
    before = files(tmp_path)
    service.grow(3)
    service.cosigned_by = cosigners[:1]
    with pytest.raises(NotCosigned):
        published(service, tmp_path)
    assert files(tmp_path) == before
    service.cosigned_by = cosigners
    published(service, tmp_path)
    check(service, tmp_path)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    """It says what would be done, and finds what would be refused."""
    service = MemoryService()
    service.grow(300)
    result = published(service, tmp_path / "public", dry_run=True)
    assert (result.statements.checkpoint.size, result.statements.files) == (300, 5)
    assert not (tmp_path / "public").exists()
    published(service, tmp_path / "public")
    before = files(tmp_path)
    service.grow(300)
    assert published(service, tmp_path / "public", dry_run=True).statements.files == 5
    assert files(tmp_path) == before
    forked = MemoryService(SoftwareRegistry(leads=1, threshold=1))
    forked.grow(600, "forked")
    with pytest.raises(Contradicted):
        published(forked, tmp_path / "public", dry_run=True)
    assert files(tmp_path) == before


@pytest.mark.attacks
@pytest.mark.parametrize(("size", "reason"), [(299, "LOG_ROLLED_BACK"), (300, "LOG_FORK"), (301, "LOG_FORK")])
def test_another_history_is_refused(tmp_path: Path, size: int, reason: str) -> None:
    """A shorter log, another one of the same size, and a longer one that does not begin like the published one."""
    service = MemoryService()
    service.grow(300)
    published(service, tmp_path)
    before = files(tmp_path)
    other = MemoryService()
    other.grow(size, "other")
    with pytest.raises(Contradicted) as caught:
        published(other, tmp_path)
    assert caught.value.reason == reason
    assert files(tmp_path) == before


@pytest.mark.attacks
def test_a_fork_below_the_last_bundle_is_found_by_its_root(tmp_path: Path) -> None:
    """The entries that were published are not fetched again; a change among them shows in the root all the same."""
    service = MemoryService()
    service.grow(256)
    published(service, tmp_path)
    before = files(tmp_path)
    other = MemoryService()
    other.grow(100)
    other.grow(200, "other")
    with pytest.raises(Contradicted) as caught:
        published(other, tmp_path)
    assert caught.value.reason == "LOG_FORK"
    assert files(tmp_path) == before


@pytest.mark.attacks
def test_a_restored_backup_of_the_registry_is_refused(tmp_path: Path) -> None:
    """A registry with fewer records than were published has lost a rotation."""
    service = MemoryService()
    service.registry.new_witness(1)
    published(service, tmp_path)
    before = files(tmp_path)
    with pytest.raises(Contradicted) as caught:
        published(MemoryService(), tmp_path)
    assert caught.value.reason == "LOG_ROLLED_BACK"
    assert files(tmp_path) == before


@pytest.mark.attacks
def test_a_tile_of_another_history_in_the_folder_is_refused(tmp_path: Path) -> None:
    """Also where no checkpoint speaks of it: somebody may have read it."""
    service = MemoryService()
    service.grow(256)
    tile = tmp_path / "statements" / "tile" / "0" / "000"
    tile.parent.mkdir(parents=True)
    tile.write_bytes(bytes(8192))
    with pytest.raises(Contradicted):
        published(service, tmp_path)
    assert files(tmp_path) == {"statements/tile/0/000": bytes(8192)}


def test_wrong_entries_leave_nothing_behind(tmp_path: Path) -> None:
    """A service that gives other entries than its log has cannot keep a later, right one from publishing."""
    service = MemoryService()
    service.grow(600)
    right = list(service.statements)
    for change in (lambda it: it.__setitem__(7, b"other"), list.pop, lambda it: it.__setitem__(7, bytes(65_536))):
        service.statements = list(right)
        change(service.statements)
        with pytest.raises(Unfaithful):
            published(service, tmp_path)
        assert files(tmp_path) == {}
    service.statements = right
    published(service, tmp_path)
    check(service, tmp_path)


def test_entries_beyond_those_asked_for_are_not_read(tmp_path: Path) -> None:
    service = MemoryService()
    service.grow(300)
    endless = service.entries

    def entries(log: str, first: int, end: int) -> Iterator[bytes]:
        yield from endless(log, first, end)
        while True:
            yield b"more"

    service.entries = entries  # type: ignore[method-assign]
    published(service, tmp_path)
    check(service, tmp_path)


def test_an_interrupted_publication_is_gone_on_with(tmp_path: Path) -> None:
    """Until all is there readers see the old log; what was fetched is not fetched again."""
    service = MemoryService()
    service.grow(100)
    published(service, tmp_path)
    before = files(tmp_path)
    service.grow(900)
    service.broken_after = 700
    with pytest.raises(ConnectionError):
        published(service, tmp_path)
    assert {path: it for path, it in files(tmp_path).items() if not path.startswith(".incoming")} == before
    service.broken_after = None
    service.asked.clear()
    published(service, tmp_path)
    assert service.asked == [(512, 1000)]
    check(service, tmp_path)


def test_what_an_interruption_left_may_be_damaged(tmp_path: Path) -> None:
    service = MemoryService()
    service.grow(900)
    service.broken_after = 700
    with pytest.raises(ConnectionError):
        published(service, tmp_path)
    service.broken_after = None
    left = tmp_path / ".incoming" / "statements" / "tile" / "entries" / "000"
    left.write_bytes(left.read_bytes()[:-1])
    published(service, tmp_path)
    check(service, tmp_path)


def _cut_tile(folder: Path) -> None:
    tile = folder / "statements" / "tile" / "0" / "001.p" / "44"
    tile.write_bytes(tile.read_bytes()[:-1])


def _change_tile(folder: Path) -> None:
    (folder / "statements" / "tile" / "1" / "000.p" / "1").write_bytes(bytes(32))


def _remove_tile(folder: Path) -> None:
    (folder / "statements" / "tile" / "1" / "000.p" / "1").unlink()


def _garble_checkpoint(folder: Path) -> None:
    (folder / "statements" / "checkpoint").write_bytes(b"\xffnonsense")


def _other_origin(folder: Path) -> None:
    file = folder / "registry" / "checkpoint"
    file.write_text(file.read_text().replace("test.example", "other.example"))


def _occupy(folder: Path) -> None:
    (folder / "bundle.json").unlink()
    (folder / "bundle.json").mkdir()


@pytest.mark.parametrize("damage", [_cut_tile, _change_tile, _remove_tile, _garble_checkpoint, _other_origin, _occupy])
def test_a_damaged_folder_is_named(tmp_path: Path, damage: object) -> None:
    service = MemoryService()
    service.grow(300)
    published(service, tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    service.grow(1)
    with pytest.raises(FolderProblem, match=str(tmp_path)):
        published(service, tmp_path)


def test_two_publications_do_not_meet(tmp_path: Path) -> None:
    service = MemoryService()
    with Folder(tmp_path).locked(), pytest.raises(FolderProblem, match="alone"):
        published(service, tmp_path)
    published(service, tmp_path)


def test_a_service_of_another_registry_is_not_believed(tmp_path: Path) -> None:
    service = MemoryService()
    with pytest.raises(Unfaithful, match="WRONG_REGISTRY"):
        publish(service, Folder(tmp_path), registry_id="ab" * 32, url=None, bar=no_bar)
    assert files(tmp_path) == {}


def test_a_checkpoint_by_another_key_is_not_believed(tmp_path: Path) -> None:
    service = MemoryService()
    service.grow(2)
    content = service.registry.statements.checkpoint(key=SoftwareKey("stolen"))
    service.checkpoint = lambda log, at_least: SignedCheckpoint(content, 2, b"")  # type: ignore[method-assign]
    with pytest.raises(Unfaithful):
        published(service, tmp_path)
    assert files(tmp_path) == {}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Of a log with 15 MB of entries no more than a few bundles are held at once."""
    service = MemoryService()
    for number in range(30_000):
        service.statements.append(b"%500d" % number)
        service.registry.statements.append(service.statements[-1])
    service.registry.statements.root()
    tracemalloc.start()
    published(service, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
    check(service, tmp_path)
