"""What an auditor has on disk, and witness-verify run over it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from key_registry.verify import main
from tests.key_registry.software_registry import SoftwareRegistry


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        return self.lines[-1]["summary"]

    def codes(self) -> dict[str, str]:
        """The verdicts of a run with --json, by file name and line."""
        lines = (line for line in self.lines if "code" in line)
        return {":".join(filter(None, [Path(line["path"]).name, line["line"]])): line["code"] for line in lines}

    def findings(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("finding") == kind]


@dataclass(frozen=True)
class Auditor:
    """A folder with the bundle, the pinned id and whatever else is put there."""

    path: Path
    capture: pytest.CaptureFixture[str]

    @property
    def evidence(self) -> Path:
        return self.path / "evidence"

    @classmethod
    def of(cls, world: SoftwareRegistry, path: Path, capture: pytest.CaptureFixture[str]) -> "Auditor":
        (path / "bundle.json").write_bytes(world.bundle().to_json())
        (path / "id").write_text(world.registry_id + "\n")
        (path / "evidence").mkdir()
        return cls(path, capture)

    def add(self, name: str, data: bytes) -> Path:
        """Write a piece of evidence."""
        path = self.evidence / f"{name}.tlog-proof"
        path.write_bytes(data)
        return path

    def write(self, name: str, data: bytes) -> Path:
        (self.path / name).write_bytes(data)
        return self.path / name

    def arguments(self, *arguments: object) -> list[str]:
        trust = ["--bundle", str(self.path / "bundle.json"), "--registry-id", f"@{self.path / 'id'}"]
        return [*trust, *map(str, arguments)]

    def verify(self, *arguments: object) -> Run:
        code = main(self.arguments(*arguments))
        captured = self.capture.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Run(code, captured.out, captured.err)
