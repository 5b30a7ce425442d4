"""A lead's key on the lead's own PKCS#11 token; the module runs in a process of its own, as everywhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hsm import Fault, HsmError, KeySearch, Limits, TokenKey, TokenRef
from key_registry import dsse
from key_registry.errors import FormatError, SignatureError
from key_registry.public_key import PublicKey
from witness_service.lead_signer import LeadKeyError, LeadSigner, LeadTokenError
from witness_service.pkcs11_uri import Pkcs11Uri
from witness_service.secret_input import ask

LIMITS = Limits(start=60.0, load=60.0, hang=60.0)
"""A token may wait for somebody to touch it."""

_OTHERS_MAY_HAVE_IT = (
    "the token does not say that this key was made in it and never left: a copy of it may be elsewhere"
)


class TokenLead(LeadSigner):
    """A lead's key on a token, logged in to until it is closed."""

    def __init__(
        self, key: TokenKey, public_key: PublicKey, name: str, runner: asyncio.Runner, opened: ExitStack
    ) -> None:
        self._key = key
        self._public_key = public_key
        self._runner = runner
        self._opened = opened
        self.name = name
        attributes = key.found.attributes
        made_here = all(attributes[name] == "true" for name in ("local", "always_sensitive", "never_extractable"))
        self.remarks = () if made_here else (_OTHERS_MAY_HAVE_IT,)

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    @classmethod
    def open(cls, uri: Pkcs11Uri, *, pin_file: Path | None = None) -> TokenLead:
        """Log in to the token, once, and find the key.

        pin_file: holds the PIN when the URI names no pin-source; otherwise the PIN is asked for. Raises
        LeadKeyError; LeadTokenError when the token refuses the PIN or does not answer.
        """
        module = uri.module()
        with ExitStack() as stack:
            given = uri.pin_source or (str(pin_file.absolute()) if pin_file else "")
            path = given or stack.enter_context(_typed_pin(f"PIN of the token {uri.token or uri.serial}: "))
            token = TokenRef(
                module=module,
                label=uri.token,
                serial=uri.serial,
                pin_file=path,
                # The lead's own module, on the lead's own machine: it gets the lead's settings for it.
                environment={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
                manufacturer=uri.manufacturer,
                model=uri.model,
                slot_id=uri.slot_id,
                attended=not given,
            )
            runner = stack.enter_context(asyncio.Runner())
            try:
                key = runner.run(TokenKey.open(token, KeySearch(uri.cka_id, uri.label), limits=LIMITS))
                stack.callback(lambda: runner.run(key.close()))
                public_key = PublicKey.from_spki(key.found.public_key)
            except HsmError as error:
                raise _of(error) from error
            except FormatError as error:
                raise LeadKeyError(f"the lead's token: {error}") from error
            return cls(key, public_key, uri.label, runner, stack.pop_all())

    def sign(self, payload_type: str, body: bytes) -> dsse.Signature:
        message = dsse.pae(payload_type, body)
        try:
            signature = self._runner.run(self._key.sign(message))
            self._public_key.verify(signature, message)
        except HsmError as error:
            raise _of(error) from error
        except SignatureError:
            raise LeadTokenError(
                "the lead's token gave a signature that does not verify; do not use this key"
            ) from None
        return dsse.Signature(self._public_key.key_id, signature)

    def close(self) -> None:
        self._opened.close()


@contextmanager
def _typed_pin(prompt: str) -> Iterator[str]:
    """Lend a path under which the signer process reads a PIN typed now.

    The path leads to memory of this process: the PIN is on no disk, no argument list and in no environment.
    """
    pin = ask(prompt)
    descriptor = os.memfd_create("pin", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, pin)
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _of(error: HsmError) -> LeadKeyError:
    kind = LeadKeyError if error.fault is Fault.CONFIGURATION else LeadTokenError
    return kind(f"the lead's token: {error}")
