"""RFC 3161 tokens over checkpoints, found by the name of their file: checkpoint-<size>.tsr."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from key_registry.checkpoint import Checkpoint
from key_registry.errors import FormatError, SignatureError
from key_registry.evidence_files import read_regular

_KNOWN = 4096


@dataclass(frozen=True)
class Timestamps:
    """Where tokens are, and whom to trust for them.

    Args:
        folder: of tokens, looked at before the folder that the evidence is in; or None.
        roots: PEM certificates of timestamp authorities.
    """

    folder: str | None
    roots: bytes


class TimestampFiles:
    """Reads and verifies tokens, each once."""

    def __init__(self, timestamps: Timestamps) -> None:
        self._timestamps = timestamps
        self._known: dict[tuple[str, Checkpoint], str | None] = {}
        self.refused: dict[str, str] = {}
        """Why a token was not used, by path; whoever reads it may clear it."""

    def beside(self, path: str) -> Callable[[Checkpoint], str | None]:
        """Return a function that knows by when a checkpoint existed, for evidence at `path`."""
        folders = [os.path.dirname(path)]
        if self._timestamps.folder is not None:
            folders.insert(0, self._timestamps.folder)
        return lambda checkpoint: next(filter(None, (self._time(folder, checkpoint) for folder in folders)), None)

    def _time(self, folder: str, checkpoint: Checkpoint) -> str | None:
        if (folder, checkpoint) not in self._known:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[folder, checkpoint] = self._read(folder, checkpoint)
        return self._known[folder, checkpoint]

    def _read(self, folder: str, checkpoint: Checkpoint) -> str | None:
        from key_registry.timestamp import MAX_TOKEN_BYTES, verify_token  # here, because few runs have tokens

        path = os.path.join(folder, f"checkpoint-{checkpoint.size}.tsr")
        try:
            token = read_regular(path, MAX_TOKEN_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.refused[path] = error.strerror or "cannot be read"
            return None
        try:
            if len(token) > MAX_TOKEN_BYTES:
                raise FormatError(f"expected a token of at most {MAX_TOKEN_BYTES} bytes, got more")
            return verify_token(token, checkpoint.text(), self._timestamps.roots)
        except (FormatError, SignatureError) as error:
            self.refused[path] = str(error)
            return None
