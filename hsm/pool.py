"""A token that signs: several signer processes behind one object."""

import asyncio
from collections.abc import Mapping, Sequence

from hsm.connection import Outcome
from hsm.errors import Fault, HsmError
from hsm.key import Algorithm, GeneratedKey, KeyRef
from hsm.limits import Limits
from hsm.pool_state import PoolState, PoolStatus
from hsm.shares import shares
from hsm.signer_process import SignerProcess
from hsm.supervisor import Supervisor, TokenLife
from hsm.token import TokenInfo, TokenRef

MAX_MESSAGE = 1 << 20
"""Bytes. Longer messages are refused here; no token takes them."""


class SignerPool:
    """One token, and the signer processes that are logged in to it."""

    token_info: TokenInfo

    def __init__(self, token: TokenRef, processes: int, limits: Limits) -> None:
        """Take where the token is; use `open`."""
        self._life = TokenLife(token, limits)
        self._loop = asyncio.get_running_loop()
        self._supervisors = [Supervisor(self._life) for _ in range(processes)]
        self._tasks = [asyncio.create_task(supervisor.run()) for supervisor in self._supervisors]
        self._checks: dict[bytes, asyncio.Task[None]] = {}

    @classmethod
    async def open(cls, token: TokenRef, *, processes: int, limits: Limits | None = None) -> "SignerPool":
        """Start signer processes and log in to the token.

        Args:
            token: where it is.
            processes: how many, at least 1.
            limits: how long things may take.

        Returns:
            The pool, once every process has started or failed to; those that failed are tried again.

        Raises:
            HsmError: no process could start: PIN, after exactly one login attempt; CONFIGURATION; DEVICE; ...
        """
        if processes < 1:
            raise ValueError(f"expected at least 1 signer process, got {processes}")
        self = cls(token, processes, limits or Limits())
        try:
            while any(s.process is None and s.hopeful and s.fault is None for s in self._supervisors):
                await self._life.change(self._life.limits.start)
            self._serving_now()
        except BaseException:
            await self.close()
            raise
        self.token_info = self._life.info
        return self

    async def close(self) -> None:
        """Stop every signer process, within the limits; kills what does not stop."""
        tasks = [*self._tasks, *self._checks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._life.stopped()
        for supervisor in self._supervisors:
            supervisor.hopeful, supervisor.fault = False, HsmError(Fault.CRASH, "the pool is closed")

    # -- keys ---------------------------------------------------------------------------------------------

    async def generate(self, algorithm: Algorithm, label: str) -> GeneratedKey:
        """Generate a key pair in the token, read its attributes back and refuse it when one is not as asked.

        The key is not loaded. When the process dies meanwhile, a key may stay behind in the token.

        Raises:
            HsmError: any fault class.
        """
        processes = await self._serving(self._loop.time() + self._life.limits.start)
        return await min(processes, key=lambda process: process.outstanding).generate(algorithm, label)

    async def load(self, key: KeyRef) -> Mapping[str, str]:
        """Find a key in every process anew, check it, and verify a self-test signature by it.

        A process that is started later loads it before it takes work. Loading a key again is the way to find
        out whether it still is what it was, and the only way to lift its refusal.

        Returns:
            Its attributes, as of GeneratedKey.

        Raises:
            HsmError: CONFIGURATION when it is absent, doubled, another key, or one with other attributes;
                WRONG_RESULT when the self-test fails; others when the token does not answer. The text of the
                first two names the CKA_ID.
        """
        processes = await self._serving(self._loop.time() + self._life.limits.start)
        done: set[SignerProcess] = set()
        attributes: Mapping[str, str] = {}
        try:
            while todo := [process for process in processes if process not in done]:
                attributes = (await asyncio.gather(*(process.load(key) for process in todo)))[0]
                done.update(todo)
                # One may have come up meanwhile, with the keys the pool knew then.
                processes = self._serving_now()
        except HsmError as error:
            if key.cka_id in self._life.keys and error.fault in (Fault.CONFIGURATION, Fault.WRONG_RESULT):
                self._life.refused[key.cka_id] = error.again()
            raise
        self._life.keys[key.cka_id] = key
        self._life.refused.pop(key.cka_id, None)
        return attributes

    def forget(self, cka_id: bytes) -> None:
        """Load a key into no new process any more, and hold its refusal against the token no longer."""
        self._life.keys.pop(cka_id, None)
        self._life.refused.pop(cka_id, None)

    # -- signing ------------------------------------------------------------------------------------------

    async def sign(self, requests: Sequence[tuple[bytes, bytes]], *, timeout: float) -> list[Outcome]:
        """Sign messages with loaded keys.

        While a process that served is being replaced, and no other serves, this waits for it; when the token
        itself is in trouble it does not wait.

        Args:
            requests: CKA_ID and message, any number of them.
            timeout: seconds, after which whatever is not signed is a HANG.

        Returns:
            In the same order the raw signature, 64 bytes, NOT verified, or why there is none. A message that
            cannot be signed does not touch the others.
        """
        deadline = self._loop.time() + timeout
        outcomes: list[Outcome | None] = [self._unfit(cka_id, message) for cka_id, message in requests]
        todo = [index for index, outcome in enumerate(outcomes) if outcome is None]
        try:
            processes = await self._serving(deadline) if todo else []
        except HsmError as error:
            fault = error.again()
            return [outcome or fault for outcome in outcomes]
        batches: list[tuple[list[int], asyncio.Future[list[Outcome]]]] = []
        start = 0
        processes = [process for process in processes if not process.late] or processes
        counts = shares(len(todo), [process.outstanding for process in processes], self._life.limits.fill)
        for process, count in zip(processes, counts, strict=True):
            if count:
                batch = todo[start : start + count]
                batches.append((batch, process.sign([requests[index] for index in batch], deadline)))
                start += count
        for batch, future in batches:
            for index, outcome in zip(batch, await future, strict=True):
                outcomes[index] = outcome
                if isinstance(outcome, HsmError) and outcome.fault is Fault.CONFIGURATION:
                    self._check_again(requests[index][0])
        return [outcome for outcome in outcomes if outcome is not None]

    async def probe(self, *, timeout: float) -> None:
        """Make and verify a signature in every process: the only proof of health that a token gives.

        Args:
            timeout: seconds.

        Raises:
            HsmError: the first thing that is wrong; CONFIGURATION when no usable key is loaded.
        """
        deadline = self._loop.time() + timeout
        usable = [key for cka_id, key in self._life.keys.items() if cka_id not in self._life.refused]
        if not usable:
            raise HsmError(Fault.CONFIGURATION, "expected a loaded key to make a test signature with, got none")
        for supervisor in self._supervisors:
            if supervisor.process is None:
                raise supervisor.why_not.again()
        try:
            await asyncio.gather(*(process.prove(usable[0], deadline) for process in self._serving_now()))
        except HsmError as error:
            if error.fault in (Fault.CONFIGURATION, Fault.WRONG_RESULT):
                self._check_again(usable[0].cka_id)
            raise

    def state(self) -> PoolState:
        """Return what serves at this moment, and why the rest does not; asks nobody."""
        serving = sum(supervisor.process is not None for supervisor in self._supervisors)
        faults = [str(s.why_not) for s in self._supervisors if s.process is None]
        refused = {cka_id.hex(): str(error) for cka_id, error in self._life.refused.items()}
        if serving:
            status = PoolStatus.DEGRADED if faults or refused else PoolStatus.READY
        else:
            status = PoolStatus.DOWN if self._life.latch is None else PoolStatus.LATCHED
        reason = "; ".join(dict.fromkeys([*faults, *refused.values()]))
        return PoolState(status, reason, len(self._supervisors), serving, refused)

    # -- inside -------------------------------------------------------------------------------------------

    def _unfit(self, cka_id: bytes, message: bytes) -> HsmError | None:
        refused = self._life.refused.get(cka_id)
        if refused is not None:
            return refused
        if cka_id not in self._life.keys:
            return HsmError(Fault.CONFIGURATION, f"CKA_ID {cka_id.hex()}: expected a loaded key; load it first")
        if len(message) > MAX_MESSAGE:
            return HsmError(
                Fault.CONFIGURATION, f"expected a message of at most {MAX_MESSAGE} bytes, got {len(message)}"
            )
        return None

    def _serving_now(self) -> list[SignerProcess]:
        processes = [s.process for s in self._supervisors if s.process is not None]
        if not processes:
            raise self._supervisors[0].why_not.again()
        return processes

    async def _serving(self, deadline: float) -> list[SignerProcess]:
        while not any(supervisor.process for supervisor in self._supervisors):
            left = deadline - self._loop.time()
            if left <= 0 or self._life.latch or not any(s.hopeful for s in self._supervisors):
                break
            await self._life.change(left)
        return self._serving_now()

    def _check_again(self, cka_id: bytes) -> None:
        # The answer may be about this message (too long for the token) or about the key. Loading it again
        # tells, and latches the key only in the second case: a message must not be able to shut a key.
        if cka_id not in self._checks:
            self._checks[cka_id] = asyncio.create_task(self._check(cka_id))

    async def _check(self, cka_id: bytes) -> None:
        try:
            if (key := self._life.keys.get(cka_id)) is not None:
                await self.load(key)
        except HsmError:
            pass  # Noted in the state by `load`, or by the supervisor of the process it ended.
        finally:
            del self._checks[cka_id]
