"""The log keys made for a draft, noted beside it while it is being made.

Keys are made in the token before the draft can name them. What an interrupted run has made, the next one takes up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from key_registry import canonical_json
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.record import LogKey
from key_registry.statement import read_object, read_text
from witness_service import durable_file
from witness_service.custody import Custody
from witness_service.founding import make_log_key
from witness_service.genesis_files import BadDraft


@dataclass
class KeyNotes:
    """The log keys made for a draft, in a file beside it.

    making: origin of the log whose key was being made when the file was written last; None when none was.
    """

    path: Path
    made: dict[str, LogKey] = field(default_factory=dict)
    making: str | None = None

    @classmethod
    def beside(cls, draft: Path) -> KeyNotes:
        """Return the notes beside a draft, empty ones when there are none; raises BadDraft."""
        path = draft.with_name(f"{draft.name}.keys")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            raise BadDraft(f"cannot read {path}: {error.strerror}") from error
        try:
            body = read_object("notes", canonical_json.parse(content), ("made", "making"))
            made = body["made"]
            if not isinstance(made, list):
                raise FormatError("made: expected a list, got something else")
            keys = [LogKey.from_object(value) for value in made]
            making = None if body["making"] is None else read_text("making", body["making"])
        except FormatError as error:
            raise BadDraft(f"{path}: expected the log keys of an interrupted draft: {error}; remove the file") from None
        return cls(path, {key.origin: key for key in keys}, making)

    async def log_key(self, custody: Custody, origin: str, token_serial: str) -> LogKey:
        """Return the key of a log, made now or by an earlier run, and proved by a self-test; raises HsmError."""
        key = self.made.get(origin)
        if key is None:
            self._write(making=origin)
            key = self.made[origin] = await make_log_key(custody, origin, token_serial)
            self._write(making=None)
        await custody.hold(key.public_key, key.cka_id, key.token_serial)
        return key

    def stray(self, token_serial: str) -> str:
        """Return a remark about a key that may be in the token without anybody knowing it; empty when none is."""
        if self.making is None:
            return ""
        return (
            f"an earlier run was interrupted while it made the key of {self.making}: the token {token_serial} may hold "
            "one key labelled log that no record names; it has signed nothing, and may be removed"
        )

    def remove(self) -> None:
        """Remove the file, when the draft itself says which keys there are."""
        durable_file.remove(self.path)

    def _write(self, *, making: str | None) -> None:
        self.making = making
        keys: list[JSONValue] = [key.to_object() for key in self.made.values()]
        durable_file.replace(self.path, canonical_json.encode({"made": keys, "making": making}), mode=0o644)
