"""How the messages of a batch are spread over signer processes."""

from collections.abc import Sequence


def shares(count: int, outstanding: Sequence[int], fill: int) -> list[int]:
    """Return how many of `count` messages each process gets.

    A process that works is filled before another one is woken: waking costs more than a few signatures. When
    all are filled, the load is kept level.

    Args:
        count: messages to spread.
        outstanding: messages each process has and has not answered.
        fill: messages that make a process full, at least 1.

    Returns:
        One number per process; their sum is `count` (for at least one process).
    """
    given = [0] * len(outstanding)
    # Those that work first, the fullest of them before the others; then the idle ones.
    for index in sorted(range(len(outstanding)), key=lambda i: (outstanding[i] == 0, -outstanding[i])):
        given[index] = min(count, max(0, fill - outstanding[index]))
        count -= given[index]
    while count > 0:
        least = min(range(len(outstanding)), key=lambda i: outstanding[i] + given[i])
        block = min(count, fill)
        given[least] += block
        count -= block
    return given
