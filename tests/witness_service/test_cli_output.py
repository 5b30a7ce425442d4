"""What commands write: safe on a terminal, exact for programs."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from witness_service.cli.output import json_line, printable, write_facts


@given(st.text())
def test_printable_text_stays_on_its_line(text: str) -> None:
    """No character moves the cursor, ends the line, or turns the writing direction."""
    shown = printable(text)
    assert shown.splitlines() in ([], [shown])
    assert not set(shown) & set("\x1b\x07\u202e\u2066\u200f")


@pytest.mark.parametrize("text", ["orders", "Bestellungen für Zürich", "注文", "[bold]x[/bold]", ":smile:"])
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    """Text of any language stays readable."""
    assert printable(text) == text


def test_data_is_never_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream called like a colour is shown by its name, and long values are not cut."""
    write_facts("[red]stream[/red] :smile:", {"key": "ab" * 200})
    output = capsys.readouterr().out
    assert "[red]stream[/red] :smile:" in output
    assert "ab" * 200 in output


def test_names_of_facts_are_printable_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A service names facts; a name cannot end its line and begin another one in the lead's words."""
    write_facts("change", {"x\n  you sign": "\x1b[2J", "\x1b[8mhidden\u202e": "y"})
    output = capsys.readouterr().out
    assert len(output.splitlines()) == 3
    assert "\x1b" not in output
    assert "\u202e" not in output


@given(st.dictionaries(st.text(), st.text() | st.integers()))
def test_json_is_one_line_that_reads_back(value: dict[str, object]) -> None:
    """An object is one line for programs, whatever it holds."""
    line = json_line(value)
    assert "\n" not in line
    assert json.loads(line) == value


def _on_a_terminal(environment: dict[str, str], tmp_path: Path) -> bytes:
    """Run a command that fails with its output on a terminal, and return what the terminal got."""
    leader, follower = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "WITNESS_ADDRESS")}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "witness_service.cli", "status"],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        cwd=tmp_path,
        env={**clean, "TERM": "xterm", "WITNESS_STATE": str(tmp_path), **environment},
    ) as process:
        os.close(follower)
        output = io.BytesIO()
        while data := _read(leader):
            output.write(data)
        assert process.wait(30) == 3
    os.close(leader)
    return output.getvalue()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1024)
    except OSError:  # Linux says EIO when the last process has closed the terminal
        return b""


def test_a_bar_on_the_terminal_leaves_standard_output_alone() -> None:
    """What a command writes while a bar is shown goes to the file or pipe it was sent to."""
    leader, follower = pty.openpty()
    program = (
        "from witness_service.cli.output import progress, write_json\n"
        "with progress('working', 2) as advance:\n"
        "    write_json({'sequence': 1}); advance(1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(follower)
        shown = io.BytesIO()
        while data := _read(leader):
            shown.write(data)
        assert process.stdout is not None
        assert process.stdout.read() == b'{"sequence":1}\n'
        assert process.wait(30) == 0
    os.close(leader)
    assert b"working" in shown.getvalue()


def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    """On a terminal a refusal is red; with NO_COLOR set it is not."""
    assert b"\x1b[" in _on_a_terminal({}, tmp_path)
    assert b"\x1b[" not in _on_a_terminal({"NO_COLOR": "1"}, tmp_path)
