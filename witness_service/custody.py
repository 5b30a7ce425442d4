"""Which token holds which key, and signing with a key by its registry id.

The registry says which keys there are; the tokens hold their private halves. Custody brings the two together:
a key signs here only after it was found in its token by CKA_ID, compared with the registry's public key and
proved by a self-test signature.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from hsm import Algorithm, Fault, GeneratedKey, HsmError, KeyRef, PoolState, PoolStatus, SignerPool, TokenRef
from key_registry.errors import SignatureError
from key_registry.public_key import PublicKey
from witness_service.refusal import Code, Reason, Refused

log = structlog.get_logger(__name__)

CHUNK = 32
"""Signatures verified per thread call: enough to make the hand-over cheap."""


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key that was found in its token and proved to be the registry's."""

    public_key: PublicKey
    cka_id: bytes
    pool: SignerPool


class Custody:
    """The tokens of this instance and the keys loaded from them."""

    def __init__(self, pools: Mapping[str, SignerPool], *, sign_timeout: float) -> None:
        """Take the open pools by token serial, and the seconds a signature may take."""
        self._pools = dict(pools)
        self._sign_timeout = sign_timeout
        self._held: dict[str, HeldKey] = {}
        self._let_go: set[str] = set()
        self._quarantined: dict[str, str] = {}
        self._loading = asyncio.Lock()

    @classmethod
    async def open(cls, tokens: Iterable[tuple[TokenRef, int]], *, sign_timeout: float) -> Custody:
        """Log in to every token with its number of signer processes; raises HsmError."""
        pools: dict[str, SignerPool] = {}
        try:
            for token, processes in tokens:
                pools[token.serial] = await SignerPool.open(token, processes=processes)
        except BaseException:
            await asyncio.gather(*(pool.close() for pool in pools.values()))
            raise
        return cls(pools, sign_timeout=sign_timeout)

    async def close(self) -> None:
        """Stop every signer process."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    # -- keys ---------------------------------------------------------------------------------------------------

    async def hold(self, public_key: PublicKey, cka_id: bytes, token_serial: str, *, wait: bool = True) -> None:
        """Find a key in its token and prove it; does nothing when it is held already.

        wait: whether to wait for a token that is being started anew. Raises HsmError when the token is unknown, does
        not answer, or lacks the key, or when that is not the registry's.
        """
        async with self._loading:
            if public_key.key_id in self._held and public_key.key_id not in self._let_go:
                return
            pool = self._pools.get(token_serial)
            if pool is None:
                raise HsmError(
                    Fault.CONFIGURATION,
                    f"expected a configured token with serial {token_serial}, which the registry names, got none",
                )
            if not wait and not pool.state().serving:
                raise HsmError(Fault.DEVICE, "expected a token that answers, got one that does not; it is tried again")
            await pool.load(KeyRef(cka_id, Algorithm(public_key.algorithm), public_key.spki))
            self._held[public_key.key_id] = HeldKey(public_key, cka_id, pool)
            self._let_go.discard(public_key.key_id)

    def let_go(self, key_id: str) -> None:
        """Ask a key nothing more, because the leads distrust it; `hold` takes it up again."""
        held = self._held.get(key_id)
        if held is not None and key_id not in self._let_go:
            self._let_go.add(key_id)
            held.pool.forget(held.cka_id)

    async def is_in_token(self, public_key: PublicKey, cka_id: bytes, token_serial: str) -> bool:
        """Say whether a private key is in its token; raises Refused when the token does not answer."""
        pool = self._pools[token_serial]
        try:
            await pool.load(KeyRef(cka_id, Algorithm(public_key.algorithm), public_key.spki))
        except HsmError as error:
            # Something else under the CKA_ID is not the key, but nobody should take it for an empty place either.
            if not error.is_absent:
                raise refusal_of(error) from error
            return False
        finally:
            if public_key.key_id not in self._held or public_key.key_id in self._let_go:
                pool.forget(cka_id)
        return True

    async def generate(self, algorithm: Algorithm, label: str, token_serial: str) -> GeneratedKey:
        """Make a key inside a token; raises HsmError."""
        return await self._pools[token_serial].generate(algorithm, label)

    def token_serials(self) -> list[str]:
        """Return the serials of the configured tokens."""
        return list(self._pools)

    def usable(self, key_id: str) -> bool:
        """Say whether a key is held, not quarantined, and its token answers."""
        held = self._held.get(key_id)
        if held is None or key_id in self._quarantined or key_id in self._let_go:
            return False
        state = held.pool.state()
        return state.serving and held.cka_id.hex() not in state.refused_keys

    def may_come_back(self, key_id: str) -> bool:
        """Say whether a key that is not usable may be so again by itself, because only its token is away."""
        held = self._held.get(key_id)
        if held is None or key_id in self._quarantined or key_id in self._let_go:
            return False
        state = held.pool.state()
        return state.status is not PoolStatus.LATCHED and held.cka_id.hex() not in state.refused_keys

    def quarantine(self, key_id: str, reason: str) -> None:
        """Stop a key of this instance for good: only a restart, with its self-test, brings it back."""
        if key_id not in self._quarantined:
            log.critical("key quarantined", key_id=key_id, reason=reason)
            self._quarantined[key_id] = reason

    def states(self) -> list[tuple[str, str, PoolState]]:
        """Return label, serial and state of every token."""
        return [(pool.token_info.label, serial, pool.state()) for serial, pool in self._pools.items()]

    def refusal(self) -> Refused | None:
        """Return why no token can sign, None while at least one can."""
        states = [pool.state() for pool in self._pools.values()]
        if any(state.serving for state in states):
            return None
        if all(state.status is PoolStatus.LATCHED for state in states):
            return Refused(
                Code.FAILED_PRECONDITION, Reason.HSM_LATCHED, f"the token needs an operator: {states[0].reason}"
            )
        return Refused(Code.UNAVAILABLE, Reason.HSM_UNAVAILABLE, "no token answers; ask again, it is safe")

    # -- signing ------------------------------------------------------------------------------------------------

    async def sign(self, requests: Sequence[tuple[str, bytes]]) -> list[bytes | Refused]:
        """Sign messages in their tokens.

        requests: (key id, message). Returns in the same order the raw signature, NOT verified yet, or why there
        is none; one failure does not touch the others.
        """
        results: list[bytes | Refused] = [b""] * len(requests)
        by_pool: dict[int, tuple[SignerPool, list[int], list[tuple[bytes, bytes]]]] = {}
        for index, (key_id, message) in enumerate(requests):
            held = self._held.get(key_id)
            if held is None or key_id in self._quarantined or key_id in self._let_go:
                results[index] = self._unusable(key_id)
                continue
            _, indices, work = by_pool.setdefault(id(held.pool), (held.pool, [], []))
            indices.append(index)
            work.append((held.cka_id, message))
        await asyncio.gather(*(self._sign_in(pool, indices, work, results) for pool, indices, work in by_pool.values()))
        return results

    async def _sign_in(
        self, pool: SignerPool, indices: list[int], work: list[tuple[bytes, bytes]], results: list[bytes | Refused]
    ) -> None:
        signed = await pool.sign(work, timeout=self._sign_timeout)
        for index, outcome in zip(indices, signed, strict=True):
            results[index] = outcome if isinstance(outcome, bytes) else refusal_of(outcome)

    def _unusable(self, key_id: str) -> Refused:
        reason = self._quarantined.get(key_id)
        if reason is not None:
            return Refused(
                Code.FAILED_PRECONDITION,
                Reason.KEY_QUARANTINED,
                f"key {key_id} is quarantined on this instance: {reason}; an operator must look at its token",
                {"key_id": key_id},
            )
        return Refused(
            Code.FAILED_PRECONDITION,
            Reason.NO_WITNESS_AVAILABLE,
            f"key {key_id} is in no token of this instance; check the configured tokens",
            {"key_id": key_id},
        )

    async def verify(self, requests: Sequence[tuple[str, bytes, bytes]]) -> list[bool]:
        """Check signatures in software against the registry's public keys, on all cores.

        requests: (key id, signature, message). Returns in the same order whether each holds.
        """
        work = [(self._held[key_id].public_key, signature, message) for key_id, signature, message in requests]
        chunks = [work[start : start + CHUNK] for start in range(0, len(work), CHUNK)]
        results = await asyncio.gather(*(asyncio.to_thread(_holds, chunk) for chunk in chunks))
        return [holds for chunk in results for holds in chunk]

    async def sign_verified(self, requests: Sequence[tuple[str, bytes]]) -> list[bytes | Refused]:
        """Sign messages and give out only signatures that hold; a bad one quarantines its key.

        requests: (key id, message). Returns in the same order the raw signature, or why there is none.
        """
        outcomes = await self.sign(requests)
        signed = [
            (index, key_id, outcome, message)
            for index, ((key_id, message), outcome) in enumerate(zip(requests, outcomes, strict=True))
            if isinstance(outcome, bytes)
        ]
        holds = await self.verify([(key_id, signature, message) for _, key_id, signature, message in signed])
        for (index, key_id, _, _), good in zip(signed, holds, strict=True):
            if not good:
                self.quarantine(key_id, "a signature from the token does not verify")
                outcomes[index] = self._unusable(key_id)
        return outcomes

    async def sign_one(self, key_id: str, message: bytes) -> bytes:
        """Return a verified signature over one message, for checkpoints and records; raises Refused."""
        (outcome,) = await self.sign_verified([(key_id, message)])
        if isinstance(outcome, Refused):
            raise outcome
        return outcome


def _holds(chunk: Sequence[tuple[PublicKey, bytes, bytes]]) -> list[bool]:
    results = []
    for public_key, signature, message in chunk:
        try:
            public_key.verify(signature, message)
        except SignatureError:
            results.append(False)
        else:
            results.append(True)
    return results


def refusal_of(error: HsmError) -> Refused:
    """Return what a caller is told of an HSM fault: latched faults need a person, the others are safe to retry."""
    if error.fault in (Fault.PIN, Fault.CONFIGURATION):
        message = f"the token needs an operator: {error}"
        return Refused(Code.FAILED_PRECONDITION, Reason.HSM_LATCHED, message, {"fault": error.fault.name})
    return Refused(
        Code.UNAVAILABLE,
        Reason.HSM_UNAVAILABLE,
        f"the token did not sign: {error}; ask again, it is safe",
        {"fault": error.fault.name},
    )
