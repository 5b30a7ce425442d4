"""Help: every command explains itself, with an example and at once."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from witness_service import exit_codes
from witness_service.cli.app import app

COMMANDS = [
    ["sign"],
    ["get"],
    ["evidence"],
    ["bundle"],
    ["status"],
    ["keys", "list"],
    ["keys", "history"],
    ["keys", "rotate"],
    ["lead", "keygen"],
    ["lead", "show"],
    ["lead", "sign"],
    ["genesis", "draft"],
    ["genesis", "store"],
    ["dev"],
    ["serve"],
    ["migrate"],
]

HEAVY = ("grpc", "google.protobuf", "cryptography", "psycopg", "rich", "hsm.pool")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_explains_the_command_with_an_example(command: list[str]) -> None:
    """Every command's help says what it does and shows a call of it; every command has --json."""
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"witness {' '.join(command)}" in result.output.split("Example")[1]
    assert "--json" in result.output


def test_help_lists_every_exit_code() -> None:
    """The exit codes a script can meet are in `witness --help`, each with its meaning."""
    output = CliRunner().invoke(app, ["--help"]).output
    for code, meaning in exit_codes.MEANINGS.items():
        assert f"{code.value:>5}  {meaning}" in output


def test_help_loads_nothing_heavy() -> None:
    """Help comes at once, because nothing a call would need is imported for it."""
    program = (
        "import sys\n"
        "from witness_service.cli.app import app\n"
        "try: app(['sign', '--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stderr.strip() == "[]"
