"""`script/demo`: sign a real log file, rotate a key meanwhile, judge it all offline, refuse forgeries."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from hsm import HsmError
from witness_service.demo import log_file
from witness_service.demo.folder import Folder, working_folder
from witness_service.demo.judging import try_forgeries, verify, write_events
from witness_service.demo.programs import ProgramFailed
from witness_service.demo.report import write_report
from witness_service.demo.result import Result
from witness_service.demo.signing import sign_log
from witness_service.demo.steps import Steps


def main() -> int:
    """Run the demo; returns 0 when everything was shown, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="log file; else Debian's dpkg.log")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this new folder and keep it")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with working_folder(options.keep) as folder:
            return _run(folder, log_file.choose(options.file))
    except (ProgramFailed, log_file.NoLogFile, HsmError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except _Interrupted as interrupted:
        print("demo: interrupted; everything it started is stopped", file=sys.stderr)
        return 128 + interrupted.number


class _Interrupted(BaseException):
    def __init__(self, number: int) -> None:
        self.number = number


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """End the demo; what follows is cleaning up, which a second signal must not cut short."""
    for further in (signal.SIGINT, signal.SIGTERM):
        signal.signal(further, signal.SIG_IGN)
    raise _Interrupted(number)


def _run(folder: Folder, log: Path) -> int:
    steps = Steps()
    result = Result()
    shutil.copyfile(log, folder.source)
    steps.say("log file", f"{log}: {sum(1 for _ in log_file.lines(folder.source)):,} lines")
    steps.restart()
    signed = sign_log(folder, log, steps, result)
    steps.say("service", "stopped; from here on there are only files")
    write_events(folder, signed.streams)
    verify(folder, signed.registry_id, steps, result)
    try_forgeries(folder, signed.registry_id, signed.retired_key_id, steps, result)
    result.seconds = steps.seconds
    write_report(steps.console, result)
    print(result.last_line(), flush=True)
    return 0 if result.good else 1
