"""The table that maps what PKCS#11 answers to fault classes."""

import inspect

import pkcs11.exceptions
import pytest

from hsm import Fault, HsmError
from hsm.errors import FAULTS, classify, hsm_error

EXCEPTIONS = {
    name
    for name, value in inspect.getmembers(pkcs11.exceptions, inspect.isclass)
    if issubclass(value, pkcs11.PKCS11Error) and value is not pkcs11.PKCS11Error
}


def test_every_exception_of_python_pkcs11_has_a_class_and_nothing_else_has() -> None:
    """A new return code in the library, or a misspelt one in the table, is noticed here."""
    assert set(FAULTS) == EXCEPTIONS


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("SessionHandleInvalid", Fault.SESSION),
        ("SessionClosed", Fault.SESSION),
        ("OperationActive", Fault.SESSION),
        ("UserNotLoggedIn", Fault.LOGIN),
        ("ObjectHandleInvalid", Fault.LOGIN),
        ("KeyHandleInvalid", Fault.LOGIN),
        ("DeviceRemoved", Fault.DEVICE),
        ("DeviceError", Fault.DEVICE),
        ("DeviceMemory", Fault.DEVICE),
        ("TokenNotPresent", Fault.DEVICE),
        ("FunctionFailed", Fault.DEVICE),
        ("GeneralError", Fault.DEVICE),
        ("HostMemory", Fault.DEVICE),
        ("FunctionNotSupported", Fault.CONFIGURATION),
        ("MechanismInvalid", Fault.CONFIGURATION),
        ("KeyTypeInconsistent", Fault.CONFIGURATION),
        ("NoSuchKey", Fault.CONFIGURATION),
        ("MultipleObjectsReturned", Fault.CONFIGURATION),
        ("PinIncorrect", Fault.PIN),
        ("PinLocked", Fault.PIN),
        ("PinExpired", Fault.PIN),
    ],
)
def test_the_classes_that_decide_what_is_done(name: str, fault: Fault) -> None:
    """A retry, a new process, a latch: each code leads to the one it must."""
    assert classify(getattr(pkcs11, name)()) is fault


@pytest.mark.parametrize("code", ["0x80000001", "0xffffffff", "0x190"])
def test_vendor_codes_and_codes_without_a_name_are_device_faults(code: str) -> None:
    """What nobody has heard of makes a new process, and the code is shown."""
    error = hsm_error(pkcs11.PKCS11Error(f"Unmapped error code {code}"), "sign")
    assert error.fault is Fault.DEVICE
    assert str(error) == f"sign: the module answered return code {code}"


def test_a_library_that_is_not_initialised_is_a_device_fault() -> None:
    """CKR_CRYPTOKI_NOT_INITIALIZED arrives as a bare PKCS11Error with a text."""
    assert classify(pkcs11.PKCS11Error("Initialisation error (not initialized).")) is Fault.DEVICE


def test_a_key_that_may_not_sign_is_a_configuration_fault() -> None:
    """CKR_KEY_FUNCTION_NOT_PERMITTED has no exception of its own."""
    assert classify(pkcs11.PKCS11Error("Unmapped error code 0x68")) is Fault.CONFIGURATION


def test_the_text_of_a_foreign_exception_is_not_kept() -> None:
    """It may hold a template, an argument, a PIN: only its name goes on."""
    error = hsm_error(TypeError("PIN 1234 has the wrong type"), "log in")
    assert str(error) == "log in: the module answered TypeError"
    assert error.fault is Fault.DEVICE


def test_an_error_that_is_ours_already_is_kept() -> None:
    """What was classified once stays as it was."""
    error = HsmError(Fault.WRONG_RESULT, "expected 64 bytes, got 63")
    assert hsm_error(error, "sign") is error
