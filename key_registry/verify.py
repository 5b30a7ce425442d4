"""witness-verify: judge evidence files against a bundle, with no HSM, service, database or network."""

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NoReturn

from key_registry.audit import Audit, read_file, writing
from key_registry.bundle import BUNDLE_BYTES
from key_registry.cannot_run import CannotRun
from key_registry.errors import FormatError
from key_registry.evidence_files import EVIDENCE_SUFFIX
from key_registry.examine import Task
from key_registry.export import EXPORT_SUFFIX
from key_registry.report import Style, printable
from key_registry.statement import ENVIRONMENTS, check_hash
from key_registry.timestamp_files import Timestamps

if TYPE_CHECKING:
    from key_registry.html_report import HtmlReport

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
        print(f"witness-verify: {printable(str(error))}", file=sys.stderr)
        return 3
    except MemoryError:
        print("witness-verify: there is not enough memory to read the files", file=sys.stderr)
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
    add(
        "--also-bundle",
        action="append",
        default=[],
        metavar="FILE",
        help="another copy of the registry, older or newer; contradicting histories are a LOG_FORK",
    )
    add(
        "--checkpoint",
        action="append",
        default=[],
        metavar="FILE",
        help="a checkpoint of either log that you have from elsewhere, such as a cosigner; likewise",
    )
    add("--tsa-roots", metavar="FILE", help="trust timestamps (RFC 3161) by authorities under these PEM certificates")
    add(
        "--timestamps",
        metavar="FOLDER",
        help="look for them here too: checkpoint-SIZE.tsr; they are also found beside the evidence",
    )
    add("--json", action="store_true", help="print JSON, an object a line; the last one is a summary")
    add("--html", metavar="FILE", help="write the report to one HTML file too")
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help=f"an evidence file, an export, or a folder of *{EVIDENCE_SUFFIX} and *{EXPORT_SUFFIX} files",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.event_hash and options.events:
        raise CannotRun("expected --event-hash or --events, got both")
    if options.timestamps and not options.tsa_roots:
        raise CannotRun("expected --tsa-roots with --timestamps, got none")
    for path in options.paths:
        if not os.path.lexists(path):
            raise CannotRun(f"expected evidence at {path}, got nothing there")
    if options.html:
        _check_page_apart(options)
    with ExitStack() as resources:
        task = Task(
            bundle=read_file(options.bundle, BUNDLE_BYTES),
            registry_id=_registry_id(options.registry_id),
            environments=frozenset(options.accept_environment),
            event_hash=_event_hash(options.event_hash),
            events=_write_event_list(options.events, resources),
            timestamps=_timestamps(options),
            as_json=options.json,
        )
        return Audit(
            task=task,
            bundle=options.bundle,
            paths=options.paths,
            also_bundles=options.also_bundle,
            checkpoints=options.checkpoint,
            style=Style(as_json=options.json, colour=_wants_colour()),
            page=_page(options.html, resources),
        ).run()


def _timestamps(options: argparse.Namespace) -> Timestamps | None:
    if options.tsa_roots is None:
        return None
    from key_registry.timestamp import MAX_ROOTS_BYTES, LibraryMissing, read_roots, read_token

    with suppress(FormatError):
        try:
            read_token(b"")
        except LibraryMissing as error:
            raise CannotRun(str(error)) from None
    roots = read_file(options.tsa_roots, MAX_ROOTS_BYTES)
    try:
        read_roots(roots)
    except FormatError as error:
        raise CannotRun(f"cannot use {options.tsa_roots}: {error}") from None
    return Timestamps(options.timestamps, roots)


def _page(path: str | None, resources: ExitStack) -> "HtmlReport | None":
    if path is None:
        return None
    from key_registry.html_report import HtmlReport

    with writing():
        return resources.enter_context(HtmlReport(path))


def _check_page_apart(options: argparse.Namespace) -> None:
    """Raise CannotRun if the page would take the place of something that is read."""
    read = [options.bundle, options.registry_id.removeprefix("@"), options.events, options.tsa_roots]
    for path in [*read, *options.also_bundle, *options.checkpoint, *options.paths]:
        with suppress(OSError, ValueError):
            if path and os.path.samefile(path, options.html):
                raise CannotRun(f"expected --html to name a file of its own, got {path}, which is read")


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _registry_id(given: str) -> str:
    text = given
    if given.startswith("@"):
        text = read_file(given[1:], 1024).decode("ascii", "replace")
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
