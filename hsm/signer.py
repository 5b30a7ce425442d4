"""The signer process, `python -m hsm.signer FD`: one thread, one login, one working session at the token.

It is spawned, never forked: a fork after the login could sign with its parent's session. FD is its end of a
socket pair; everything else, the place of the PIN file included, comes as frames over it. It ends when that
socket does.
"""

import ctypes
import faulthandler
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO, TypeVar

from hsm.errors import ENDS_PROCESS, Fault, HsmError, KeyAbsentError, hsm_error
from hsm.found_key import search
from hsm.frame import Frame, Kind, encode, encode_outcome, encode_pairs, read
from hsm.key import SIGNATURE_LENGTH, Algorithm, FoundKey, GeneratedKey, KeyRef, KeySearch
from hsm.private_key import Sign, find, generate, is_visible
from hsm.session import TokenSessions
from hsm.token import TokenInfo, TokenRef

PIN_EXIT = 77
"""Exit status after a refused PIN (EX_NOPERM): whoever started this process must not start it again."""

FORKED_EXIT = 70

_FLUSH_NS = 100_000_000
"""Outcomes are reported at least this often, so that a slow token is not taken for a hung one."""

Result = TypeVar("Result")


class Signer:
    """The keys of one token, in one process."""

    def __init__(self, sessions: TokenSessions) -> None:
        """Take the sessions; `start` opens them."""
        self._sessions = sessions
        self._keys: dict[bytes, Callable[[], Sign]] = {}
        self._signs: dict[bytes, Sign] = {}

    def start(self) -> TokenInfo:
        """Initialise the module and log in; raises HsmError."""
        return self._sessions.open()

    def load(self, ref: KeyRef) -> Mapping[str, str]:
        """Find a key anew, check it, keep how to sign with it; returns its attributes, raises HsmError."""
        sign, attributes = self._mending(lambda: find(self._sessions.working, ref), f"load CKA_ID {ref.cka_id.hex()}")
        self._keys[ref.cka_id] = lambda: find(self._sessions.working, ref)[0]
        self._signs[ref.cka_id] = sign
        return attributes

    def find(self, wanted: KeySearch) -> FoundKey:
        """Find a key that was made elsewhere, keep how to sign with it; raises HsmError."""
        sign, found = self._mending(lambda: search(self._sessions.working, wanted), f"find {wanted}")
        self._keys[found.cka_id] = lambda: search(self._sessions.working, wanted)[0]
        self._signs[found.cka_id] = sign
        return found

    def generate(self, algorithm: Algorithm, label: str) -> GeneratedKey:
        """Generate a key pair in the token; raises HsmError."""
        try:
            with self._sessions.read_write() as session:
                return generate(session, algorithm, label)
        except Exception as error:
            raise hsm_error(error, f"generate an {algorithm} key") from None

    def sign(self, cka_id: bytes, message: bytes) -> bytes:
        """Return the raw signature of a loaded key, 64 bytes.

        The signature is not verified here. What a new session or a new login can cure is tried once more.

        Raises:
            HsmError: any fault class but HANG and CRASH.
        """
        doing = f"sign with CKA_ID {cka_id.hex()}"
        signature = self._mending(lambda: self._signing(cka_id)(message), doing)
        if len(signature) != SIGNATURE_LENGTH:
            raise HsmError(Fault.WRONG_RESULT, f"{doing}: expected {SIGNATURE_LENGTH} bytes, got {len(signature)}")
        return signature

    def close(self) -> None:
        """Close the sessions and finalise the module."""
        self._sessions.close()

    def _signing(self, cka_id: bytes) -> Sign:
        # A search costs milliseconds on a token with many keys, a signature with a known handle 0.2.
        sign = self._signs.get(cka_id)
        if sign is None:
            find_again = self._keys.get(cka_id)
            if find_again is None:
                raise HsmError(Fault.CONFIGURATION, f"CKA_ID {cka_id.hex()}: expected a loaded key; load it first")
            sign = self._signs[cka_id] = find_again()
        return sign

    def _mending(self, operation: Callable[[], Result], doing: str) -> Result:
        """Do something at the token; after what a new session or login may cure, try again, once for each."""
        new_session = new_login = False
        while True:
            try:
                return operation()
            except Exception as error:
                self._discard()
                fault = hsm_error(error, doing)
                # A token that has forgotten the login says "no such key" more often than "not logged in".
                if (fault.fault is Fault.LOGIN or isinstance(error, KeyAbsentError)) and not new_login:
                    new_login = True
                    self._sessions.log_in_again()
                elif fault.fault is Fault.SESSION and not new_session:
                    new_session = True
                elif isinstance(error, KeyAbsentError) and self._keys and not self._sees_any_key():
                    # Only while another key can be seen is it this one that is gone.
                    raise HsmError(Fault.DEVICE, f"{doing}: no loaded key is visible in the token") from None
                else:
                    raise fault from None

    def _discard(self) -> None:
        self._sessions.discard_working()
        self._signs.clear()

    def _sees_any_key(self) -> bool:
        try:
            return any(is_visible(self._sessions.working, cka_id) for cka_id in self._keys)
        except Exception:
            self._discard()
            return False


class Service:
    """Answers the frames of the pool until it closes the socket."""

    def __init__(self, connection: socket.socket) -> None:
        """Take this side of the socket pair."""
        self._connection = connection
        self._signer: Signer | None = None
        self._latched = False

    def run(self) -> int:
        """Serve; returns the exit status."""
        self._send(0, Kind.HELLO)
        stream: BinaryIO = self._connection.makefile("rb")
        while (frame := read(stream)) is not None:
            try:
                fields = self._answer(frame)
            except HsmError as error:
                self._latched |= error.fault is Fault.PIN
                self._send(frame.request_id, Kind.ERROR, [encode_outcome(error)])
            else:
                self._send(frame.request_id, Kind.RESULT, fields)
            if self._latched:
                break
        if self._signer is not None:
            self._signer.close()
        return PIN_EXIT if self._latched else 0

    def _send(self, request_id: int, kind: Kind, fields: list[bytes] | None = None) -> None:
        self._connection.sendall(encode(request_id, kind, fields or []))

    def _answer(self, frame: Frame) -> list[bytes]:
        if frame.kind is Kind.START:
            self._signer = Signer(TokenSessions(TokenRef.from_fields(frame.fields)))
            info = self._signer.start()
            return [text.encode() for text in (info.label, info.serial, info.manufacturer, info.model)]
        if self._signer is None:
            raise HsmError(Fault.CONFIGURATION, f"expected START as the first request, got {frame.kind.name}")
        if frame.kind is Kind.SIGN:
            return self._sign(self._signer, frame)
        if frame.kind is Kind.LOAD:
            cka_id, algorithm, public_key = frame.fields
            ref = KeyRef(cka_id, Algorithm(algorithm.decode()), public_key)
            return encode_pairs(self._signer.load(ref).items())
        if frame.kind is Kind.FIND:
            found = self._signer.find(KeySearch(frame.fields[0], frame.fields[1].decode()))
            return [found.cka_id, found.algorithm.encode(), found.public_key, *encode_pairs(found.attributes.items())]
        if frame.kind is Kind.GENERATE:
            key = self._signer.generate(Algorithm(frame.fields[0].decode()), frame.fields[1].decode())
            return [key.cka_id, key.public_key, *encode_pairs(key.attributes.items())]
        raise HsmError(Fault.CONFIGURATION, f"expected a request, got {frame.kind.name}")

    def _sign(self, signer: Signer, frame: Frame) -> list[bytes]:
        deadline, *rest = frame.fields
        deadline_ns = int.from_bytes(deadline)
        stopped: HsmError | None = None
        outcomes: list[bytes] = []
        flushed_ns = time.monotonic_ns()
        for cka_id, message in zip(rest[::2], rest[1::2], strict=True):
            now_ns = time.monotonic_ns()
            if now_ns - flushed_ns > _FLUSH_NS:
                self._send(frame.request_id, Kind.PARTIAL, outcomes)
                outcomes, flushed_ns = [], now_ns
            if stopped is None and now_ns > deadline_ns:
                stopped = HsmError(Fault.HANG, "the time ran out before this message was signed")
            if stopped is None:
                try:
                    outcomes.append(encode_outcome(signer.sign(cka_id, message)))
                    continue
                except HsmError as error:
                    outcomes.append(encode_outcome(error))
                    if error.fault in ENDS_PROCESS:
                        stopped = error
                        self._latched |= error.fault is Fault.PIN
            else:
                outcomes.append(encode_outcome(stopped))
        return outcomes


def harden() -> None:
    """Leave nothing of this process to others: no core file, tracing or fork, no life after the parent."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        pr_set_pdeathsig, pr_set_dumpable = 1, 4
        prctl(pr_set_dumpable, 0, 0, 0, 0)
        # The end of the socket is noticed only between two calls into the module; this also ends a hung one.
        prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    # Ctrl-C and a stop of the whole service are for the parent, which closes the socket when it has drained.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    os.register_at_fork(after_in_child=lambda: os._exit(FORKED_EXIT))
    # python-pkcs11 ends a search in a destructor, which complains when the session is gone, to no purpose.
    sys.unraisablehook = lambda _: None


def main() -> None:
    """Serve the socket whose number is the only argument, and exit."""
    harden()
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        status = Service(connection).run()
    except OSError:
        # The pool closed its end in the middle of an answer.
        status = 0
    # Without the interpreter's own end: it would call into the module once more, in any order.
    os._exit(status)


if __name__ == "__main__":
    main()
