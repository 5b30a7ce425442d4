"""The history of a registry's keys as a picture: an SVG element that needs no script and no other file."""

from collections.abc import Iterator
from html import escape

from key_registry.key_version import KeyVersion
from key_registry.replay import Registry
from key_registry.report import printable

_LEFT, _WIDTH, _ROW, _TOP = 190, 700, 24, 44


def key_timeline(registry: Registry, size: int) -> Iterator[str]:
    """Iterate over the lines of an SVG element: for each witness its key versions over positions of the statement log.

    Args:
        registry: whose keys are drawn.
        size: how long the statement log is known to be, where the picture ends.
    """
    rows = sum(1 for witness in registry.witnesses) + len(registry.keys)
    height = _TOP + rows * _ROW + 8
    yield (
        f'<svg class="keys" role="img" viewBox="0 0 {_LEFT + _WIDTH + 30} {height}" '
        'aria-label="Key versions of each witness over positions of the statement log">'
    )
    scale = _Scale(size)
    yield from _axis(scale, height)
    y = _TOP
    by_witness: dict[str, list[KeyVersion]] = {witness: [] for witness in registry.witnesses}
    for key in registry.keys.values():
        by_witness[key.witness_id].append(key)
    for witness, keys in by_witness.items():
        yield f'<text class="who" x="0" y="{y + 16}">{escape(witness)}</text>'
        y += _ROW
        for key in keys:
            yield from _row(key, scale, y)
            y += _ROW
    yield "</svg>"


class _Scale:
    """Positions of the statement log as x coordinates."""

    def __init__(self, size: int) -> None:
        self.size = size

    def x(self, position: int) -> float:
        return round(_LEFT + _WIDTH * min(position, self.size) / max(self.size, 1), 1)


def _axis(scale: _Scale, height: int) -> Iterator[str]:
    ends = sorted({0, scale.size // 2, scale.size})
    for position in ends:
        x = scale.x(position)
        anchor = "end" if position == ends[-1] and position else "start" if position == 0 else "middle"
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="26" y2="{height}"/>'
        yield f'<text class="tick" x="{x}" y="18" text-anchor="{anchor}">{position:,}</text>'


def _row(key: KeyVersion, scale: _Scale, y: int) -> Iterator[str]:
    middle = y + _ROW // 2
    yield f"<g><title>{escape(printable(key_words(key)))}</title>"
    yield f'<text class="key" x="12" y="{middle + 4}">{escape(key.key_id[:16])}</text>'
    if key.opened is None:
        kind = "unopened" if key.trusted_size is None else "unopened cut"
        yield f'<circle class="{kind}" cx="{_LEFT}" cy="{middle}" r="5"/>'
    else:
        yield from _bar(key, scale, middle)
    if key.destroyed_at is not None:
        x = scale.x(key.closed or 0) + 10
        yield f'<path class="destroyed" d="M{x} {middle - 5}l10 10m0 -10l-10 10"/>'
    yield "</g>"


def _bar(key: KeyVersion, scale: _Scale, middle: int) -> Iterator[str]:
    assert key.opened is not None
    begin, end = scale.x(key.opened), scale.x(scale.size if key.closed is None else key.closed)
    kind = "open" if key.closed is None else "closed"
    yield f'<rect class="{kind}" x="{begin}" y="{middle - 6}" width="{max(end - begin, 2):.1f}" height="12"/>'
    if key.trusted_size is not None:
        cut = min(max(scale.x(key.trusted_size), begin), end)
        yield f'<rect class="distrusted" x="{cut}" y="{middle - 6}" width="{max(end - cut, 2):.1f}" height="12"/>'
        yield f'<line class="cut" x1="{cut}" x2="{cut}" y1="{middle - 10}" y2="{middle + 10}"/>'
    yield f'<circle class="opening" cx="{begin}" cy="{middle}" r="3"/>'
    if key.closed is not None:
        yield f'<line class="closing" x1="{end}" x2="{end}" y1="{middle - 8}" y2="{middle + 8}"/>'


def key_words(key: KeyVersion) -> str:
    """Return the history of a key in words."""
    words = [f"key {key.key_id}, {key.public_key.algorithm}, added {key.added_at}"]
    if key.opened is None:
        words.append("never opened")
    else:
        words.append(f"opened at {key.opened} on {key.opened_at}")
    if key.closed is not None:
        words.append(f"closed at {key.closed} on {key.closed_at} after {key.count} signatures")
    if key.trusted_size is not None:
        words.append(f"compromised, distrusted from {key.trusted_size} on, declared {key.compromised_at}")
    if key.destroyed_at is not None:
        words.append(f"destroyed {key.destroyed_at}")
    return "; ".join(words)
