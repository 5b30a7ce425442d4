"""Many events over one SignStream: several messages in flight, and a broken stream taken up again.

Taking it up again is safe because signing is idempotent: whatever was sent and not answered is sent once
more, and a place that was signed meanwhile answers with its stored attestation.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from time import monotonic
from typing import TypeGuard

from witness_service.event import Attested, Event
from witness_service.refusal import Code, Reason, Refused
from witness_service.v1 import witness_pb2
from witness_service.wire.answers import attested, event_message
from witness_service.wire.backoff import Backoff
from witness_service.wire.refusals import refusal_from_message, refusals

SignOutcome = tuple[Attested, ...] | Refused
"""What became of one event: its attestations, or why it was refused."""

Requests = Iterator[witness_pb2.SignStreamRequest]


class SignFlow:
    """One pass of batches of events through SignStream."""

    def __init__(
        self,
        open_call: Callable[[Requests], Iterator[witness_pb2.SignStreamResponse]],
        address: str,
        *,
        window: int,
        answer_timeout: float,
        retry_for: float,
    ) -> None:
        """Prepare a pass.

        open_call: the stub's SignStream. window: messages in flight. answer_timeout: seconds without an
        answer, while one is due, after which the stream counts as broken. retry_for: seconds without progress
        until giving up.
        """
        self._open_call = open_call
        self._address = address
        self._window = window
        self._answer_timeout = answer_timeout
        self._backoff = Backoff(retry_for)
        self._changed = threading.Condition()
        self._unsent: deque[witness_pb2.SignStreamRequest] = deque()
        self._sent: deque[witness_pb2.SignStreamRequest] = deque()
        self._attempt = 0
        self._drawn = False
        self._closed = False
        self._source_error: Exception | None = None
        self._due_since = monotonic()

    def run(self, batches: Iterable[Sequence[Event]]) -> Generator[list[SignOutcome]]:
        """Send the batches (1 to 512 events each) and yield one list of outcomes per batch, in their order.

        Raises Refused when the stream breaks and stays broken, and whatever iterating the batches raises.
        """
        # A thread draws the batches, because a source such as standard input may block while answers are due.
        threading.Thread(target=self._draw, args=(batches,), daemon=True).start()
        try:
            while not self._finished():
                try:
                    yield from self._pass()
                except Refused as refused:
                    if refused.code is not Code.UNAVAILABLE or not self._backoff.wait():
                        raise
                    self._send_again()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
        if self._source_error is not None:
            raise self._source_error

    def _draw(self, batches: Iterable[Sequence[Event]]) -> None:
        try:
            for batch in batches:
                request = witness_pb2.SignStreamRequest(events=[event_message(event) for event in batch])
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or len(self._unsent) < self._window)
                    if self._closed:
                        return
                    self._unsent.append(request)
                    self._changed.notify_all()
        except Exception as error:
            self._source_error = error
        finally:
            with self._changed:
                self._drawn = True
                self._changed.notify_all()

    def _finished(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._drawn or self._unsent)
            return self._drawn and not self._unsent and not self._sent

    def _pass(self) -> Iterator[list[SignOutcome]]:
        """Run one call until its end; raises Refused, UNAVAILABLE when the unanswered batches may be sent again."""
        with refusals(self._address):
            call = self._open_call(self._requests(self._attempt))
            stop = threading.Event()
            threading.Thread(target=self._watch, args=(call, stop), daemon=True).start()
            try:
                for response in call:
                    yield self._answered([_outcome(result) for result in response.results])
            finally:
                stop.set()
                call.cancel()  # type: ignore[attr-defined]  # the stub promises only the iterator half of the call
        if self._sent:
            raise Refused(Code.UNAVAILABLE, Reason.OUTCOME_UNKNOWN, "expected an answer per message, got an early end")

    def _requests(self, attempt: int) -> Requests:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._may_send() or self._over(attempt))
                if self._over(attempt):
                    return
                request = self._unsent.popleft()
                if not self._sent:
                    self._due_since = monotonic()
                self._sent.append(request)
            yield request

    def _may_send(self) -> bool:
        return bool(self._unsent) and len(self._sent) < self._window

    def _over(self, attempt: int) -> bool:
        return self._closed or attempt != self._attempt or (self._drawn and not self._unsent)

    def _answered(self, outcomes: list[SignOutcome]) -> list[SignOutcome]:
        """Take the oldest batch off what is due, unless one of its events may be tried again."""
        with self._changed:
            if not self._sent or len(outcomes) != len(self._sent[0].events):
                raise Refused(
                    Code.INTERNAL,
                    Reason.INVARIANT_BROKEN,
                    "expected one result per event, got another number of them",
                )
            # The events after it in the stream are refused as a gap, so the whole batch is sent again.
            again = next((one for one in outcomes if _may_be_tried_again(one)), None)
            if again is not None and self._backoff.time_left():
                raise again
            self._sent.popleft()
            self._due_since = monotonic()
            self._backoff.reset()
            self._changed.notify_all()
        return outcomes

    def _send_again(self) -> None:
        with self._changed:
            self._attempt += 1
            self._unsent.extendleft(reversed(self._sent))
            self._sent.clear()
            self._changed.notify_all()

    def _watch(self, call: Iterator[witness_pb2.SignStreamResponse], stop: threading.Event) -> None:
        """Cancel a call that owes an answer for too long: gRPC itself waits for ever on a stream."""
        while not stop.wait(min(1.0, self._answer_timeout / 4)):
            with self._changed:
                late = bool(self._sent) and monotonic() - self._due_since > self._answer_timeout
            if late:
                call.cancel()  # type: ignore[attr-defined]  # as in _pass
                return


def _may_be_tried_again(outcome: SignOutcome) -> TypeGuard[Refused]:
    return isinstance(outcome, Refused) and outcome.code is Code.UNAVAILABLE


def _outcome(result: witness_pb2.SignResult) -> SignOutcome:
    if result.HasField("refusal"):
        return refusal_from_message(result.refusal)
    return tuple(attested(item) for item in result.attestations)
