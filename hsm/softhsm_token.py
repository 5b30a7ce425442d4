"""Initialises one SoftHSM token in its own process: `python -m hsm.softhsm_token MODULE PIN_FILE LABEL`."""

import ctypes
import os
import secrets
import sys

import pkcs11


def initialise(module: str, pin_file: str, label: str) -> str:
    """Initialise the token of the first free slot and set its user PIN.

    Args:
        module: path of the PKCS#11 module.
        pin_file: path of a file that does not exist; the new PIN is written to it.
        label: CKA_LABEL of the token, at most 32 bytes of UTF-8.

    Returns:
        The serial number of the token.
    """
    slot = pkcs11.lib(module).get_slots(token_present=True)[-1]
    security_officer = secrets.token_hex(16)
    # python-pkcs11 has no C_InitToken. The loader gives back the same module, already initialised.
    code = ctypes.CDLL(module).C_InitToken(
        ctypes.c_ulong(slot.slot_id),
        security_officer.encode(),
        ctypes.c_ulong(len(security_officer)),
        label.encode().ljust(32),
    )
    if code != 0:
        raise SystemExit(f"C_InitToken returned {code:#x}")
    token = slot.get_token()
    pin = secrets.token_hex(16)
    with os.fdopen(os.open(pin_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{pin}\n")
    with token.open(rw=True, so_pin=security_officer) as session:
        session.init_pin(pin)
    return token.serial.decode("ascii")


if __name__ == "__main__":
    print(initialise(*sys.argv[1:]))
