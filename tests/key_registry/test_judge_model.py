"""Any history of records and signatures gives the verdicts of a model that knows positions and cuts only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from key_registry.bundle import Bundle
from key_registry.dsse import Envelope
from key_registry.evidence import Evidence
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.policy import NONE
from key_registry.tlog_proof import TlogProof
from key_registry.verdict import Code, Outcome
from tests.key_registry.software_registry import (
    SoftwareCosigner,
    SoftwareKey,
    SoftwareRegistry,
    policy_of,
    witness,
)

PRODUCTION = frozenset({"production"})
COSIGNERS = {name: [SoftwareCosigner(f"{name}{number}") for number in (1, 2, 3)] for name in ("a", "b")}
WITNESSES = (witness(1), witness(2))


@dataclass
class ModelKey:
    """What the model knows of a key: where it opened and closed, and the lowest cut."""

    key: SoftwareKey
    witness_id: str
    opened: int | None = None
    closed: int | None = None
    cut: int | None = None
    destroyed: bool = False

    @property
    def is_open(self) -> bool:
        return self.opened is not None and self.closed is None

    @property
    def may_open(self) -> bool:
        return self.opened is None and self.cut is None and not self.destroyed

    def code(self, index: int) -> Code:
        """Return the verdict on a statement by this key at an index."""
        if self.opened is None or index < self.opened or (self.closed is not None and index >= self.closed):
            return Code.KEY_NOT_ACTIVE
        if self.cut is not None:
            return Code.KEY_COMPROMISED if index >= self.cut else Code.VALID_BEFORE_COMPROMISE
        return Code.VALID_KEY_ACTIVE if self.closed is None else Code.VALID_KEY_ROTATED


@dataclass(frozen=True)
class Published:
    """A checkpoint and a bundle of one moment, and what the model knew then."""

    size: int
    checkpoint: bytes
    bundle: Bundle
    keys: dict[str, ModelKey]
    log_key: str
    asked: bool
    seals: frozenset[int]


@dataclass
class History:
    """A registry in the making, next to the model of it."""

    world: SoftwareRegistry
    keys: list[ModelKey] = field(default_factory=list)
    statements: list[tuple[int, Envelope, str, int]] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    cosigners: str = NONE
    seals: set[int] = field(default_factory=set)

    def step(self, chance: Random) -> None:
        """Make one thing happen that may happen."""
        name = chance.choice(STEP_NAMES)
        _, take = STEPS[name]
        take(self, chance)

    def _some(self, chance: Random, keys: list[ModelKey]) -> ModelKey | None:
        return chance.choice(keys) if keys else None

    @property
    def _now(self) -> list[SoftwareCosigner]:
        return COSIGNERS.get(self.cosigners, [])

    def add(self, chance: Random) -> None:
        witness_id = chance.choice(WITNESSES)
        key = self.world.add_key(SoftwareKey(f"key {len(self.keys)}"), witness_id)
        self.keys.append(ModelKey(key, witness_id))

    def rotate(self, chance: Random) -> None:
        """Open a key, close a key, or both at once."""
        closing = self._some(chance, [key for key in self.keys if key.is_open])
        wanted = [key for key in self.keys if key.may_open]
        if closing is not None and chance.random() < 0.5:
            opening = None
        else:
            closing = closing if chance.random() < 0.5 else None
            opening = self._some(
                chance, [key for key in wanted if closing is None or key.witness_id == closing.witness_id]
            )
        if opening is None and closing is None:
            return
        witness_id = (opening or closing).witness_id  # type: ignore[union-attr]
        size = self.world.statements.size
        count = closing and min(self.world.signed.get(closing.key.key_id, 0), size - (closing.opened or 0))
        if closing is not None:
            self.world.signed[closing.key.key_id] = count or 0
        self.world.rotate(
            witness_id,
            opens=None if opening is None else opening.key,
            closes=None if closing is None else closing.key,
            cosigned_by=self._now[: 3 if chance.random() < 0.5 else 2 if closing else 0],
        )
        self.seals.add(size)
        if opening is not None:
            opening.opened = size
        if closing is not None:
            closing.closed = size

    def compromise(self, chance: Random) -> None:
        key = self._some(chance, [key for key in self.keys if key.cut != 0])
        if key is not None:
            highest = self.world.statements.size + 3 if key.cut is None else key.cut - 1
            key.cut = chance.randint(0, highest)
            self.world.compromise(key.key, key.cut)

    def destroy(self, chance: Random) -> None:
        key = self._some(chance, [key for key in self.keys if not key.is_open and not key.destroyed])
        if key is not None:
            key.destroyed = True
            self.world.destroy(key.key)

    def change_leads(self, chance: Random) -> None:
        count = chance.randint(1, 3)
        names = [f"lead {self.world.registry.size} {number}" for number in range(count)]
        self.world.change_leads([SoftwareKey(name) for name in names], chance.randint(1, count))

    def change_policy(self, chance: Random) -> None:
        """Ask for other cosigners or none, change a log key, or both."""
        kept = self.cosigners
        self.cosigners = chance.choice([NONE, "a", "b", kept])
        number = self.world.registry.size
        self.world.change_policy(
            policy_of(*self._now, threshold=2) if self._now else NONE,
            statement_key=SoftwareKey(f"statements {number}") if chance.random() < 0.5 else None,
            registry_key=SoftwareKey(f"registry {number}") if chance.random() < 0.5 else None,
        )
        self.seals.add(self.world.statements.size)

    def sign(self, chance: Random) -> None:
        """Sign a few statements with any key, whether it may or not: the log takes them all."""
        usual = [key for key in self.keys if key.is_open]
        key = self._some(chance, usual if usual and chance.random() < 0.8 else self.keys)
        for _ in range(chance.randint(1, 4) if key else 0):
            assert key is not None
            index, signed = self.world.attest(key.key, self.world.statements.size)
            self.statements.append((index, signed, key.key.key_id, self.world.registry.size))

    def publish(self, chance: Random) -> None:
        world = self.world
        world.tick()
        if not world.statements.size:
            return
        some = self._now[1:] if chance.random() < 0.5 else self._now
        self.published.append(
            Published(
                world.statements.size,
                world.statements.checkpoint(cosigned_by=some),
                world.bundle(cosigned_by=self._now),
                {key.key.key_id: ModelKey(**vars(key)) for key in self.keys},
                world.statements.key.key_id,
                bool(self._now),
                frozenset(self.seals),
            )
        )

    def begin(self) -> Self:
        """Give each witness a key that is open."""
        for witness_id in WITNESSES:
            key = ModelKey(SoftwareKey(f"key {len(self.keys)}"), witness_id, opened=0)
            self.keys.append(key)
            self.world.add_key(key.key, witness_id)
            self.world.rotate(witness_id, opens=key.key)
        self.seals.add(0)
        return self


STEPS: dict[str, tuple[int, Callable[[History, Random], None]]] = {
    "add": (3, History.add),
    "rotate": (4, History.rotate),
    "compromise": (2, History.compromise),
    "destroy": (1, History.destroy),
    "leads": (1, History.change_leads),
    "policy": (2, History.change_policy),
    "sign": (6, History.sign),
    "publish": (3, History.publish),
}
STEP_NAMES = [name for name, (weight, _) in STEPS.items() for _ in range(weight)]


def expected(then: Published, by: Published, index: int, key_id: str, committed: int) -> Code | None:
    """Return what the model says of evidence from `then` by the bundle of `by`; None: anything but VALID."""
    if committed > len(by.bundle.records):
        return Code.BUNDLE_TOO_OLD
    if then.size > by.size:
        return None
    if then.log_key != by.log_key and not then.asked and then.size not in by.seals | {by.size}:
        return Code.NOT_LOGGED
    return by.keys[key_id].code(index)


@pytest.mark.attacks
def test_any_history_gives_the_verdicts_of_the_model() -> None:
    """Evidence of every age by bundles of every age: the code follows from the positions and the cuts alone."""
    met: Counter[Code] = Counter()

    @settings(max_examples=60)
    @given(seed=st.integers(0, 2**32), length=st.integers(10, 40))
    def any_history(seed: int, length: int) -> None:
        chance = Random(seed)
        history = History(SoftwareRegistry()).begin()
        for _ in range(length):
            history.step(chance)
        history.publish(chance)
        for by in history.published:
            trusted = open_bundle(by.bundle.to_json(), history.world.registry_id)
            assert isinstance(trusted, TrustedRegistry), trusted
            for then in history.published:
                met.update(_check(history, trusted, then, by))

    any_history()
    # Histories in which nothing happens would agree with any model.
    assert met.keys() >= {
        Code.VALID_KEY_ACTIVE,
        Code.VALID_KEY_ROTATED,
        Code.VALID_BEFORE_COMPROMISE,
        Code.KEY_NOT_ACTIVE,
        Code.KEY_COMPROMISED,
        Code.BUNDLE_TOO_OLD,
        Code.NOT_LOGGED,
    }, met


def _check(history: History, trusted: TrustedRegistry, then: Published, by: Published) -> Iterator[Code]:
    is_newer = history.published.index(then) > history.published.index(by)
    for index, signed, key_id, committed in history.statements:
        if index >= then.size:
            break
        proof = TlogProof(index, history.world.statements.proof(index, then.size), then.checkpoint, None)
        verdict = judge(trusted, Evidence(signed, proof).to_bytes(), event_hash=None, environments=PRODUCTION)
        code = expected(then, by, index, key_id, committed)
        if is_newer and verdict.code is not code:
            # The bundle may be too old for it, and says so; nothing honest is called INVALID for that.
            told = {Code.BUNDLE_TOO_OLD, Code.QUORUM_NOT_MET, Code.NOT_LOGGED}
            assert verdict.code in told or verdict.code is by.keys[key_id].code(index), verdict.reason
            assert verdict.outcome is not Outcome.VALID
        else:
            assert verdict.code is code, verdict.reason
        yield verdict.code
