"""What can go wrong at a token: fault classes, and the one table that maps PKCS#11 return codes to them."""

import enum
import re
from collections.abc import Mapping
from types import MappingProxyType


class Fault(enum.Enum):
    """What a failure means for the key, the signer process and the token."""

    SESSION = 1
    """The session is unusable; a new one was tried and failed too."""
    LOGIN = 2
    """The token had forgotten the login; a new login did not help."""
    DEVICE = 3
    """The token or its module does not work at the moment; it may come back by itself."""
    CONFIGURATION = 4
    """Key, token or module are not as configured: a person must act."""
    PIN = 5
    """The PIN was refused or is about to lock: nobody logs in again before a person has acted."""
    WRONG_RESULT = 6
    """A signature is not one by this key over this message."""
    HANG = 7
    """No answer within the limit."""
    CRASH = 8
    """The signer process died."""


_ABSENT = "expected one private key, got none"


class HsmError(Exception):
    """A token operation failed; the text is safe to show: no PIN, no message, no key material."""

    def __init__(self, fault: Fault, message: str) -> None:
        """Take the class of the failure, and what happened and what to do."""
        super().__init__(message)
        self.fault = fault

    def again(self) -> "HsmError":
        """Return a copy to raise: one that is kept collects a traceback, and its frames, at every raise."""
        return HsmError(self.fault, str(self))

    @property
    def is_absent(self) -> bool:
        """Whether it says that there is no such private key, also after it has come from a signer process as text."""
        return self.fault is Fault.CONFIGURATION and str(self).endswith(_ABSENT)


class KeyAbsentError(HsmError):
    """No such private key is visible; after a silent logout that does not mean it is gone."""

    def __init__(self, searched: str) -> None:
        """Take what was searched for, for example "CKA_ID 00ff"."""
        super().__init__(Fault.CONFIGURATION, f"{searched}: {_ABSENT}")


ENDS_PROCESS = frozenset({Fault.SESSION, Fault.LOGIN, Fault.DEVICE, Fault.PIN})
"""Faults after which the signer process is of no more use (the first two: when trying again did not help)."""

FAULTS: Mapping[str, Fault] = MappingProxyType(
    dict.fromkeys(
        [
            "OperationActive",
            "OperationNotInitialized",
            "SessionClosed",
            "SessionCount",
            "SessionHandleInvalid",
        ],
        Fault.SESSION,
    )
    # After a logout by somebody else a handle is "invalid" as often as the user is "not logged in".
    | dict.fromkeys(["KeyHandleInvalid", "ObjectHandleInvalid", "UserNotLoggedIn"], Fault.LOGIN)
    | dict.fromkeys(
        [
            "DeviceError",
            "DeviceMemory",
            "DeviceRemoved",
            "FunctionCancelled",
            "FunctionFailed",
            "GeneralError",
            "HostMemory",
            "NoEvent",
            "NoSuchToken",
            "RandomNoRNG",
            "SlotIDInvalid",
            "TokenNotPresent",
            "TokenNotRecognised",
        ],
        Fault.DEVICE,
    )
    | dict.fromkeys(
        ["PinExpired", "PinIncorrect", "PinInvalid", "PinLenRange", "PinLocked", "PinTooWeak"],
        Fault.PIN,
    )
    | dict.fromkeys(
        [
            "AnotherUserAlreadyLoggedIn",
            "ArgumentsBad",
            "AttributeReadOnly",
            "AttributeSensitive",
            "AttributeTypeInvalid",
            "AttributeValueInvalid",
            "DataInvalid",
            "DataLenRange",
            "DomainParamsInvalid",
            "EncryptedDataInvalid",
            "EncryptedDataLenRange",
            "ExceededMaxIterations",
            "FunctionNotSupported",
            "FunctionRejected",
            "KeyIndigestible",
            "KeyNeeded",
            "KeyNotNeeded",
            "KeyNotWrappable",
            "KeySizeRange",
            "KeyTypeInconsistent",
            "KeyUnextractable",
            "MechanismInvalid",
            "MechanismParamInvalid",
            "MultipleObjectsReturned",
            "MultipleTokensReturned",
            "NoSuchKey",
            "PublicKeyInvalid",
            "RandomSeedNotSupported",
            "SessionExists",
            "SessionReadOnly",
            "SessionReadOnlyExists",
            "SessionReadWriteSOExists",
            "SignatureInvalid",
            "SignatureLenRange",
            "TemplateIncomplete",
            "TemplateInconsistent",
            "TokenWriteProtected",
            "UnwrappingKeyHandleInvalid",
            "UnwrappingKeySizeRange",
            "UnwrappingKeyTypeInconsistent",
            "UserAlreadyLoggedIn",
            "UserPinNotInitialized",
            "UserTooManyTypes",
            "WrappedKeyInvalid",
            "WrappedKeyLenRange",
            "WrappingKeyHandleInvalid",
            "WrappingKeySizeRange",
            "WrappingKeyTypeInconsistent",
        ],
        Fault.CONFIGURATION,
    )
)
"""Fault class by the name of the python-pkcs11 exception; any other exception is a device fault."""

UNMAPPED: Mapping[int, Fault] = MappingProxyType(
    {
        0x1B: Fault.CONFIGURATION,  # CKR_ACTION_PROHIBITED
        0x68: Fault.CONFIGURATION,  # CKR_KEY_FUNCTION_NOT_PERMITTED
        0x140: Fault.CONFIGURATION,  # CKR_CURVE_NOT_SUPPORTED
    }
)
"""Codes that python-pkcs11 has no exception for; the others, vendor codes among them, are device faults."""

_UNMAPPED_TEXT = re.compile(r"Unmapped error code (0x[0-9a-f]+)")


def unmapped_code(error: Exception) -> int | None:
    """Return the return code of a bare PKCS11Error, or None when the exception has a name of its own.

    CKR_CRYPTOKI_NOT_INITIALIZED and vendor codes (0x8...) arrive as a bare PKCS11Error.
    """
    match = _UNMAPPED_TEXT.search(str(error)) if type(error).__name__ == "PKCS11Error" else None
    return int(match[1], 16) if match else None


def classify(error: Exception) -> Fault:
    """Return the fault class of what a PKCS#11 call raised, a Python error in it included."""
    if isinstance(error, HsmError):
        return error.fault
    code = unmapped_code(error)
    if code is not None:
        return UNMAPPED.get(code, Fault.DEVICE)
    return FAULTS.get(type(error).__name__, Fault.DEVICE)


def hsm_error(error: Exception, doing: str) -> HsmError:
    """Return the error to report for what a PKCS#11 call raised.

    Args:
        error: what was raised. Of a foreign exception only the name or the return code is kept: its text may
            hold a template or an argument.
        doing: what was being done, for example "sign with CKA_ID 00ff".
    """
    if isinstance(error, HsmError):
        return error
    code = unmapped_code(error)
    name = type(error).__name__ if code is None else f"return code {code:#x}"
    return HsmError(classify(error), f"{doing}: the module answered {name}")
