"""Leads for tests: keys in files, and keys on tokens of the leads' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hsm import TokenRef, softhsm
from tests.fix_softhsm import LABEL, run_on_token

_MAKE_KEY = """
from pkcs11.util.ec import encode_named_curve_parameters
kind, label, cka_id, *flags = sys.argv[4:]
curve = bytes.fromhex("06032b6570") if kind == "ed25519" else encode_named_curve_parameters("secp256r1")
key_type = KeyType.EC_EDWARDS if kind == "ed25519" else KeyType.EC
parameters = session.create_domain_parameters(key_type, {Attribute.EC_PARAMS: curve}, local=True)
mechanism = Mechanism.EC_EDWARDS_KEY_PAIR_GEN if kind == "ed25519" else Mechanism.EC_KEY_PAIR_GEN
private = {Attribute.EXTRACTABLE: "extractable" in flags, Attribute.SENSITIVE: "open" not in flags}
parameters.generate_keypair(
    id=bytes.fromhex(cka_id), label=label, store=True, mechanism=mechanism, private_template=private
)
"""
"""Makes a key as another program would: the token decides what is not said here."""


def make_key(token: TokenRef, kind: str, label: str, cka_id: str, *flags: str) -> None:
    """Have another program make a key in a token; flags: "extractable", "open" (not sensitive)."""
    run_on_token(token, _MAKE_KEY, kind, label, cka_id, *flags)


def witness(*command: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a `witness` command without a terminal."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "witness_service.cli", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ) | dict(environment or {}),
        start_new_session=True,  # no terminal to ask on, wherever the tests run
    )


@dataclass(frozen=True)
class LeadToken:
    """A lead's own SoftHSM token."""

    ref: TokenRef

    @property
    def pin(self) -> str:
        return Path(self.ref.pin_file).read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.ref.environment)

    def uri(self, path: str = "", query: str = "") -> str:
        """Return a PKCS#11 URI; path and query: further attributes, with their separators."""
        return f"pkcs11:token={LABEL.replace(' ', '%20')}{path}?module-path={self.ref.module}{query}"

    @property
    def pin_source(self) -> str:
        return f"&pin-source=file:{self.ref.pin_file}"


def lead_token(template: Path, folder: Path) -> LeadToken:
    """Make a token in a folder, as a copy."""
    shutil.copytree(template, folder)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(configuration.read_text().replace(str(template), str(folder)))
    return LeadToken(softhsm.open_token(folder, LABEL))
