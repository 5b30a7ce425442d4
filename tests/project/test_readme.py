"""What README and docs show is what the programs do."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from witness_service.config import load
from witness_service.exit_codes import MEANINGS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = sorted({line.split("#")[0].strip() for page in PAGES for line in _shell_lines(page.read_text())})


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_shown_exists_with_its_options(line: str) -> None:
    """Each command line of the documentation names a program, a command and options that there are."""
    words = shlex.split(line)
    if words[0].startswith("script/"):
        assert (ROOT / words[0]).is_file()
        return
    modules = {"witness": "witness_service.cli", "witness-verify": "key_registry.verify"}
    module = modules[words[0]]
    command = [word for word in words[1:3] if re.fullmatch("[a-z]+", word)] if words[0] == "witness" else []
    if command and command[0] not in ("keys",):
        command = command[:1]
    run = subprocess.run([sys.executable, "-m", module, *command, "--help"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in run.stdout, f"{option} is not an option of {words[0]} {' '.join(command)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link in the documentation is a file of the repository."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_exit_codes_in_the_readme_are_those_of_the_program() -> None:
    """The table of the README holds every exit code with the program's own words."""
    table = README.partition("| Exit code of `witness` | Meaning |")[2].partition("\n\n")[0]
    shown = dict(re.findall(r"^\| (\d+) \| (.*) \|$", table, re.M))
    assert shown == {str(code.value): meaning for code, meaning in MEANINGS.items()}


def test_configuration_shown_can_be_loaded(tmp_path: Path) -> None:
    """The configuration page shows a file that loads as it stands, and names every key there is."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    (text,) = re.findall(r"^```toml\n(.*?)^```", page, re.S | re.M)
    file = tmp_path / "witness.toml"
    file.write_text(text)
    configuration = load(file)
    shown = set(re.findall(r"^(\w+) =", text, re.M))
    sections = (
        configuration.service,
        configuration.database,
        configuration.tokens[0],
        configuration.streams[0],
        configuration.limits,
        configuration.cosigning,
        configuration.timestamps,
    )
    known = {name for section in sections for name in type(section).model_fields}
    assert shown == known - {"dsn"}


def test_demo_shown_is_consistent() -> None:
    """The JSON line of the demo in the README is one a successful demo prints."""
    import json

    (line,) = re.findall(r"^\{.*\}$", README.partition("<!-- demo -->")[2].partition("<!-- /demo -->")[0], re.M)
    shown = json.loads(line)
    assert shown["valid"] == shown["signed"] >= 10_000
    assert shown["keys"] >= 4
    assert shown["forgeries_refused"] >= 1
