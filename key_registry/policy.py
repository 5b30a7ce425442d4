"""The cosigner policy (C2SP tlog-policy): who must have cosigned a checkpoint before it counts."""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from key_registry import decimal_strict, note
from key_registry.cosignature import Cosigner, parse_vkey
from key_registry.errors import FormatError, UnsupportedAlgorithm

NONE = "none"
"""The policy of a registry without cosigners; the same as the text "quorum none"."""

MAX_BYTES = 65_536
MAX_NAMES = 64

_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_BLANKS = re.compile("[ \t]+")


@dataclass(frozen=True, slots=True)
class Group:
    """Cosigners and groups of which at least `threshold` must have cosigned."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read; made by parse.

    Attributes:
        text: as it stands in the record.
        cosigners: by their lines.
        groups: by their lines; a group names what stands before it only.
        quorum: name of a cosigner or a group, None where no cosigner is asked.
    """

    text: str
    cosigners: tuple[Cosigner, ...]
    groups: tuple[Group, ...]
    quorum: str | None

    @staticmethod
    def parse(text: str) -> "Policy":
        """Return the policy of a record's text: "none", or lines of C2SP tlog-policy.

        Stricter than the specification in this: no `log` lines, because the logs are members of the record; UTF-8,
        because the record is; thresholds without leading zeros; key hashes in lower case; no two verifier keys with the
        same name and key hash, because their cosignatures could not be told apart; at most 64 KiB, 64 cosigners and 64
        groups.

        Raises:
            FormatError: any other text.
            UnsupportedAlgorithm: a cosigner of an algorithm this program does not know.
        """
        return _parse(text)

    @property
    def asks_cosigners(self) -> bool:
        """Whether a checkpoint needs any cosignature at all."""
        return self.quorum is not None

    def times(self, opened: note.Note) -> dict[str, int]:
        """Return when each cosigner cosigned a checkpoint, POSIX seconds by the cosigner's name in the policy.

        Lines of anybody else are ignored. Raises SignatureError for a bad line by one of the cosigners, or two by one.
        """
        found = ((cosigner.name, cosigner.cosigned_at(opened)) for cosigner in self.cosigners)
        return {name: time for name, time in found if time is not None}

    def is_met(self, names: Collection[str]) -> bool:
        """Whether the quorum holds when the cosigners of these names have cosigned."""
        reached = set(names) & {cosigner.name for cosigner in self.cosigners}
        for group in self.groups:
            if sum(member in reached for member in group.members) >= group.threshold:
                reached.add(group.name)
        return self.quorum is None or self.quorum in reached

    def met_at(self, times: Mapping[str, int]) -> int | None:
        """Return the earliest time by which the quorum had cosigned: the checkpoint existed by then.

        Too few cosigners to make a quorum cannot make it earlier, whatever their clocks say.

        Args:
            times: POSIX seconds by name, as `times` returns them.

        Returns:
            POSIX seconds; None if the quorum is not met, or no cosigner is asked.
        """
        return self._first_met(times, sorted(set(times.values())), operator.le)

    def met_since(self, times: Mapping[str, int]) -> int | None:
        """Return the latest time that a whole quorum reached: who knows the cosignatures came after it.

        The counterpart of `met_at`: too few cosigners to make a quorum cannot make it later.

        Args:
            times: POSIX seconds by name, as `times` returns them.

        Returns:
            POSIX seconds; None if the quorum is not met, or no cosigner is asked.
        """
        return self._first_met(times, sorted(set(times.values()), reverse=True), operator.ge)

    def _first_met(
        self, times: Mapping[str, int], limits: Iterable[int], within: Callable[[int, int], bool]
    ) -> int | None:
        if self.quorum is None:
            return None
        for limit in limits:
            if self.is_met([name for name, time in times.items() if within(time, limit)]):
                return limit
        return None


@lru_cache(maxsize=64)
def _parse(text: str) -> Policy:
    if text == NONE:
        return Policy(text, (), (), None)
    if _FORBIDDEN.search(text) or len(text.encode()) > MAX_BYTES:
        raise FormatError(f"policy: expected at most {MAX_BYTES} bytes of text without control characters, got others")
    if not text.endswith("\n"):
        raise FormatError('policy: expected "none" or lines that each end in a newline, got neither')
    reading = _Reading()
    for number, line in enumerate(text[:-1].split("\n"), 1):
        words = _BLANKS.split(line.strip(" \t"))
        if words[0] and not words[0].startswith("#"):
            try:
                reading.add(words)
            except UnsupportedAlgorithm as error:
                raise UnsupportedAlgorithm(f"policy, line {number}: {error}") from None
            except FormatError as error:
                raise FormatError(f"policy, line {number}: {error}") from None
    return reading.policy(text)


class _Reading:
    """What the lines read so far have defined."""

    def __init__(self) -> None:
        self.cosigners: dict[str, Cosigner] = {}
        self.groups: dict[str, Group] = {}
        self.used: set[str] = set()
        self.quorum: str | None = None
        self.has_quorum = False

    def add(self, words: list[str]) -> None:
        match words:
            case ["witness", name, vkey]:
                self._add_cosigner(name, vkey, None)
            case ["witness", name, vkey, url]:
                self._add_cosigner(name, vkey, url)
            case ["group", name, threshold, *members] if members:
                self._add_group(name, threshold, members)
            case ["quorum", name] if not self.has_quorum:
                self.quorum = None if name == NONE else self._defined(name)
                self.has_quorum = True
            case ["log", *_]:
                raise FormatError("expected no log line, because the record itself names the logs, got one")
            case _:
                raise FormatError("expected a witness, a group or the one quorum line, got something else")

    def _add_cosigner(self, name: str, vkey: str, url: str | None) -> None:
        self._check_new(name, self.cosigners)
        key_name, public_key = parse_vkey(vkey)
        cosigner = Cosigner(name, key_name, public_key, url)
        for known in self.cosigners.values():
            if public_key == known.public_key:
                raise FormatError(f"expected another key for each witness, got that of {known.name!a} again")
            if (key_name, cosigner.key_hash) == (known.key_name, known.key_hash):
                raise FormatError(f"expected another name or key hash than that of {known.name!a}, got both again")
        self.cosigners[name] = cosigner

    def _add_group(self, name: str, threshold: str, members: list[str]) -> None:
        self._check_new(name, self.groups)
        for member in members:
            if self._defined(member) in self.used:
                raise FormatError(f"expected every name in one group at most, got {member!a} again")
            self.used.add(member)
        wanted = {"any": 1, "all": len(members)}.get(threshold)
        if wanted is None:
            wanted = decimal_strict.decode(threshold, "threshold")
        if not 1 <= wanted <= len(members):
            raise FormatError(f"expected a threshold of 1 to {len(members)}, got {wanted}")
        self.groups[name] = Group(name, wanted, tuple(members))

    def _check_new(self, name: str, kind: Collection[str]) -> None:
        if name == NONE or name in self.cosigners or name in self.groups:
            raise FormatError(f"expected a name that is new and not {NONE}, got {name!a}")
        if len(kind) >= MAX_NAMES:
            raise FormatError(f"expected at most {MAX_NAMES} witnesses and {MAX_NAMES} groups, got more")

    def _defined(self, name: str) -> str:
        if name not in self.cosigners and name not in self.groups:
            raise FormatError(f"expected the name of a line before this one, got {name!a}")
        return name

    def policy(self, text: str) -> Policy:
        if not self.has_quorum:
            raise FormatError("policy: expected a quorum line, got none")
        return Policy(text, tuple(self.cosigners.values()), tuple(self.groups.values()), self.quorum)
