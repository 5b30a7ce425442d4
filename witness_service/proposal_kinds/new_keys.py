"""Keys made in the tokens for proposals. What came to nothing is taken for the next, so that asking fills no token."""

from __future__ import annotations

from hsm import Algorithm, GeneratedKey
from key_registry.public_key import PublicKey
from key_registry.replay import Registry
from witness_service.custody import Custody

Place = tuple[Algorithm, str, str]
"""Algorithm, what the key is for, and serial of its token."""


class NewKeys:
    """Makes keys, and remembers the last one of each place until the registry knows it.

    Only for proposals of which one runs at a time: a key that is remembered belongs to none that is unfinished.
    """

    def __init__(self, custody: Custody) -> None:
        self._custody = custody
        self._last: dict[Place, GeneratedKey] = {}

    async def make(
        self, registry: Registry, algorithm: Algorithm, label: str, token_serial: str, *, purpose: str = ""
    ) -> tuple[PublicKey, GeneratedKey]:
        """Return a key that is held and that the registry does not know; raises HsmError, Refused.

        registry: the newest. purpose: keys of different purposes are never taken for one another.
        """
        place = algorithm, f"{label} {purpose}", token_serial
        made = self._last.get(place)
        if made is None or not await self._is_spare(registry, made, token_serial):
            made = self._last[place] = await self._custody.generate(algorithm, label, token_serial)
        public_key = PublicKey.from_spki(made.public_key)
        await self._custody.hold(public_key, made.cka_id, token_serial)
        return public_key, made

    async def _is_spare(self, registry: Registry, made: GeneratedKey, token_serial: str) -> bool:
        public_key = PublicKey.from_spki(made.public_key)
        if registry.role_of(public_key.key_id) is not None:
            return False
        if await self._custody.is_in_token(public_key, made.cka_id, token_serial):
            return True
        self._custody.let_go(public_key.key_id)
        return False
