"""Making SoftHSM tokens."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hsm import Fault, HsmError, SignerPool, softhsm


async def test_a_new_token_can_be_logged_in_to(tmp_path: Path) -> None:
    """What create_token returns is all that a pool needs, in a folder with a blank in its name, too."""
    token = softhsm.create_token(tmp_path / "a folder", "état")
    pool = await SignerPool.open(token, processes=1)
    try:
        assert (pool.token_info.label, pool.token_info.serial) == ("état", token.serial)
        assert softhsm.open_token(tmp_path / "a folder", "état") == token
    finally:
        await pool.close()


def test_the_pin_is_random_and_only_in_its_file(tmp_path: Path) -> None:
    """Its file is closed to others, two tokens have two PINs, and what is returned does not hold it."""
    token = softhsm.create_token(tmp_path / "one", "one")
    softhsm.create_token(tmp_path / "two", "two")
    pins = {(tmp_path / name / "pin").read_text().strip() for name in ("one", "two")}
    assert len(pins) == 2
    assert stat.S_IMODE(os.stat(token.pin_file).st_mode) == 0o600
    assert not any(pin in repr(token) for pin in pins)


def test_a_second_token_in_the_same_folder_is_refused(softhsm_folder: Path) -> None:
    """The first one, and its keys, stay."""
    before = (softhsm_folder / "pin").read_text()
    with pytest.raises(FileExistsError, match="expected no token"):
        softhsm.create_token(softhsm_folder, "again")
    assert (softhsm_folder / "pin").read_text() == before


@pytest.mark.parametrize("label", ["", "é" * 17, " padded "])
def test_a_label_that_the_token_would_change_is_refused(label: str, tmp_path: Path) -> None:
    """CKA_LABEL of a token is 32 bytes, padded with blanks: it could not be found again."""
    with pytest.raises(HsmError, match="expected a label"):
        softhsm.create_token(tmp_path / "token", label)
    assert not (tmp_path / "token").exists()


def test_a_folder_without_a_token_is_refused(tmp_path: Path) -> None:
    """The error says which folder."""
    with pytest.raises(HsmError, match="expected a SoftHSM token in") as caught:
        softhsm.open_token(tmp_path, "none")
    assert caught.value.fault is Fault.CONFIGURATION


def test_a_missing_module_names_the_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setattr(softhsm, "_MODULES", ("/nowhere/libsofthsm2.so",))
    with pytest.raises(HsmError, match="apt install softhsm2"):
        softhsm.find_module()


def test_this_process_never_loads_the_module(tmp_path: Path) -> None:
    """Neither making a token nor importing everything a server imports loads SoftHSM or python-pkcs11."""
    source = (
        "import sys\n"
        "from pathlib import Path\n"
        "from hsm import Algorithm, Fault, HsmError, SignerPool, softhsm\n"
        f"softhsm.create_token(Path({str(tmp_path / 'token')!r}), 'x')\n"
        "assert 'libsofthsm2' not in Path('/proc/self/maps').read_text()\n"
        "assert not [name for name in sys.modules if name.startswith('pkcs11')]\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=30)
