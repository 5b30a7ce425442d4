"""A SoftHSM token in a folder of its own: for development and tests, not for keys that matter.

folder/softhsm2.conf   read by the module, through SOFTHSM2_CONF
folder/tokens/         the objects
folder/pin             the user PIN, readable by its owner only
folder/serial          written last: the token is complete
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from hsm.errors import Fault, HsmError
from hsm.token import TokenRef

_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)

_LABEL_LIMIT = 32
_SECONDS = 30


def find_module() -> str:
    """Return the path of the SoftHSM module; raises HsmError (CONFIGURATION) when it is not installed."""
    for path in _MODULES:
        if Path(path).is_file():
            return path
    raise HsmError(
        Fault.CONFIGURATION,
        "expected libsofthsm2.so in one of the usual places, got none; install SoftHSM "
        "(on Debian and Ubuntu: apt install softhsm2)",
    )


def create_token(folder: Path, label: str) -> TokenRef:
    """Make and initialise a token.

    The PINs are made up and used in a process of their own: they are on no argument list, and this process
    neither learns them nor loads the module. The security officer's PIN is forgotten: nobody can reset the
    user PIN.

    Args:
        folder: is made if need be, and must not hold a token yet.
        label: at most 32 bytes of UTF-8.

    Raises:
        HsmError: CONFIGURATION, with what the module answered.
        FileExistsError: there is a token already.
    """
    module = find_module()
    folder = folder.resolve()
    if not 0 < len(label.encode()) <= _LABEL_LIMIT or label != label.strip():
        raise HsmError(Fault.CONFIGURATION, f"expected a label of 1 to {_LABEL_LIMIT} bytes, got {label!r}")
    if re.search(r"[#=\n\r]", str(folder)):
        raise HsmError(Fault.CONFIGURATION, f"expected a folder that softhsm2.conf can name, got {str(folder)!r}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / "pin").exists():
        raise FileExistsError(f"expected no token in {folder}, got one; remove the folder or use another")
    (folder / "tokens").mkdir(mode=0o700, exist_ok=True)
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    (folder / "serial").write_text(_initialise(module, folder, label))
    return open_token(folder, label)


def open_token(folder: Path, label: str) -> TokenRef:
    """Return where a token made before is; raises HsmError (CONFIGURATION) when the folder holds none."""
    folder = folder.resolve()
    try:
        serial = (folder / "serial").read_text()
    except FileNotFoundError:
        raise HsmError(Fault.CONFIGURATION, f"expected a SoftHSM token in {folder}, got none") from None
    return TokenRef(
        module=find_module(),
        label=label,
        serial=serial,
        pin_file=str(folder / "pin"),
        environment={"SOFTHSM2_CONF": str(folder / "softhsm2.conf")},
    )


def _initialise(module: str, folder: Path, label: str) -> str:
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    finished = subprocess.run(
        [sys.executable, "-P", "-m", "hsm.softhsm_token", module, str(folder / "pin"), label],
        env={"PYTHONPATH": path, "SOFTHSM2_CONF": str(folder / "softhsm2.conf")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if finished.returncode != 0:
        last = finished.stderr.strip().rpartition("\n")[2]
        raise HsmError(Fault.CONFIGURATION, f"expected SoftHSM to initialise a token in {folder}, got: {last}")
    return finished.stdout.strip()
