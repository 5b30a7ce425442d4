"""Inside a signer process: what PKCS#11 does to careless callers, and what the process keeps to itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hsm import TokenRef
from hsm.signer import FORKED_EXIT
from tests.hsm.conftest import OpenPool
from tests.hsm.signing import signer_pids

pytestmark = pytest.mark.faults

SIGNER = """
import ctypes, os, sys
import pkcs11
from pkcs11 import Attribute, Mechanism, ObjectClass
from hsm import Algorithm, KeyRef, TokenRef
from hsm.session import TokenSessions
from hsm.signer import Signer, harden

ref = TokenRef(*sys.argv[1:])
sessions = TokenSessions(ref)
signer = Signer(sessions)
signer.start()
generated = signer.generate(Algorithm.ED25519, "x")
signer.load(KeyRef(generated.cka_id, generated.algorithm, generated.public_key))
expected = signer.sign(generated.cka_id, b"m")
(private,) = sessions.working.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
"""


def run(token: TokenRef, source: str) -> str:
    """Run statements with a logged-in signer that has a key; returns what they print."""
    finished = subprocess.run(
        [sys.executable, "-c", SIGNER + source, token.module, token.label, token.serial, token.pin_file],
        env={**os.environ, **token.environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_session_with_an_operation_left_active_is_replaced(token: TokenRef) -> None:
    """After C_SignInit without C_Sign the session is of no more use; the signer takes another one."""
    run(
        token,
        """
code = ctypes.CDLL(ref.module).C_SignInit(
    ctypes.c_ulong(sessions.working.handle),
    (ctypes.c_ulong * 3)(Mechanism.EDDSA, 0, 0),
    ctypes.c_ulong(private.handle),
)
assert code == 0
try:
    private.sign(b"m", mechanism=Mechanism.EDDSA)
except pkcs11.OperationActive:
    pass
else:
    raise AssertionError("expected a poisoned session")
assert signer.sign(generated.cka_id, b"m") == expected
assert signer.sign(generated.cka_id, b"m") == expected
""",
    )


def test_a_logout_by_somebody_else_is_mended(token: TokenRef) -> None:
    """A logout in any session takes the login and the handles of all: one new login, and it is signed."""
    run(
        token,
        """
assert ctypes.CDLL(ref.module).C_Logout(ctypes.c_ulong(sessions.working.handle)) == 0
assert not list(sessions.working.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))
assert signer.sign(generated.cka_id, b"m") == expected
""",
    )


def test_every_session_closed_is_mended(token: TokenRef) -> None:
    """As a token reset does it: the login is gone with the sessions."""
    run(
        token,
        """
slot = sessions.working.token.slot.slot_id
assert ctypes.CDLL(ref.module).C_CloseAllSessions(ctypes.c_ulong(slot)) == 0
signer.load(KeyRef(generated.cka_id, generated.algorithm, generated.public_key))
assert signer.sign(generated.cka_id, b"m") == expected
""",
    )


def test_discarding_the_working_session_keeps_the_login(token: TokenRef) -> None:
    """Closing a session that was opened with the PIN would log out the whole process."""
    run(
        token,
        """
for _ in range(3):
    sessions.discard_working()
    assert len(list(sessions.working.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))) == 1
""",
    )


def test_case_22_a_forked_copy_ends_at_once(token: TokenRef) -> None:
    """It would hold the login and could sign; it does not run a single statement."""
    printed = run(
        token,
        """
harden()
pid = os.fork()
if pid == 0:
    print("forked", signer.sign(generated.cka_id, b"m"), flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
    )
    assert printed == f"{FORKED_EXIT}\n"


def test_a_signer_leaves_no_core_and_cannot_be_traced(token: TokenRef) -> None:
    """RLIMIT_CORE is 0 and PR_GET_DUMPABLE says 0."""
    run(
        token,
        """
import resource
harden()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
""",
    )


async def test_a_signer_inherits_no_secret_of_the_server(
    token: TokenRef, open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the environment, which may hold a DSN, and no open file, which may be a database or a client."""
    monkeypatch.setenv("PGPASSWORD", "sentinel-dsn-password")
    with Path(token.pin_file).with_name("secret").open("w+b") as secret:
        os.set_inheritable(secret.fileno(), True)
        await open_pool(token)
        (pid,) = signer_pids()
        assert b"sentinel-dsn-password" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert b"SOFTHSM2_CONF" in Path(f"/proc/{pid}/environ").read_bytes()
        files = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
        assert secret.name not in files
        assert "Max core file size        0                    0" in Path(f"/proc/{pid}/limits").read_text()
