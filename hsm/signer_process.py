"""One signer process as its pool sees it: spawned, asked, killed when it does not answer."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from hsm import self_test
from hsm.connection import Connection, Outcome
from hsm.errors import Fault, HsmError
from hsm.frame import Kind, decode_pairs
from hsm.key import Algorithm, FoundKey, GeneratedKey, KeyRef, KeySearch
from hsm.limits import Limits
from hsm.token import TokenInfo, TokenRef

_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TMPDIR", "TZ")


class SignerProcess:
    """One life of one signer process: from spawn to its end, whatever ends it."""

    def __init__(self, token: TokenRef, limits: Limits, failed: Callable[[HsmError], None]) -> None:
        """Spawn the process; `connect` comes next, and `stop` last whatever happens.

        Args:
            token: where it will log in.
            limits: how long it may take.
            failed: called at the very moment it is found dead, hung or useless, unless it is being stopped.

        Raises:
            OSError: the system has no place for another process.
        """
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._failed = failed
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _spawn(theirs, token)
            except BaseException:
                ours.close()
                raise
        self._connection = Connection(ours, limits.start, self._found_failed)
        self.loaded: dict[bytes, KeyRef] = {}
        """The keys it can sign with, by CKA_ID."""

    @property
    def ended(self) -> asyncio.Future[HsmError]:
        """Done when the process is of no more use, with the reason."""
        return self._connection.ended

    @property
    def outstanding(self) -> int:
        """How many messages it was sent and has not answered."""
        return self._connection.outstanding

    @property
    def late(self) -> bool:
        """Whether it let a caller's time run out and has said nothing since."""
        return self._connection.late

    async def connect(self) -> None:
        """Wait until the process can be told about its token; raises HsmError when it does not come up."""
        await self._connection.open()

    async def start(self, token: TokenRef) -> TokenInfo:
        """Initialise the module and log in; raises HsmError."""
        answer = await self._connection.call(Kind.START, token.fields(), self._limits.start)
        label, serial, manufacturer, model = (value.decode() for value in answer)
        return TokenInfo(label, serial, manufacturer, model)

    async def load(self, key: KeyRef) -> Mapping[str, str]:
        """Find a key anew, have it checked, and verify a self-test signature by it.

        Returns:
            The attributes that were read back.

        Raises:
            HsmError: WRONG_RESULT when the self-test fails, and what the signer process reports.
        """
        fields = [key.cka_id, key.algorithm.encode(), key.public_key]
        attributes = await self._connection.call(Kind.LOAD, fields, self._limits.load)
        await self.prove(key, self._loop.time() + self._limits.load)
        self.loaded[key.cka_id] = key
        return decode_pairs(attributes)

    async def find(self, wanted: KeySearch) -> FoundKey:
        """Find a key that was made elsewhere; it can sign from here on, and is not proved yet.

        Raises:
            HsmError: CONFIGURATION when not exactly one key fits or it is none to sign with.
        """
        fields = [wanted.cka_id, wanted.label.encode()]
        answer = await self._connection.call(Kind.FIND, fields, self._limits.load)
        cka_id, algorithm, public_key, *attributes = answer
        return FoundKey(cka_id, Algorithm(algorithm.decode()), public_key, decode_pairs(attributes))

    async def prove(self, key: KeyRef, deadline: float) -> None:
        """Make one signature and verify it, until `deadline` (loop time); raises HsmError."""
        message = self_test.message()
        (outcome,) = await self.sign([(key.cka_id, message)], deadline)
        if isinstance(outcome, HsmError):
            raise outcome.again()
        self_test.verify(key, message, outcome)

    async def generate(self, algorithm: Algorithm, label: str) -> GeneratedKey:
        """Generate a key pair in the token; raises HsmError."""
        fields = [algorithm.encode(), label.encode()]
        answer = await self._connection.call(Kind.GENERATE, fields, self._limits.generate)
        cka_id, public_key, *attributes = answer
        return GeneratedKey(cka_id, algorithm, public_key, decode_pairs(attributes))

    def sign(self, requests: Sequence[tuple[bytes, bytes]], deadline: float) -> asyncio.Future[list[Outcome]]:
        """Send a batch and return the future of its outcomes, which never fails and is done by `deadline`.

        Args:
            requests: CKA_ID of a loaded key, and message.
            deadline: loop time. What is signed until then is in the outcomes; the rest is HANG.
        """
        return self._connection.sign(requests, len(requests), deadline, self._limits.hang)

    async def stop(self) -> None:
        """Let the process close its sessions and end; kill it when it does not within its limit."""
        self._connection.close(HsmError(Fault.CRASH, "the pool is closed"))
        if not await self._exited():
            self._process.kill()
            # One in an uninterruptible call into a driver outlives even this; it is left to the kernel.
            await self._exited()

    def _found_failed(self, error: HsmError) -> None:
        # After a refused PIN it ends by itself, with a status of its own.
        if error.fault is not Fault.PIN:
            self._process.kill()
        self._failed(error)

    async def _exited(self) -> bool:
        # Polled, not awaited in a thread: a thread per process would be there for its whole life.
        until, pause = self._loop.time() + self._limits.stop, 0.001
        while self._process.poll() is None:
            if self._loop.time() > until:
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.02)
        return True


def _spawn(theirs: socket.socket, token: TokenRef) -> "subprocess.Popen[bytes]":
    # Nothing else of our environment: it may hold a DSN. With our search path it imports what we would.
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "hsm.signer", str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=inherited | {"PYTHONPATH": path} | dict(token.environment),
        # Not in the terminal's foreground group: a Ctrl-C while it comes up would end it.
        start_new_session=True,
    )
