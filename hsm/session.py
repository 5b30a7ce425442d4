"""The PKCS#11 sessions of one signer process: one that keeps the login, one that works.

Only a signer process imports this module. It has one thread: python-pkcs11 initialises the module without
locks and lets go of the interpreter lock in every call, so that a second thread would crash it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pkcs11
from pkcs11 import Session, Token, TokenFlag

# The extension module, imported early so that the time it takes is not spent while holding the login lock.
from pkcs11 import _pkcs11 as _pkcs11

from hsm.errors import Fault, HsmError, classify, hsm_error
from hsm.token import TokenInfo, TokenRef

_PIN_WARNINGS = (TokenFlag.USER_PIN_LOCKED, TokenFlag.USER_PIN_FINAL_TRY, TokenFlag.USER_PIN_COUNT_LOW)


class TokenSessions:
    """Everything a signer process has open at its token."""

    def __init__(self, ref: TokenRef) -> None:
        """Take where the token is; opens nothing yet."""
        self._ref = ref
        self._token: Token | None = None
        self._login: Session | None = None
        self._working: Session | None = None

    def open(self) -> TokenInfo:
        """Initialise the module, find the token and log in, once for the life of the process.

        Raises:
            HsmError: PIN when the PIN is refused or a PIN flag is set, which is looked at first;
                CONFIGURATION for another serial, no module, no readable PIN file; DEVICE when the token is
                not there.
        """
        # SoftHSM's C_Login rewrites a file of the token: without the lock, processes that start together fail
        # to find the token or to log in.
        with _pin_lock(self._ref.pin_file) as pin_descriptor:
            self._token = _find_token(self._ref)
            self._login = self._logged_in(self._token, pin_descriptor)
        return _info(self._token)

    def log_in_again(self) -> None:
        """Make sure that the token knows our login, after something looked as if it had forgotten it.

        Raises:
            HsmError: as `open`.
        """
        with _pin_lock(self._ref.pin_file) as pin_descriptor:
            try:
                self._login = self._logged_in(self._present_token(), pin_descriptor)
            except pkcs11.UserAlreadyLoggedIn:
                # The login is still there, and the PIN was not even looked at. The session opened for this
                # attempt leaks (python-pkcs11 loses its handle); the process is replaced if that piles up.
                return

    @property
    def working(self) -> Session:
        """The session to work in; opened without a PIN: closing one opened with the PIN would log out."""
        if self._working is None:
            self._working = self._present_token().open()
        return self._working

    def discard_working(self) -> None:
        """Throw the working session away.

        Any exception between C_SignInit and C_Sign, a Python one included, leaves an operation active in it
        for ever; so after an exception it is never used again.
        """
        session, self._working = self._working, None
        if session is not None:
            with suppress(pkcs11.PKCS11Error):
                session.close()

    @contextmanager
    def read_write(self) -> Iterator[Session]:
        """Open a session that may create and destroy objects."""
        session = self._present_token().open(rw=True)
        try:
            yield session
        finally:
            with suppress(pkcs11.PKCS11Error):
                session.close()

    def close(self) -> None:
        """Close the sessions, log out and finalise the module; errors do not matter any more."""
        self.discard_working()
        login, self._login = self._login, None
        if login is not None:
            with suppress(pkcs11.PKCS11Error):
                login.close()
            with suppress(pkcs11.PKCS11Error):
                pkcs11.lib(self._ref.module).finalize()

    def _present_token(self) -> Token:
        if self._token is None:
            raise HsmError(Fault.DEVICE, "expected an open token, got none: the start failed")
        return self._token

    def _logged_in(self, token: Token, pin_descriptor: int) -> Session:
        _refuse_pin_flags(token, attended=self._ref.attended)
        pin = _read_pin(pin_descriptor, self._ref.pin_file)
        try:
            return token.open(user_pin=pin)
        except pkcs11.PKCS11Error as error:
            if classify(error) is not Fault.PIN:
                raise
            what = "the PIN" if self._ref.attended else self._ref.pin_file
            raise HsmError(
                Fault.PIN,
                f"the token refused the PIN ({type(error).__name__}) and no other login is tried; correct "
                f"{what}, look at the tries that are left, then start again",
            ) from None


@contextmanager
def _pin_lock(path: str) -> Iterator[int]:
    # The PIN file itself is the lock: every process of this token has it, also where its folder is read-only
    # (a systemd credential). The kernel lets go of it when the holder dies.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HsmError(Fault.CONFIGURATION, f"expected a readable PIN file at {path}, got: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    except pkcs11.PKCS11Error as error:
        raise hsm_error(error, "initialise the module and log in") from None
    finally:
        os.close(descriptor)


def _read_pin(descriptor: int, path: str) -> str:
    if os.fstat(descriptor).st_mode & 0o007:
        raise HsmError(Fault.CONFIGURATION, f"expected {path} to be closed to other users; set its mode to 0600")
    raw = os.pread(descriptor, 4096, 0)
    try:
        pin = raw.decode().removesuffix("\n")
    except UnicodeDecodeError:
        pin = ""
    if not pin:
        raise HsmError(Fault.CONFIGURATION, f"expected a PIN in UTF-8 in {path}, got something else")
    return pin


def _find_token(ref: TokenRef) -> Token:
    if not os.path.isfile(ref.module):
        raise HsmError(Fault.CONFIGURATION, f"expected a PKCS#11 module at {ref.module}, got no file")
    tokens = []
    for slot in pkcs11.lib(ref.module).get_slots(token_present=True):
        with suppress(pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
            tokens.append(slot.get_token())
    labelled = [token for token in tokens if ref.label in ("", token.label)]
    matching = [token for token in labelled if _fits(token, ref)]
    if len(matching) == 1:
        return matching[0]
    if not labelled:
        raise HsmError(Fault.DEVICE, f"expected a token labelled {ref.label!r}, got {len(tokens)} other tokens")
    found = ", ".join(_info(token).serial for token in labelled)
    raise HsmError(
        Fault.CONFIGURATION,
        f"expected one token labelled {ref.label!r} with serial {ref.serial or '(any)'}, got serials {found}",
    )


def _fits(token: Token, ref: TokenRef) -> bool:
    info = _info(token)
    return (
        ref.serial in ("", info.serial)
        and ref.manufacturer in ("", info.manufacturer)
        and ref.model in ("", info.model)
        and ref.slot_id in (None, token.slot.slot_id)
    )


def _refuse_pin_flags(token: Token, *, attended: bool) -> None:
    # Read again from the token: a real one locks after a few wrong PINs, and whoever typed the last one needs
    # the tries that are left.
    flags = token.slot.get_token().flags
    for warning in _PIN_WARNINGS:
        if attended and warning is TokenFlag.USER_PIN_COUNT_LOW:
            continue
        if flags & warning:
            raise HsmError(
                Fault.PIN,
                f"the token has set CKF_{warning.name}, so no login was tried; log in to it once by hand "
                "with the right PIN (or have it reset), then start again",
            )
    if not flags & TokenFlag.USER_PIN_INITIALIZED:
        raise HsmError(Fault.CONFIGURATION, "expected a token with a user PIN, got one that has none yet")


def _info(token: Token) -> TokenInfo:
    return TokenInfo(
        label=token.label,
        serial=token.serial.decode("ascii", "replace"),
        manufacturer=token.manufacturer_id,
        model=token.model,
    )
