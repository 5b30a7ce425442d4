"""The genesis record: who the leads are, which logs belong to the registry, and the first policy."""

from dataclasses import dataclass
from typing import ClassVar

from key_registry import canonical_json
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.policy import Policy
from key_registry.record.lead import Lead, check_leads, leads_object, read_leads
from key_registry.record.link import LINK_MEMBERS
from key_registry.record.log_key import Logs
from key_registry.statement import check_environment, check_time, read_number, read_object, read_text


@dataclass(frozen=True)
class Genesis:
    """The first record: who the leads are, how many make a quorum, and which logs belong to the registry.

    Args:
        created_at: time of the record, YYYY-MM-DDTHH:MM:SS.ffffffZ.
        environment: "production" or "development".
        leads: ascending by key id; no name and no key twice.
        threshold: how many distinct leads make a quorum, 1 to len(leads).
        logs: two origins and two keys.
        policy: the cosigner policy: "none", or the text of a C2SP tlog-policy without log lines.

    Raises:
        FormatError: a field is not of its form.
        UnsupportedAlgorithm: the policy names a cosigner of an algorithm this program does not know.
    """

    TYPE: ClassVar[str] = "genesis"

    created_at: str
    environment: str
    leads: tuple[Lead, ...]
    threshold: int
    logs: Logs
    policy: str = "none"

    def __post_init__(self) -> None:
        check_time("created_at", self.created_at)
        check_environment("environment", self.environment)
        check_leads(self.leads, self.threshold)
        Policy.parse(self.policy)

    def encode(self) -> bytes:
        """Return the body of the record."""
        return canonical_json.encode(
            {
                "created_at": self.created_at,
                "environment": self.environment,
                "leads": leads_object(self.leads),
                "logs": self.logs.to_object(),
                "policy": self.policy,
                "prev": None,
                "registry_id": None,
                "seq": "0",
                "threshold": str(self.threshold),
                "type": self.TYPE,
            }
        )

    @classmethod
    def from_object(cls, value: JSONValue) -> "Genesis":
        """Read a parsed body; raises FormatError, UnsupportedAlgorithm for a key this program cannot use."""
        body = read_object("genesis", value, [*LINK_MEMBERS, "environment", "leads", "logs", "policy", "threshold"])
        if body["seq"] != "0" or body["prev"] is not None or body["registry_id"] is not None:
            raise FormatError('genesis: expected seq "0", prev null and registry_id null, got something else')
        return cls(
            created_at=read_text("created_at", body["created_at"]),
            environment=read_text("environment", body["environment"]),
            leads=read_leads(body["leads"]),
            threshold=read_number("threshold", body["threshold"]),
            logs=Logs.from_object(body["logs"]),
            policy=read_text("policy", body["policy"]),
        )
