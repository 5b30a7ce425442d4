"""Passphrases and PINs: typed on a terminal that does not show them, or read from a file closed to others."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from witness_service.lead_signer import LeadKeyError

SHORTEST = 8
"""Characters of a new passphrase."""

LONGEST = 4096
"""Bytes read from a passphrase file."""


def passphrase(file: Path | None, prompt: str) -> bytes:
    """Return a secret in UTF-8: of the file when there is one, else asked for; raises LeadKeyError."""
    return read_secret(file) if file else ask(prompt)


def new_passphrase(file: Path | None) -> bytes:
    """Return the passphrase for a new key, asked for twice; raises LeadKeyError when it will not do."""
    if file:
        chosen = read_secret(file)
    else:
        chosen = ask("Passphrase for the new key: ")
        if chosen != ask("The same again: "):
            raise LeadKeyError("expected the same passphrase twice, got two different ones; no key was made")
    if len(chosen.decode()) < SHORTEST:
        raise LeadKeyError(f"expected a passphrase of at least {SHORTEST} characters, got a shorter one")
    return chosen


def read_secret(file: Path) -> bytes:
    """Return what a file holds, without the newline at its end; raises LeadKeyError."""
    try:
        with open(file, "rb") as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                raise LeadKeyError(f"expected {file} to be closed to others; run: chmod 600 {file}")
            content = opened.read(LONGEST + 1)
    except OSError as error:
        raise LeadKeyError(f"cannot read the passphrase file {file}: {error.strerror}") from error
    secret = content.removesuffix(b"\n")
    try:
        secret.decode()
    except UnicodeDecodeError:  # not `from`: it holds the bytes
        raise LeadKeyError(f"expected UTF-8 in the passphrase file {file}, got other bytes") from None
    if not secret or len(content) > LONGEST or b"\n" in secret:
        raise LeadKeyError(f"expected one line of at most {LONGEST} bytes in {file}, got none or more")
    return secret


def ask(prompt: str) -> bytes:
    """Ask on the terminal of this process, without an echo; raises LeadKeyError when there is none."""
    try:
        # getpass falls back to standard input, with the echo on.
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise LeadKeyError(
            "expected a terminal to ask for the passphrase or PIN on, got none; use --passphrase-file FILE"
        ) from None
    try:
        secret = getpass.getpass(prompt).encode()
    except EOFError:
        secret = b""
    except UnicodeError:
        raise LeadKeyError("expected UTF-8 from the terminal, got other bytes") from None
    if not secret:
        raise LeadKeyError("expected a passphrase or PIN, got nothing")
    return secret
