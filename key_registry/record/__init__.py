"""The key registry's records: what each type says, and how its body is written and read."""

from key_registry.record.compromise import Compromise
from key_registry.record.destroyed import Destroyed
from key_registry.record.genesis import Genesis
from key_registry.record.key_add import KeyAdd
from key_registry.record.lead import Lead
from key_registry.record.leads_change import LeadsChange
from key_registry.record.link import Link, WitnessLink
from key_registry.record.log_key import LogKey, Logs
from key_registry.record.policy_change import PolicyChange
from key_registry.record.record import DRILL, RECORD_TYPE, Record, decode, decode_link, previous_hash
from key_registry.record.rotate import Rotate

__all__ = [
    "DRILL",
    "RECORD_TYPE",
    "Compromise",
    "Destroyed",
    "Genesis",
    "KeyAdd",
    "Lead",
    "LeadsChange",
    "Link",
    "LogKey",
    "Logs",
    "PolicyChange",
    "Record",
    "Rotate",
    "WitnessLink",
    "decode",
    "decode_link",
    "previous_hash",
]
