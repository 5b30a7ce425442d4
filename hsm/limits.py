"""How long a signer process may take, and how work is spread over several."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. A signer process that exceeds one is killed: there is no timeout in PKCS#11."""

    start: float = 20.0
    """For the process to come up, and again to initialise the module and log in."""
    load: float = 10.0
    """To find a key, check it and make the self-test signature."""
    generate: float = 60.0
    """To generate a key pair."""
    hang: float = 3.0
    """Without a sign of life while there is something to sign. One signature must take less."""
    stop: float = 2.0
    """To close the sessions when the pool is closed."""
    back_off_first: float = 0.1
    """Before the second restart in a row; doubles from there. The first restart is immediate."""
    back_off_longest: float = 5.0
    """The longest time between two starts; serving this long makes the next restart immediate again."""
    fill: int = 8
    """Messages given to one process before another one is woken. For a token behind a network, 1."""
