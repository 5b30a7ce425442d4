"""The verdict: what judging came to, as a published code, with its reason and what it rests on."""

import enum
from dataclasses import dataclass
from typing import NoReturn

from key_registry.canonical_json import JSONValue
from key_registry.statement import Statement


class Outcome(enum.Enum):
    """The three classes of verdicts; the value is the exit code."""

    VALID = 0
    INVALID = 1
    INDETERMINATE = 2


class Code(enum.Enum):
    """The published codes; the name is the spelling, the value the outcome and what it means for people."""

    VALID_KEY_ACTIVE = (
        Outcome.VALID,
        "The signature was made by the witness's key while that key was valid, and the key still is.",
    )
    VALID_KEY_ROTATED = (
        Outcome.VALID,
        "The signature was made by the witness's key while that key was valid. The key has since been "
        "replaced in the ordinary way, which takes nothing from the signature.",
    )
    VALID_BEFORE_COMPROMISE = (
        Outcome.VALID,
        "The signature stands in the log below the point from which its key is distrusted. The key was "
        "compromised later: a qualified pass.",
    )
    BAD_FORMAT = (
        Outcome.INVALID,
        "The evidence is damaged or is not evidence of this kind.",
    )
    BAD_SIGNATURE = (
        Outcome.INVALID,
        "The signature is not the witness key's signature over this statement: the statement, the signature "
        "or the key has been exchanged.",
    )
    EVENT_MISMATCH = (
        Outcome.INVALID,
        "The statement is about another event than the one it is presented for.",
    )
    UNKNOWN_KEY = (
        Outcome.INVALID,
        "The key that is said to have signed was never in this registry.",
    )
    KEY_SCOPE = (
        Outcome.INVALID,
        "The key belongs to another witness, or was not allowed to sign for this stream.",
    )
    WRONG_REGISTRY = (
        Outcome.INVALID,
        "The registry, or the statement, is not of the registry you pinned.",
    )
    WRONG_ENVIRONMENT = (
        Outcome.INVALID,
        "The statement is not of an environment you accept: development signatures prove nothing elsewhere.",
    )
    KEY_NOT_ACTIVE = (
        Outcome.INVALID,
        "The statement stands in the log where its key was not valid: before the key was opened, or after it "
        "was closed, as it would if a retired key had been stolen.",
    )
    KEY_COMPROMISED = (
        Outcome.INVALID,
        "The statement stands in the log at or above the point from which its key is distrusted.",
    )
    LOG_PROOF_INVALID = (
        Outcome.INVALID,
        "The proof does not show that the statement is in the statement log.",
    )
    REGISTRY_INVALID = (
        Outcome.INVALID,
        "The bundle is not a faithful copy of a registry; nothing can be judged by it. Get it again from a "
        "source you trust.",
    )
    REGISTRY_MISMATCH = (
        Outcome.INVALID,
        "The signer believed in another registry history than the bundle's: one of the two is false.",
    )
    EQUIVOCATION = (
        Outcome.INVALID,
        "Two different events were witnessed for the same place.",
    )
    LOG_FORK = (
        Outcome.INVALID,
        "The log has signed two histories of the same length. Keep both files: together they prove it.",
    )
    NOT_LOGGED = (
        Outcome.INDETERMINATE,
        "Nothing that still counts shows that the statement is in the log, and without its place there it cannot "
        "be told when it was signed. Ask the service for the evidence file.",
    )
    QUORUM_NOT_MET = (
        Outcome.INDETERMINATE,
        "Too few of the cosigners that the policy names have signed the checkpoint. They may have been down: get "
        "the file again later.",
    )
    BUNDLE_TOO_OLD = (
        Outcome.INDETERMINATE,
        "The evidence is newer than the bundle, so a change of keys could be missing. Get a newer bundle.",
    )
    TIME_INCONSISTENT = (
        Outcome.INDETERMINATE,
        "Everything holds but the time the signer claims, which does not fit what the registry and the cosigners "
        "say: a clock is wrong.",
    )
    UNSUPPORTED_ALGORITHM = (
        Outcome.INDETERMINATE,
        "The registry has keys of an algorithm this program does not know. Get a newer program.",
    )

    @property
    def outcome(self) -> Outcome:
        """The class of the code."""
        return self.value[0]

    @property
    def meaning(self) -> str:
        """What the code means, for people."""
        return self.value[1]


BY_COSIGNERS = "cosigners"
BY_OPERATOR = "operator"
BY_LEADS = "leads"
BY_TIMESTAMP_AUTHORITY = "timestamp authority"


@dataclass(frozen=True)
class Bound:
    """One end of the interval in which a statement was signed.

    Args:
        time: YYYY-MM-DDTHH:MM:SS.ffffffZ.
        source: whose word it is: BY_COSIGNERS, BY_TIMESTAMP_AUTHORITY, or BY_LEADS, which is a claim only.
    """

    time: str
    source: str

    def to_object(self) -> dict[str, JSONValue]:
        """Return the bound for JSON."""
        return {"source": self.source, "time": self.time}


@dataclass(frozen=True)
class AsOf:
    """The knowledge a verdict rests on: the bundle.

    Args:
        registry_size: how many registry records.
        statement_size: up to which size of the statement log they are said to be all.
        time: when that was said, by the operator's clock.
        completeness: whose word it is that no record is missing: BY_COSIGNERS under a policy that asks for them,
            otherwise BY_OPERATOR.
        cosigned_at: when a quorum of the cosigners had seen these records and no more; None if none is asked.
    """

    registry_size: int
    statement_size: int
    time: str
    completeness: str = BY_OPERATOR
    cosigned_at: str | None = None

    def to_object(self) -> dict[str, JSONValue]:
        """Return it for JSON."""
        return {
            "completeness": self.completeness,
            "cosigned_at": self.cosigned_at,
            "registry_size": str(self.registry_size),
            "statement_size": str(self.statement_size),
            "time": self.time,
        }


@dataclass(frozen=True)
class Verdict:
    """What judging came to. It has no truth value: a caller must look at the outcome.

    Args:
        code: one of the published codes.
        reason: one sentence for people, on one line: what was expected and what was found.
        as_of: what the verdict rests on; None when the bundle itself could not be used.
        statement: what the evidence says, as far as it could be read. Unless VALID it is a claim only.
        leaf_index: the place in the statement log that the evidence claims.
        event_compared: whether the event hash was compared with one the caller computed.
        completeness: whose word it is that the log has one history and the bundle every record: BY_COSIGNERS only if
            they were asked about both; None as long as no checkpoint of the log was found to count.
        not_before, existed_by: when the statement was signed; None where nothing tells.
    """

    code: Code
    reason: str
    as_of: AsOf | None = None
    statement: Statement | None = None
    leaf_index: int | None = None
    event_compared: bool = False
    completeness: str | None = None
    not_before: Bound | None = None
    existed_by: Bound | None = None

    @property
    def outcome(self) -> Outcome:
        """VALID, INVALID or INDETERMINATE."""
        return self.code.outcome

    def __bool__(self) -> NoReturn:
        raise TypeError("expected verdict.outcome to be compared, got a verdict used as a truth value")

    def to_object(self) -> dict[str, JSONValue]:
        """Return the verdict for JSON: strings only, null where something is not known."""
        said = self.statement
        return {
            "as_of": _object(self.as_of),
            "code": self.code.name,
            "completeness": self.completeness,
            "event_compared": "yes" if self.event_compared else "no",
            "existed_by": _object(self.existed_by),
            "leaf_index": None if self.leaf_index is None else str(self.leaf_index),
            "not_before": _object(self.not_before),
            "outcome": self.outcome.name,
            "reason": self.reason,
            **{name: None if said is None else str(getattr(said, name)) for name in _SAID},
        }


_SAID = ("environment", "event_hash", "key_id", "sequence", "signed_at", "stream", "witness_id")


def _object(part: AsOf | Bound | None) -> JSONValue:
    return None if part is None else part.to_object()
