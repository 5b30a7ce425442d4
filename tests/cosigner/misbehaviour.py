"""How a cosigner can be bad or ill, by name; each takes a request and gives the answer it then gets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.cosigner.cosigner import SIZE_TYPE, Answer, Cosigner, Request
from tests.cosigner.note import cosignature, cosigner_vkey

LONGEST_HANG = 60.0
HUGE = 8 * 2**20

Honest = Callable[[], Answer]
Misbehaviour = Callable[[Cosigner, bytes, int, Honest], Answer]


def _signs_wrongly(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    """Right name and key id, signature over another text."""
    honest()
    text = Request.parse(body).checkpoint.text
    return Answer(200, cosignature(cosigner.name, cosigner.key, "not " + text, now).encode())


def _other_key(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    """A good cosignature by a key that nobody knows, under the name of the cosigner."""
    text = Request.parse(body).checkpoint.text
    return Answer(200, cosignature(cosigner.name, Ed25519PrivateKey.generate(), text, now).encode())


def _with_stranger(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    """Its own good line between two by strangers."""
    text = Request.parse(body).checkpoint.text
    lines = [cosignature(name, Ed25519PrivateKey.generate(), text, now) for name in ("stranger.example", cosigner.name)]
    return Answer(200, lines[0].encode() + honest().body + lines[1].encode())


def _twice(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    """Its own line twice."""
    return Answer(200, honest().body * 2)


def _garbage(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    return Answer(200, os.urandom(200))


def _empty(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    return Answer(200)


def _huge(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    return Answer(200, honest().body + b"\n" * HUGE)


def _vkey(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    """Text, but no signature line."""
    return Answer(200, cosigner_vkey(cosigner.name, cosigner.key).encode() + b"\n")


def _bad_size(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    """A conflict whose size has a leading zero."""
    return Answer(409, b"007\n", SIZE_TYPE)


def _endless_conflict(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    """A conflict that names the size it was just sent, so that asking again never helps."""
    return Answer(409, b"%d\n" % Request.parse(body).old_size, SIZE_TYPE)


def _fails(cosigner: Cosigner, body: bytes, now: int, honest: Honest) -> Answer:
    return Answer(500, b"internal error\n")


def hang(file: Path, name: str) -> None:
    """Wait until the file that ordered this misbehaviour says something else, a minute at most."""
    deadline = time.monotonic() + LONGEST_HANG
    while time.monotonic() < deadline and f'"{name}"' in file.read_text():
        time.sleep(0.02)


MISBEHAVIOURS: dict[str, Misbehaviour] = {
    "signs wrongly": _signs_wrongly,
    "other key": _other_key,
    "with stranger": _with_stranger,
    "twice": _twice,
    "garbage": _garbage,
    "empty": _empty,
    "huge": _huge,
    "no signature line": _vkey,
    "bad size": _bad_size,
    "endless conflict": _endless_conflict,
    "fails": _fails,
}
"""Besides these there are "hangs" (no answer), "redirects" and "credulous" (cosigns whatever the log signed)."""
