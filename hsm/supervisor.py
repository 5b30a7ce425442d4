"""Keeps one signer process of a token running: start, log in, load the keys, serve; after a fault, again."""

import asyncio
from contextlib import suppress

from hsm.errors import Fault, HsmError
from hsm.key import KeyRef
from hsm.limits import Limits
from hsm.signer_process import SignerProcess
from hsm.token import TokenInfo, TokenRef


class TokenLife:
    """What the signer processes of one token share: the keys to load, what is refused, who may log in."""

    info: TokenInfo
    """What the token says of itself; set by the first login."""

    def __init__(self, token: TokenRef, limits: Limits) -> None:
        """Take where the token is."""
        self.token = token
        self.limits = limits
        self.keys: dict[bytes, KeyRef] = {}
        """Loaded once, and loaded again into every new process before it takes work."""
        self.refused: dict[bytes, HsmError] = {}
        """Keys among them that may not be used before a person has acted."""
        self.latch: HsmError | None = None
        """The refused PIN; while it is set nobody logs in."""
        # One login at a time: a second process must not offer a PIN that the first has just learnt is wrong.
        self.login_gate = asyncio.Lock()
        self._changed = asyncio.Event()
        self._stopping: set[asyncio.Task[None]] = set()

    def stop(self, process: SignerProcess) -> "asyncio.Task[None]":
        """Begin to stop a process."""
        task = asyncio.create_task(process.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        return task

    async def stopped(self) -> None:
        """Wait until every process that is being stopped has ended."""
        await asyncio.gather(*self._stopping)

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, timeout: float) -> None:
        """Wait for the next change, or `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()


class Supervisor:
    """One place in the pool, filled by one signer process after the other."""

    def __init__(self, life: TokenLife) -> None:
        """Take what is shared; `run` does the work."""
        self._life = life
        self._loop = asyncio.get_running_loop()
        self._process: SignerProcess | None = None
        self.fault: HsmError | None = None
        """Why the last process ended or did not start."""
        self.hopeful = True
        """Whether it is worth waiting for: false once a start has failed, until one succeeds."""

    @property
    def process(self) -> SignerProcess | None:
        """The process that takes work at the moment."""
        # Not one that has ended, from that very moment: `run` wakes up a little later.
        return None if self._process is None or self._process.ended.done() else self._process

    @property
    def why_not(self) -> HsmError:
        """Why there is no such process."""
        starting = HsmError(Fault.CRASH, "the signer process is being started")
        return self._life.latch or self.fault or starting

    async def run(self) -> None:
        """Start processes until the PIN is refused or this task is cancelled."""
        limits = self._life.limits
        failures = 0
        while self._life.latch is None:
            served = await self._one_process()
            if served >= limits.back_off_longest:
                failures = 0
            self.hopeful = served > 0
            self._life.notify()
            if failures:
                await asyncio.sleep(min(limits.back_off_longest, limits.back_off_first * 2 ** (failures - 1)))
            failures += 1

    async def _one_process(self) -> float:
        """Run one process to its end; returns the seconds it served, 0 when it never did."""
        process = None
        since = 0.0
        try:
            process = SignerProcess(self._life.token, self._life.limits, self._note)
            await process.connect()
            await self._log_in(process)
            await self._load_keys(process)
            self._process, self.fault, since = process, None, self._loop.time()
            self.hopeful = True
            self._life.notify()
            # Waited for, not awaited: a cancellation of this task would cancel the future too.
            await asyncio.wait([process.ended])
        except HsmError as error:
            self._note(error)
        except Exception as error:
            # Whatever it is, the place in the pool must not stay empty for it.
            self._note(HsmError(Fault.CRASH, f"a signer process could not be started: {type(error).__name__}"))
        finally:
            self._process = None
            self._life.notify()
            if process is not None:
                # A task of its own: this one may be cancelled while it waits.
                await asyncio.shield(self._life.stop(process))
        return self._loop.time() - since if since else 0.0

    async def _log_in(self, process: SignerProcess) -> None:
        async with self._life.login_gate:
            if self._life.latch is not None:
                raise self._life.latch.again()
            self._life.info = await process.start(self._life.token)

    async def _load_keys(self, process: SignerProcess) -> None:
        """Load what the pool remembers; what cannot be loaded is refused, unless nothing can.

        When no key at all is as it should be, the token is doubted and not the keys: a token that lost its
        login or its storage says "no such key" too.
        """
        failed: dict[bytes, HsmError] = {}
        # Keys may be added to the pool meanwhile, hence again until none is missing.
        while missing := [
            key
            for cka_id, key in self._life.keys.items()
            if cka_id not in self._life.refused and cka_id not in failed and process.loaded.get(cka_id) != key
        ]:
            for key in missing:
                try:
                    await process.load(key)
                except HsmError as error:
                    if error.fault not in (Fault.CONFIGURATION, Fault.WRONG_RESULT):
                        raise
                    failed[key.cka_id] = error.again()
        if failed and not process.loaded:
            raise next(iter(failed.values()))
        self._life.refused.update(failed)

    def _note(self, error: HsmError) -> None:
        self.fault = error.again()
        if error.fault is Fault.PIN and self._life.latch is None:
            self._life.latch = self.fault
