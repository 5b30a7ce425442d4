"""A registry in the middle of its life, for tests of what may come next."""

from typing import Any

from key_registry.dsse import Envelope
from key_registry.record import RECORD_TYPE
from tests.key_registry.software_registry import SoftwareKey, SoftwareRegistry, envelope, witness

W1, W2 = witness(1), witness(2)


class LivedRegistry(SoftwareRegistry):
    """A registry in the middle of its life: three leads of whom two decide, and keys in every state.

    Of witness 1: `old` closed at 4, `a` and `b` open since 4 and 6, `new` added; of witness 2: `other` open
    since 6, `spare` added. The statement log has 8 entries, 2 of them by `a`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.old = self.new_witness(1)
        self.log_statements(self.old, 4)
        self.a = self.add_key(SoftwareKey("a"), W1)
        self.rotate(W1, opens=self.a, closes=self.old)
        self.log_statements(self.a, 2)
        self.b = self.add_key(SoftwareKey("b", "ecdsa-p256"), W1)
        self.rotate(W1, opens=self.b)
        self.other = self.new_witness(2)
        self.log_statements(self.other, 2)
        self.new = self.add_key(SoftwareKey("new"), W1)
        self.spare = self.add_key(SoftwareKey("spare"), W2)
        self.stranger = SoftwareKey("stranger")

    def log_statements(self, key: SoftwareKey, count: int) -> None:
        for _ in range(count):
            self.attest(key, self.statements.size)

    def record(self, body: Any, *keys: SoftwareKey) -> Envelope:
        return envelope(RECORD_TYPE, body.encode(), *keys)

    def named(self, name: str) -> SoftwareKey:
        """Return a key by its name: an attribute, "lead0" and so on, or that of a log."""
        if name.startswith("lead"):
            return self.leads[int(name.removeprefix("lead"))]
        if name.endswith(" log"):
            return {"registry log": self.registry_log, "statement log": self.statements}[name].key
        key: SoftwareKey = getattr(self, name)
        return key
