"""Coverage: the registry log's word that a registry was complete at a size of the statement log."""

from dataclasses import dataclass

from key_registry import canonical_json
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.merkle import EMPTY_ROOT
from key_registry.statement import check_hex, check_number, check_time, read_number, read_object

COVERAGE_TYPE = "application/vnd.witness-service.coverage.v1+json"


@dataclass(frozen=True)
class Coverage:
    """How far a copy of the registry reaches; without it an old but genuine copy hides the newest rotation.

    Args:
        created_at: when it was said, YYYY-MM-DDTHH:MM:SS.ffffffZ.
        registry_id: hex SHA-256 of the genesis record's PAE.
        registry_root: hex root of the registry log.
        registry_size: R, how many records there were.
        statement_root: hex root of the statement log.
        statement_size: S, how many entries the statement log had; no record follows the registry below S.

    Raises:
        FormatError: a field is not of its form.
    """

    created_at: str
    registry_id: str
    registry_root: str
    registry_size: int
    statement_root: str
    statement_size: int

    def __post_init__(self) -> None:
        check_time("created_at", self.created_at)
        check_hex("registry_id", self.registry_id)
        check_hex("registry_root", self.registry_root)
        check_number("registry_size", self.registry_size)
        check_hex("statement_root", self.statement_root)
        check_number("statement_size", self.statement_size)
        if self.statement_size == 0 and self.statement_root != EMPTY_ROOT.hex():
            raise FormatError("statement_root: expected the root of the empty tree for size 0, got another root")

    def encode(self) -> bytes:
        """Return the canonical JSON the registry log key signs under `COVERAGE_TYPE`."""
        fields: dict[str, JSONValue] = {**self.__dict__}
        for name in _NUMBERS:
            fields[name] = str(fields[name])
        return canonical_json.encode(fields)

    @classmethod
    def decode(cls, data: bytes) -> "Coverage":
        """Read a coverage body; raises FormatError."""
        fields: dict[str, object] = {**read_object("coverage", canonical_json.decode(data), _FIELDS)}
        for name in _NUMBERS:
            fields[name] = read_number(name, fields[name])
        return cls(**fields)  # type: ignore[arg-type]  # __post_init__ checks every field


_FIELDS = frozenset(Coverage.__dataclass_fields__)
_NUMBERS = ("registry_size", "statement_size")
