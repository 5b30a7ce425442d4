"""Signing with keys that never leave a PKCS#11 token: bytes in, bytes out.

The PKCS#11 module lives in signer processes of its own; a process that imports this package never loads it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hsm.errors import Fault as Fault
    from hsm.errors import HsmError as HsmError
    from hsm.key import Algorithm as Algorithm
    from hsm.key import FoundKey as FoundKey
    from hsm.key import GeneratedKey as GeneratedKey
    from hsm.key import KeyRef as KeyRef
    from hsm.key import KeySearch as KeySearch
    from hsm.limits import Limits as Limits
    from hsm.pool import SignerPool as SignerPool
    from hsm.pool_state import PoolState as PoolState
    from hsm.pool_state import PoolStatus as PoolStatus
    from hsm.token import TokenInfo as TokenInfo
    from hsm.token import TokenRef as TokenRef
    from hsm.token_key import TokenKey as TokenKey

_HOME = {
    "Algorithm": "key",
    "Fault": "errors",
    "FoundKey": "key",
    "GeneratedKey": "key",
    "HsmError": "errors",
    "KeyRef": "key",
    "KeySearch": "key",
    "Limits": "limits",
    "PoolState": "pool_state",
    "PoolStatus": "pool_state",
    "SignerPool": "pool",
    "TokenInfo": "token",
    "TokenKey": "token_key",
    "TokenRef": "token",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: a signer process imports this package too, and would pay for asyncio and
    # cryptography, which it does not need, at every start.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"hsm.{_HOME[name]}"), name)
