"""The bundle: all registry records, the registry checkpoint and the coverage, in one file to keep."""

from dataclasses import dataclass

from key_registry import canonical_json
from key_registry.canonical_json import JSONValue
from key_registry.dsse import Envelope
from key_registry.errors import FormatError
from key_registry.statement import read_object, read_text

BUNDLE_FORMAT = "witness-service/bundle/v1"
BUNDLE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Bundle:
    """A copy of the registry that can be judged without asking anybody; nothing in it is verified.

    Args:
        records: the record envelopes by `seq`, from the genesis.
        checkpoint: the registry log's checkpoint over them (C2SP signed note).
        coverage: envelope of type `COVERAGE_TYPE`, signed by the registry log key.
    """

    records: tuple[Envelope, ...]
    checkpoint: bytes
    coverage: Envelope

    def to_json(self) -> bytes:
        """Return the bundle file."""
        return canonical_json.encode(
            {
                "coverage": self.coverage.to_object(),
                "format": BUNDLE_FORMAT,
                "records": [envelope.to_object() for envelope in self.records],
                "registry_checkpoint": self.checkpoint.decode(),
            }
        )

    @classmethod
    def from_json(cls, data: bytes) -> "Bundle":
        """Read a bundle file, in any spelling of its JSON: what counts in it is signed.

        Args:
            data: at most 64 MiB.

        Raises:
            FormatError: not JSON, not exactly a bundle's members, or an envelope that is none.
        """
        value = canonical_json.parse(data, max_bytes=BUNDLE_BYTES)
        body = read_object("bundle", value, ("coverage", "format", "records", "registry_checkpoint"))
        if body["format"] != BUNDLE_FORMAT:
            raise FormatError(f"bundle: expected format {BUNDLE_FORMAT}, got another")
        return cls(
            records=tuple(Envelope.from_object(record) for record in _records(body["records"])),
            checkpoint=read_text("registry_checkpoint", body["registry_checkpoint"]).encode(),
            coverage=Envelope.from_object(body["coverage"]),
        )


def _records(value: JSONValue) -> list[JSONValue]:
    if not isinstance(value, list) or not value:
        raise FormatError("records: expected at least the genesis record, got none")
    return value
