"""What a run of witness-verify has found, in numbers."""

from collections import Counter
from dataclasses import dataclass, field

from key_registry.verdict import Code, Outcome


@dataclass
class Tally:
    """What has been found, so that parts judged by different processes can be added up.

    Args:
        codes: how many verdicts of each code.
        unreadable: how many files could not be read.
        unlisted: how many statements are about a place that the list of events does not have.
        missing: how many listed events have no valid evidence.
        equivocations: how many places have more than one validly witnessed hash.
        forks: how many sizes of a log have more than one genuine root.
    """

    codes: Counter[Code] = field(default_factory=Counter)
    unreadable: int = 0
    unlisted: int = 0
    missing: int = 0
    equivocations: int = 0
    forks: int = 0

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.codes.update(other.codes)
        for name in FINDINGS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def change(self, old: Code, new: Code, count: int) -> None:
        """Turn so many verdicts of one code into another."""
        self.codes[old] -= count
        self.codes[new] += count

    @property
    def pieces(self) -> int:
        """How many pieces of evidence there were, those that could not be read included."""
        return self.codes.total() + self.unreadable

    @property
    def findings(self) -> dict[str, int]:
        """What was found besides verdicts, by name."""
        return {name: getattr(self, name) for name in FINDINGS}

    def outcomes(self) -> Counter[Outcome]:
        """Return how many verdicts of each outcome."""
        counts: Counter[Outcome] = Counter()
        for code, count in self.codes.items():
            counts[code.outcome] += count
        return counts

    def exit_code(self) -> int:
        """Return 1 for any INVALID or contradiction, 3 for anything unreadable, 2 for any other doubt, else 0."""
        outcomes = self.outcomes()
        if outcomes[Outcome.INVALID] or self.equivocations or self.forks:
            return 1
        if self.unreadable:
            return 3
        return 2 if outcomes[Outcome.INDETERMINATE] or self.unlisted or self.missing else 0


FINDINGS = ("unreadable", "unlisted", "missing", "equivocations", "forks")
