"""The cosigners that are asked, and what is known of each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from key_registry.cosignature import Cosigner
from key_registry.replay import Registry
from witness_service.config import CosigningSection
from witness_service.cosigning.asking import cosigner_id

log = structlog.get_logger(__name__)

LOGS = ("statements", "registry")
"""In the order in which they are cosigned: a bundle has to be as fresh as the evidence it judges."""

LONGEST_PAUSE = 6
"""Publication intervals after which a cosigner that keeps failing is asked again at the latest."""


@dataclass(frozen=True, slots=True)
class CosignerState:
    """What is known of a cosigner and one log.

    cosigner: its name in the policy. log: "registry" or "statements". size, cosigned_at: the largest checkpoint it
    cosigned and when it did so last, in POSIX seconds by its clock; None for none. problem: why its last answer was
    none, in words; empty when all is well.
    """

    cosigner: str
    log: str
    size: int | None
    cosigned_at: int | None
    problem: str


@dataclass(eq=False)
class Asked:
    """One cosigner of the policy, as this instance asks it.

    url: submission prefix; None when neither policy nor configuration gives one. lock: held while it is asked, so
    that it is sent one request at a time. latest: by log, size and time of what it cosigned last. answered: logs of
    which it has told this instance, since it runs, what it knows.
    """

    cosigner: Cosigner
    url: str | None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    latest: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    failures: int = 0
    pause_until: float = 0.0

    @property
    def name(self) -> str:
        """Its name in the policy."""
        return self.cosigner.name

    def is_due(self, log_name: str, size: int, now: int, heartbeat: float) -> bool:
        """Say whether it should be asked about a log of this size. now: POSIX seconds.

        What has been cosigned is asked about again when this instance has just started: the database may be an older
        one since, and only the cosigner knows.
        """
        cosigned = self.latest.get(log_name)
        if log_name not in self.answered:
            return True
        if log_name == "statements":
            return size > 0 and (cosigned is None or cosigned[0] < size)
        if cosigned is None or cosigned[0] < size or now - cosigned[1] >= heartbeat:
            return True
        statements = self.latest.get("statements")
        return statements is not None and cosigned[1] < statements[1]

    def did(self, log_name: str, size: int, cosigned_at: int) -> None:
        """Take down that it cosigned a checkpoint."""
        self.answered.add(log_name)
        self.latest[log_name] = size, cosigned_at
        if self.problems.pop(log_name, None) is not None:
            log.info("cosigner cosigns again", cosigner=self.name, log=log_name, size=size)

    def failed(self, log_name: str, problem: str) -> None:
        """Take down why it did not; said once in the log until it changes."""
        if self.problems.get(log_name) != problem:
            log.error("cosigner did not cosign", cosigner=self.name, log=log_name, problem=problem)
        self.problems[log_name] = problem

    def pause(self, now: float, interval: float) -> None:
        """After a visit, let it alone for a while if it failed, for longer each time.

        now: of the event loop. interval: between two publications, in seconds.
        """
        self.failures = self.failures + 1 if self.problems else 0
        self.pause_until = now + interval * min(2 ** min(self.failures, 8), LONGEST_PAUSE) if self.problems else 0.0

    def states(self) -> list[CosignerState]:
        """Return what is known, log by log."""
        found = []
        for log_name in LOGS:
            size, time = self.latest.get(log_name, (None, None))
            found.append(CosignerState(self.name, log_name, size, time, self.problems.get(log_name, "")))
        return found


class AskedCosigners(Mapping[bytes, Asked]):
    """The cosigners to ask, by the 32 bytes that identify each; kept in step with the policy."""

    def __init__(self, section: CosigningSection) -> None:
        self._section = section
        self._asked: dict[bytes, Asked] = {}

    def follow(self, registry: Registry, statement_size: int) -> None:
        """Ask the cosigners of the present policy, and of the one that still holds for a log of this size.

        A cosigner that the configuration ignores is not asked. One that stays keeps its state.
        """
        wanted = (*registry.policy.cosigners, *registry.policy_at(statement_size).cosigners)
        found: dict[bytes, Asked] = {}
        for cosigner in wanted:
            known_as = cosigner_id(cosigner)
            if known_as in found or cosigner.name in self._section.ignore:
                continue
            url = self._section.urls.get(cosigner.name, cosigner.url)
            known = self._asked.get(known_as)
            if known is not None:
                known.cosigner, known.url = cosigner, url
            found[known_as] = known or Asked(cosigner, url)
        self._asked = found

    def __getitem__(self, known_as: bytes) -> Asked:
        return self._asked[known_as]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._asked)

    def __len__(self) -> int:
        return len(self._asked)
