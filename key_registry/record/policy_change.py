"""The policy record: another cosigner policy, other log keys, or both, from a position of the statement log on."""

from dataclasses import dataclass
from typing import ClassVar

from key_registry import canonical_json, note
from key_registry.canonical_json import JSONValue
from key_registry.policy import Policy
from key_registry.record.link import LINK_MEMBERS, Link, read_link
from key_registry.record.log_key import Logs
from key_registry.statement import read_object, read_text


@dataclass(frozen=True)
class PolicyChange(Link):
    """The cosigner policy and the log keys from the embedded checkpoint's size on.

    Args:
        policy: "none", or the text of a C2SP tlog-policy without log lines.
        logs: the two logs with their keys; the origins never change.
        checkpoint: the statement log's checkpoint (C2SP signed note) at the change, by the key that `logs` names.
    """

    TYPE: ClassVar[str] = "policy"

    policy: str
    logs: Logs
    checkpoint: bytes

    def __post_init__(self) -> None:
        super().__post_init__()
        Policy.parse(self.policy)
        note.parse(self.checkpoint)

    def encode(self) -> bytes:
        """Return the body of the record."""
        return canonical_json.encode(
            {
                **self.link_object(),
                "checkpoint": self.checkpoint.decode(),
                "logs": self.logs.to_object(),
                "policy": self.policy,
            }
        )

    @classmethod
    def from_object(cls, value: JSONValue) -> "PolicyChange":
        """Read a parsed body; raises FormatError, UnsupportedAlgorithm for a key this program cannot use."""
        body = read_object("policy", value, [*LINK_MEMBERS, "checkpoint", "logs", "policy"])
        return cls(
            **read_link(body),
            policy=read_text("policy", body["policy"]),
            logs=Logs.from_object(body["logs"]),
            checkpoint=read_text("checkpoint", body["checkpoint"]).encode(),
        )
