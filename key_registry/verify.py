"""witness-verify: judge evidence files against a bundle, with no HSM, service, database or network."""

import argparse
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import NoReturn

from key_registry.bundle import BUNDLE_BYTES
from key_registry.errors import FormatError
from key_registry.evidence_files import EVIDENCE_SUFFIX, find_evidence, read_regular
from key_registry.examine import Examiner, Task, examine
from key_registry.judge import TrustedRegistry, open_bundle
from key_registry.report import Progress, Style, Tally
from key_registry.statement import ENVIRONMENTS, check_hash
from key_registry.verdict import Verdict

_REGISTRY_ID = re.compile("[0-9a-f]{64}")
_ABOUT = "Judge whether events were witnessed by keys that were valid, from files alone."
_EXIT_CODES = """\
exit code:
  0    everything is VALID
  1    something is INVALID
  2    nothing is INVALID, but something is INDETERMINATE, a statement is about an event that
       --events does not list, or a listed event has no valid evidence
  3    wrong usage, or nothing is INVALID but a file could not be read
  130  interrupted
  141  the reader of the output has gone
"""


class CannotRun(Exception):
    """Something the program needs is missing or wrong; the text is one line for the person who called it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run witness-verify and return its exit code; what is wrong is said in a line, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(_parser().parse_args(argv))
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 3
    except CannotRun as error:
        print(f"witness-verify: {error}", file=sys.stderr)
        return 3
    except BrokenPipeError:
        _discard_output()
        return 141
    except OSError as error:
        _discard_output()
        print(f"witness-verify: cannot print the report: {error.strerror}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130


def _discard_output() -> None:
    # What is still to be written would be tried again when the interpreter ends, and complained about there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(3, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="witness-verify", description=_ABOUT, epilog=_EXIT_CODES, formatter_class=form)
    add = parser.add_argument
    add("--bundle", required=True, metavar="FILE", help="the registry, as the service publishes it")
    add(
        "--registry-id",
        required=True,
        metavar="HEX",
        help="the registry to trust: 64 hex digits from anywhere but the bundle, or @FILE with them",
    )
    add(
        "--accept-environment",
        action="append",
        default=["production"],
        choices=ENVIRONMENTS,
        help="accept statements of this environment besides production",
    )
    add("--event-hash", metavar="HASH", help='the hash of the event: "sha256:" or "blake3:", and hex')
    add("--events", metavar="FILE", help="the hashes of many events: stream<TAB>sequence<TAB>hash a line")
    add("--json", action="store_true", help="print JSON, an object a line; the last one is a summary")
    add("paths", nargs="+", metavar="PATH", help=f"an evidence file, or a folder of *{EVIDENCE_SUFFIX} files")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.event_hash and options.events:
        raise CannotRun("expected --event-hash or --events, got both")
    for path in options.paths:
        if not os.path.lexists(path):
            raise CannotRun(f"expected evidence at {path}, got nothing there")
    style = Style(as_json=options.json, colour=_wants_colour())
    with ExitStack() as resources:
        task = Task(
            bundle=_read(options.bundle, BUNDLE_BYTES),
            registry_id=_registry_id(options.registry_id),
            environments=frozenset(options.accept_environment),
            event_hash=_event_hash(options.event_hash),
            events=_write_event_list(options.events, resources),
            style=style,
        )
        trusted = open_bundle(task.bundle, task.registry_id)
        if isinstance(trusted, Verdict):
            return _conclude(options.bundle, trusted, style)
        if len(options.paths) == 1 and not os.path.isdir(options.paths[0]) and not options.events:
            return _judge_one(options.paths[0], trusted, task)
        return _judge_all(options.paths, trusted, task)


def _judge_one(path: str, trusted: TrustedRegistry, task: Task) -> int:
    try:
        verdict = Examiner(trusted, task).judge(path)
    except OSError as error:
        raise CannotRun(f"cannot read {path}: {error.strerror}") from None
    return _conclude(path, verdict, task.style)


def _conclude(path: str, verdict: Verdict, style: Style) -> int:
    print(style.one(path, verdict))
    if style.as_json:
        tally = Tally()
        tally.codes[verdict.code] += 1
        print(style.summary(tally, verdict.as_of, compared=verdict.event_compared))
    return verdict.outcome.value


def _judge_all(paths: Iterable[str], trusted: TrustedRegistry, task: Task) -> int:
    tally, witnessed, progress = Tally(), bytearray(), Progress()
    try:
        for found in examine(trusted, task, find_evidence(paths)):
            tally.add(found.tally)
            for number in found.witnessed:
                _mark(witnessed, number)
            if found.lines:
                progress.clear()
                print("\n".join(found.lines))
            progress.show("files judged", tally.files)
    except ChildProcessError as error:
        raise CannotRun(str(error)) from None
    finally:
        progress.clear()
    if not tally.files:
        raise CannotRun(f"expected *{EVIDENCE_SUFFIX} files in the folder, got none")
    if task.events is not None:
        _report_missing(task.events, witnessed, tally, task.style)
    compared = task.event_hash is not None or task.events is not None
    print(task.style.summary(tally, trusted.as_of, compared=compared))
    return tally.exit_code()


def _mark(bits: bytearray, number: int) -> None:
    missing = number // 8 + 1 - len(bits)
    bits.extend(bytes(max(missing, 0)))
    bits[number // 8] |= 1 << number % 8


def _report_missing(events: str, witnessed: bytearray, tally: Tally, style: Style) -> None:
    from key_registry.event_list import EventList

    with EventList(events) as listed:
        for number, (stream, sequence) in enumerate(listed.places()):
            if number // 8 >= len(witnessed) or not witnessed[number // 8] >> number % 8 & 1:
                tally.missing += 1
                print(style.missing(stream, sequence))


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _read(path: str, limit: int) -> bytes:
    try:
        data = read_regular(path, limit + 1)
    except OSError as error:
        raise CannotRun(f"cannot read {path}: {error.strerror}") from None
    if len(data) > limit:
        raise CannotRun(f"cannot read {path}: expected at most {limit} bytes, got more")
    return data


def _registry_id(given: str) -> str:
    text = given
    if given.startswith("@"):
        text = _read(given[1:], 1024).decode("ascii", "replace")
    text = text.strip().lower()
    if not _REGISTRY_ID.fullmatch(text):
        raise CannotRun("expected a registry id of 64 hex digits, or @ and the path of a file with them, got neither")
    return text


def _event_hash(given: str | None) -> str | None:
    try:
        return None if given is None else check_hash("--event-hash", given)
    except FormatError as error:
        raise CannotRun(str(error)) from None


def _write_event_list(path: str | None, resources: ExitStack) -> str | None:
    if path is None:
        return None
    # Imported here and where the list is used: a single file needs neither, and should be judged at once.
    from tempfile import TemporaryDirectory

    from key_registry.event_list import write_event_list

    try:
        folder = resources.enter_context(TemporaryDirectory(prefix="witness-verify-"))
        database = os.path.join(folder, "events")
        write_event_list(path, database)
    except OSError as error:
        raise CannotRun(f"cannot read the events of {path}: {error.strerror}") from None
    except FormatError as error:
        raise CannotRun(f"{path}, {error}") from None
    return database


if __name__ == "__main__":
    sys.exit(main())
