"""How commands fail: exit code and message, for people and for programs."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from witness_service.cli.app import app
from witness_service.lead_key import LeadKey

EVENT_HASH = "sha256:" + "0" * 64
SIGN = ["sign", "--stream", "s", "--sequence", "0", "--hash", EVENT_HASH, "--retry-for", "0"]


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        SIGN,
        ["get", "s", "0"],
        ["keys", "list"],
        ["keys", "history"],
        ["bundle"],
        ["evidence", "s", "0"],
        ["evidence", "s", "--from", "0"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_an_unreachable_service_is_exit_code_3(command: list[str], nobody: str) -> None:
    """Every command says that nobody answers, names the address and ends with 3, as JSON on stderr."""
    result = run(*command, "--address", nobody, "--json")
    assert result.exit_code == 3
    assert result.stdout == ""
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["reason"]) == ("UNAVAILABLE", "UNREACHABLE")
    assert nobody in error["message"]


def test_for_people_the_message_is_text(nobody: str) -> None:
    """Without --json the message is one line of text that starts with the stable reason."""
    result = run("status", "--address", nobody)
    assert result.exit_code == 3
    assert result.stderr.startswith("UNREACHABLE: expected a witness service at")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sign", "--sequence", "0", "--hash", EVENT_HASH], "--stream"),
        (["sign", "--stream", "s", "--hash", EVENT_HASH], "does not number events"),
        (["sign", "--stream", "s", "--sequence", "0"], "either --hash or --file"),
        (
            ["sign", "--stream", "s", "--sequence", "0", "--hash", EVENT_HASH, "--file", "f"],
            "either --hash or --file",
        ),
        (["sign", "--events", "-", "--stream", "s"], "expected it alone"),
        (["sign", "--stream", "s", "--sequence", "-1", "--hash", EVENT_HASH], "--sequence"),
        (["evidence", "s"], "SEQUENCE"),
        (["evidence", "s", "1", "--from", "1"], "SEQUENCE"),
        (["evidence", "s", "--to", "1"], "SEQUENCE"),
        (["keys", "history", "--at-position", "1", "--at-time", "2026-01-01T00:00:00.000000Z"], "--at-time"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], said: str, nobody: str) -> None:
    """Options that do not go together are refused before anything is asked of a service."""
    result = run(*arguments, "--address", nobody)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["sign", "--stream", "s", "--sequence", "0", "--file", "missing"],
        ["sign", "--events", "missing"],
        ["keys", "rotate", "ab", "--lead", "missing", "--registry-id", "ab" * 32, "--yes"],
        ["migrate", "--dsn-file", "missing"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_missing_file_is_exit_code_4(
    arguments: list[str], nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local file that cannot be read is named, and told apart from what a service says."""
    monkeypatch.chdir(tmp_path)
    place = [] if arguments[0] == "migrate" else ["--address", nobody]
    result = run(*arguments, *place, "--json")
    assert result.exit_code == 4
    assert "missing" in json.loads(result.stderr)["error"]["message"]


def test_an_event_line_that_is_wrong_is_named_by_its_number(nobody: str) -> None:
    """A line that is no event ends the command with 4 and its number, also from a pipe."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "witness_service.cli",
        "sign",
        "--events",
        "-",
        "--address",
        nobody,
        "--json",
    ]
    done = subprocess.run(command, input=b"\nno json\n", capture_output=True, timeout=30)
    assert done.returncode == 4
    assert "-, line 2: expected a JSON object" in json.loads(done.stderr)["error"]["message"]


def test_a_lead_signs_for_a_known_registry_only(nobody: str, tmp_path: Path) -> None:
    """Without a registry id from elsewhere the command stops: the service must not say what is signed for."""
    LeadKey.create(tmp_path / "lead.pem")
    arguments = [
        "keys",
        "rotate",
        "ab",
        "--lead-key",
        str(tmp_path / "lead.pem"),
        "--yes",
        "--address",
        nobody,
    ]
    result = run(*arguments)
    assert result.exit_code == 2
    assert "--registry-id" in result.stderr
