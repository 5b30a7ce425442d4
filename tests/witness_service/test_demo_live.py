"""The demo itself, from beginning to end and interrupted."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "witness-verify").exists(), reason="needs the installed programs"
    ),
]

SECONDS = 110


@pytest.fixture
def temporary(reachable_folder: Path) -> Path:
    """A folder for the demo's temporary one, which the account of the database can reach."""
    folder = Path(tempfile.mkdtemp(dir=reachable_folder))
    folder.chmod(0o711)
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log file of the length of a real one."""
    path = tmp_path / "machine.log"
    path.write_text("".join(f"2026-01-01 00:00:00 line {number}\n" for number in range(5000)))
    return path


def start(log: Path, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "witness_service.demo", str(log)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )


def processes_of(folder: Path) -> list[str]:
    """Return the command lines that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


def test_the_demo_shows_everything_and_leaves_nothing(log: Path, temporary: Path) -> None:
    """Ten thousand events are signed under four keys, judged VALID and not forged; afterwards all is gone."""
    with start(log, temporary) as demo:
        output, _ = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 0
    result = json.loads(output.splitlines()[-1])
    assert result["valid"] == result["signed"] >= 10_000
    assert result["keys"] >= 4
    assert result["forgeries_refused"] == 5
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, "service"), (signal.SIGTERM, "writer")])
def test_an_interrupted_demo_stops_everything(log: Path, temporary: Path, number: signal.Signals, step: str) -> None:
    """Ctrl-C while the service starts, or SIGTERM while events are signed: no process and no file is left."""
    with start(log, temporary) as demo:
        assert demo.stdout is not None
        while f"  {step} " not in demo.stdout.readline():
            assert demo.poll() is None
        demo.send_signal(number)
        demo.communicate(timeout=SECONDS)
    assert demo.returncode == 128 + number
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []
