"""The event writer, a process of its own: signs a log file over SignStream, line by line in its order.

It reads the file again, as a further stream, until there are enough events and enough of them came after the
rotation: its standard input says "rotated" when that is done. Standard output gets one JSON object per
answered message.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from witness_service.demo.log_file import events, stream_name
from witness_service.event import Event
from witness_service.refusal import Refused
from witness_service.wire.client import WitnessClient

EVENTS_PER_MESSAGE = 256
MESSAGES_IN_FLIGHT = 4
RETRY_SECONDS = 30.0


class Writer:
    """Makes the batches of one run. fewest: events at least. fewest_rotated: of them, after the rotation."""

    def __init__(self, path: Path, name: Path, *, fewest: int, fewest_rotated: int) -> None:
        self._path = path
        self._name = name
        self._fewest = fewest
        self._fewest_rotated = fewest_rotated
        self._rotated = threading.Event()
        self.streams: dict[str, int] = {}

    def listen(self) -> None:
        """Wait for the word that the rotation is done; end the process when whoever would say it is gone."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        if sys.stdin.readline() == "rotated\n":
            self._rotated.set()

    def batches(self) -> Iterator[list[Event]]:
        """Yield the events in batches that may span two streams."""
        waiting = self._events()
        while batch := list(islice(waiting, EVENTS_PER_MESSAGE)):
            yield batch

    def _events(self) -> Iterator[Event]:
        total = after = 0
        for reading in count(1):
            stream = stream_name(self._name, reading)
            for event in events(self._path, stream):
                total += 1
                after += self._rotated.is_set()
                self.streams[stream] = event.sequence + 1
                yield event
            if total >= self._fewest and after >= self._fewest_rotated:
                return


def main() -> int:
    """Sign and report; returns 1 when an event is refused."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("path", type=Path, help="file to read")
    parser.add_argument("name", type=Path, help="file that the stream is named after")
    parser.add_argument("--fewest", type=int, required=True)
    parser.add_argument("--fewest-rotated", type=int, required=True)
    options = parser.parse_args()
    writer = Writer(options.path, options.name, fewest=options.fewest, fewest_rotated=options.fewest_rotated)
    writer.listen()
    signed = 0
    try:
        with WitnessClient(options.address) as client:
            outcomes = client.sign_stream(writer.batches(), window=MESSAGES_IN_FLIGHT, retry_for=RETRY_SECONDS)
            for batch in outcomes:
                for outcome in batch:
                    if isinstance(outcome, Refused):
                        raise outcome
                signed += len(batch)
                print(json.dumps({"signed": signed}), flush=True)
    except Refused as refused:
        print(f"writer: refused after {signed} events: {refused}", file=sys.stderr)
        return 1
    print(json.dumps({"signed": signed, "streams": writer.streams}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
