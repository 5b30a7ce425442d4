"""The pool's end of the socket to one signer process: requests, answers in order, an alarm when none come."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

from hsm.errors import ENDS_PROCESS, Fault, HsmError
from hsm.frame import Frame, FrameBuffer, Kind, decode_outcome, encode

Outcome = bytes | HsmError
"""A raw signature, not verified, or why there is none."""

_SECOND_LOOK = 0.05
"""Seconds. A loop that was itself held up finds the alarm due and the answer waiting, in either order."""


@dataclass(slots=True)
class _Request:
    kind: Kind
    future: asyncio.Future[list[Outcome]]
    allowance: float
    expected: int = 1
    """How many outcomes a complete answer has, at least."""
    outcomes: list[Outcome] = field(default_factory=list)
    expiry: asyncio.TimerHandle | None = None


class Connection(asyncio.Protocol):
    """What one signer process was asked and has not answered."""

    def __init__(self, ours: socket.socket, start: float, failed: Callable[[HsmError], None]) -> None:
        """Take this end of the socket pair; `open` comes next.

        Args:
            ours: a stream socket.
            start: seconds until the other side must have said HELLO.
            failed: called once, at the very moment the other side is found dead, hung or useless.
        """
        self._loop = asyncio.get_running_loop()
        self._socket = ours
        self._failed = failed
        self._transport: asyncio.Transport | None = None
        self._buffer = FrameBuffer()
        self._last_id = 0
        self._last_sign_of_life = self._loop.time()
        self._suspect = False
        self._alarm: asyncio.TimerHandle | None = None
        # Answers come in the order of the requests, so the first one is what the process is working on. The
        # first thing it says, unasked, is HELLO.
        self._hello = _Request(Kind.HELLO, self._loop.create_future(), start, expected=0)
        self._requests: dict[int, _Request] = {0: self._hello}
        self._arm()
        self.ended: asyncio.Future[HsmError] = self._loop.create_future()
        """Done when the connection is of no more use, with the reason."""
        self.outstanding = 0
        """Messages sent and not answered yet."""
        self.late = False
        """Whether a caller's time ran out and nothing has been heard since."""

    async def open(self) -> None:
        """Wait for HELLO; raises HsmError when it does not come."""
        await self._loop.create_unix_connection(lambda: self, sock=self._socket)
        await self._hello.future
        if self.ended.done():
            raise self.ended.result().again()

    def close(self, error: HsmError) -> None:
        """End the connection; what was not answered is answered with `error`. Only the first call counts."""
        if self.ended.done():
            return
        self.ended.set_result(error)
        if self._alarm is not None:
            self._alarm.cancel()
        requests, self._requests = self._requests, {}
        self.outstanding = 0
        for request in requests.values():
            self._settle(request, error)
        if self._transport is not None:
            self._transport.abort()
        else:
            self._socket.close()

    # -- requests -----------------------------------------------------------------------------------------

    async def call(self, kind: Kind, fields: Iterable[bytes], allowance: float) -> list[bytes]:
        """Ask anything but SIGN.

        Args:
            kind: of the request.
            fields: of the request.
            allowance: seconds it may take once it is its turn.

        Returns:
            The fields of the answer.

        Raises:
            HsmError: what the signer process reports, or why it does not.
        """
        if self.ended.done():
            raise self.ended.result().again()
        request = _Request(kind, self._loop.create_future(), allowance)
        self._send(request, fields)
        answer = []
        for value in await request.future:
            if isinstance(value, HsmError):
                raise value.again()
            answer.append(value)
        return answer

    def sign(
        self, requests: Iterable[tuple[bytes, bytes]], count: int, deadline: float, allowance: float
    ) -> asyncio.Future[list[Outcome]]:
        """Send a batch and return the future of its outcomes, which never fails and is done by `deadline`.

        Args:
            requests: `count` times CKA_ID and message.
            count: how many.
            deadline: loop time. What is signed until then is in the outcomes; the rest is HANG.
            allowance: seconds without a sign of life after which the process counts as hung.
        """
        future: asyncio.Future[list[Outcome]] = self._loop.create_future()
        request = _Request(Kind.SIGN, future, allowance, count)
        if self.ended.done():
            self._settle(request, self.ended.result())
            return future
        left = max(0.0, deadline - self._loop.time())
        fields = [(time.monotonic_ns() + int(left * 1e9)).to_bytes(8)]
        for pair in requests:
            fields += pair
        self.outstanding += count
        request.expiry = self._loop.call_later(left, self._expire, request, left)
        self._send(request, fields)
        return future

    def _send(self, request: _Request, fields: Iterable[bytes]) -> None:
        if not self._requests:
            self._last_sign_of_life = self._loop.time()
        self._last_id += 1
        self._requests[self._last_id] = request
        self._arm()
        if self._transport is not None:
            self._transport.write(encode(self._last_id, request.kind, fields))

    # -- answers ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio.Protocol)."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take what the process says (asyncio.Protocol)."""
        try:
            for frame in self._buffer.feed(data):
                self._received(frame)
        except (ValueError, KeyError):
            self._fail(HsmError(Fault.CRASH, "the signer process sent bytes that are no frame"))

    def connection_lost(self, error: Exception | None) -> None:
        """Note that the process is gone (asyncio.Protocol)."""
        self._fail(HsmError(Fault.CRASH, "the signer process died"))

    def _received(self, frame: Frame) -> None:
        if self.ended.done():
            return
        self._last_sign_of_life = self._loop.time()
        self._suspect = self.late = False
        request = self._requests[frame.request_id]
        outcomes: list[Outcome] = list(frame.fields)
        if request.kind is Kind.SIGN or frame.kind is Kind.ERROR:
            outcomes = [decode_outcome(value) for value in frame.fields]
        request.outcomes += outcomes
        if request.kind is Kind.SIGN:
            self.outstanding -= len(outcomes)
        if frame.kind is not Kind.PARTIAL:
            del self._requests[frame.request_id]
            self._settle(request, HsmError(Fault.CRASH, "the signer process left something unanswered"))
        self._arm()
        for outcome in outcomes:
            if isinstance(outcome, HsmError) and outcome.fault in ENDS_PROCESS:
                self._fail(outcome)

    def _settle(self, request: _Request, error: HsmError) -> None:
        """Answer with the outcomes that have arrived; `error` stands for those that have not."""
        if request.expiry is not None:
            request.expiry.cancel()
        if not request.future.done():
            missing = max(0, request.expected - len(request.outcomes))
            request.future.set_result([*request.outcomes, *[error] * missing])

    def _expire(self, request: _Request, allowed: float) -> None:
        # No reason to end the process: it may be slow, or the caller in a hurry. The alarm finds out.
        self.late = True
        self._settle(request, HsmError(Fault.HANG, f"expected a signature within {allowed:.3f} s, got none"))

    # -- the alarm ----------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Have the alarm go off no later than when the request being worked on has used up its allowance."""
        request = next(iter(self._requests.values()), None)
        if request is None:
            return
        due = self._last_sign_of_life + request.allowance
        if self._alarm is not None:
            if self._alarm.when() <= due:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._alarm = None
        request = next(iter(self._requests.values()), None)
        if request is None:
            return
        if self._loop.time() < self._last_sign_of_life + request.allowance:
            self._arm()
        elif not self._suspect:
            self._suspect = True
            self._alarm = self._loop.call_later(_SECOND_LOOK, self._look)
        else:
            text = f"the signer process gave no sign of life for {request.allowance:g} s"
            self._fail(HsmError(Fault.HANG, text))

    def _fail(self, error: HsmError) -> None:
        if not self.ended.done():
            self._failed(error)
            self.close(error)
