"""Timestamp authorities (RFC 3161) made with `openssl ts`, each with a root of its own."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CONFIGURATION = """
[tsa]
default_tsa = it
[it]
serial = {folder}/serial
signer_cert = {folder}/authority.pem
signer_key = {folder}/authority.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
{more}
"""

TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING


@dataclass(frozen=True)
class TimestampAuthority:
    """One authority; its files lie in a folder."""

    folder: Path

    @property
    def roots_pem(self) -> bytes:
        """The certificate that issued the authority's."""
        return (self.folder / "root.pem").read_bytes()

    def answer(self, query: bytes) -> bytes:
        """Return the DER TimeStampResp for a DER TimeStampReq."""
        return self._openssl("-reply", "-config", str(self.folder / "tsa.cnf"), "-queryfile", self._kept(query))

    def response(self, text: str, *options: str) -> bytes:
        """Return a TimeStampResp over a text. options: of `openssl ts -query`; by default -sha256 and -cert."""
        data = self._kept(text.encode())
        return self.answer(self._openssl("-query", "-data", data, *(options or ("-sha256", "-cert"))))

    def token(self, text: str) -> bytes:
        """Return a bare TimeStampToken over a text."""
        kept = self._kept(self.response(text))
        return self._openssl("-reply", "-in", kept, "-token_out")

    def _kept(self, content: bytes) -> str:
        file = self.folder / f"{next(_numbers)}.der"
        file.write_bytes(content)
        return str(file)

    def _openssl(self, *arguments: str) -> bytes:
        out = self.folder / f"{next(_numbers)}.out"
        command = ["openssl", "ts", *arguments, "-out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert out.exists(), done.stderr
        return out.read_bytes()


_numbers = itertools.count()


def make_authority(
    folder: Path,
    *,
    valid: tuple[timedelta, timedelta] = (timedelta(days=-1), timedelta(days=1)),
    purpose: x509.ObjectIdentifier = TIME_STAMPING,
    more: str = "accuracy = secs:1, millisecs:500, microsecs:100",
) -> TimestampAuthority:
    """Make an authority in a folder, which is made.

    valid: from when to when its certificate is, counted from now. purpose: in its critical extended key usage. more:
    lines for its section of the configuration.
    """
    folder.mkdir()
    root_key, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    now = datetime.now(UTC)
    root = _certificate("root", root_key, "root", root_key, (now - timedelta(days=9), now + timedelta(days=9)), None)
    issued = _certificate("authority", key, "root", root_key, (now + valid[0], now + valid[1]), purpose)
    (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (folder / "authority.pem").write_bytes(issued.public_bytes(Encoding.PEM))
    (folder / "authority.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(CONFIGURATION.format(folder=folder, more=more))
    return TimestampAuthority(folder)


def _certificate(
    subject: str,
    key: EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: EllipticCurvePrivateKey,
    valid: tuple[datetime, datetime],
    purpose: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.BasicConstraints(ca=purpose is None, path_length=None), critical=True)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
    return builder.sign(issuer_key, SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@pytest.fixture(scope="session")
def timestamp_authority(tmp_path_factory: pytest.TempPathFactory) -> TimestampAuthority:
    """An authority whose certificate is valid."""
    return make_authority(tmp_path_factory.mktemp("timestamps") / "authority")


class AuthorityServer:
    """An authority on a loopback port. answers: what it makes of a query: status, content type and body."""

    def __init__(self, authority: TimestampAuthority) -> None:
        self.answers: Callable[[bytes], tuple[int, str, bytes]] = lambda query: (
            200,
            "application/timestamp-reply",
            authority.answer(query),
        )
        self.released = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30.0

            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                status, content_type, body = owner.answers(query)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                if status == 307:
                    self.send_header("Location", owner.url + "?followed")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/tsa"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; who hangs is let go."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def authority_server(timestamp_authority: TimestampAuthority) -> Iterator[AuthorityServer]:
    """The authority, on a loopback port."""
    server = AuthorityServer(timestamp_authority)
    yield server
    server.close()
