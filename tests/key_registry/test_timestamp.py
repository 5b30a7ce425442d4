"""A timestamp token counts only when a trusted authority gave it, for this text, while its certificate was valid."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from rfc3161_client import VerificationError, decode_timestamp_response

from key_registry import timestamp
from key_registry.checkpoint import Checkpoint
from key_registry.errors import FormatError, SignatureError
from key_registry.timestamp import LibraryMissing, verify_token
from tests.fix_timestamp_authority import TimestampAuthority, make_authority

TEXT = Checkpoint("log.example/statements", 7, bytes(range(32))).text()
OTHER = Checkpoint("log.example/statements", 8, bytes(range(32))).text()


def said(response: bytes) -> datetime:
    """Return the time in a token, in whole seconds."""
    return decode_timestamp_response(response).tst_info.gen_time


def verify(authority: TimestampAuthority, token: bytes, text: str = TEXT) -> str:
    return verify_token(token, text, authority.roots_pem)


@pytest.mark.parametrize("algorithm", ["-sha256", "-sha512"])
def test_a_token_says_by_when_the_text_existed(timestamp_authority: TimestampAuthority, algorithm: str) -> None:
    """The time is the end of the token's second and its accuracy after that, 1.5001 s here."""
    before = datetime.now(UTC)
    response = timestamp_authority.response(TEXT, algorithm, "-cert")
    existed_by = verify(timestamp_authority, response)
    expected = said(response) + timedelta(seconds=2, milliseconds=500, microseconds=100)
    assert existed_by == expected.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert before < datetime.fromisoformat(existed_by) < before + timedelta(seconds=30)


def test_a_bare_token_is_as_good_as_the_answer(timestamp_authority: TimestampAuthority) -> None:
    token = timestamp_authority.token(TEXT)
    assert token != timestamp_authority.response(TEXT)
    assert verify(timestamp_authority, token).endswith(".500100Z")
    with pytest.raises(SignatureError):
        verify(timestamp_authority, token, OTHER)


def test_an_authority_may_not_say_how_accurate_it_is(tmp_path: Path) -> None:
    """Then the end of the second is all there is; a fraction below a second is never earlier than it was."""
    plain = make_authority(tmp_path / "plain", more="")
    exact = make_authority(tmp_path / "exact", more="clock_precision_digits = 6")
    for authority in (plain, exact):
        response = authority.response(TEXT)
        assert verify(authority, response) == (said(response) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.attacks
def test_a_token_over_another_text_is_refused(timestamp_authority: TimestampAuthority) -> None:
    response = timestamp_authority.response(TEXT)
    for text in (OTHER, TEXT[:-1], TEXT + "\n", TEXT.upper(), ""):
        with pytest.raises(SignatureError):
            verify(timestamp_authority, response, text)


@pytest.mark.attacks
def test_an_authority_under_another_root_is_refused(timestamp_authority: TimestampAuthority, tmp_path: Path) -> None:
    """Also when the two roots have one name; with both of them trusted, both authorities are."""
    other = make_authority(tmp_path / "other")
    with pytest.raises(SignatureError):
        verify_token(other.response(TEXT), TEXT, timestamp_authority.roots_pem)
    both = other.roots_pem + timestamp_authority.roots_pem
    assert verify_token(other.response(TEXT), TEXT, both)
    assert verify_token(timestamp_authority.response(TEXT), TEXT, both)


@pytest.mark.parametrize("days", [(-5, -1), (1, 5)])
def test_a_certificate_must_have_been_valid_then(tmp_path: Path, days: tuple[int, int]) -> None:
    first, last = days
    expired = make_authority(tmp_path / "expired", valid=(timedelta(days=first), timedelta(days=last)))
    with pytest.raises(SignatureError):
        verify(expired, expired.response(TEXT))


@pytest.mark.slow
def test_a_certificate_need_not_be_valid_any_more(tmp_path: Path) -> None:
    """Years later every certificate has expired; what counts is that it had not when the token was made."""
    for attempt in range(5):  # a busy machine may take longer than the certificate is valid
        brief = make_authority(tmp_path / str(attempt), valid=(timedelta(days=-1), timedelta(seconds=2)))
        ends = datetime.now(UTC) + timedelta(seconds=2)
        response = brief.response(TEXT)
        if said(response) < ends - timedelta(seconds=1):
            break
    while datetime.now(UTC) < ends + timedelta(seconds=1):
        time.sleep(0.05)
    assert verify(brief, response)


@pytest.mark.attacks
def test_a_certificate_must_be_for_timestamping(tmp_path: Path, timestamp_authority: TimestampAuthority) -> None:
    """A root that also issues for the web does not make every web server an authority."""
    web = make_authority(tmp_path / "web", purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    # `openssl ts` refuses to sign with it, so the token is made by CMS over another's TSTInfo.
    kept = Path(timestamp_authority.folder / "kept.tsr")
    kept.write_bytes(timestamp_authority.response(TEXT))
    info = _openssl("ts", "-reply", "-in", str(kept), "-token_out")
    (tmp_path / "token").write_bytes(info)
    content = _openssl("cms", "-verify", "-noverify", "-inform", "DER", "-in", str(tmp_path / "token"), "-binary")
    (tmp_path / "content").write_bytes(content)
    forged = _openssl(
        *("cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-econtent_type", "1.2.840.113549.1.9.16.1.4"),
        *("-in", str(tmp_path / "content"), "-md", "sha256"),
        *("-signer", str(web.folder / "authority.pem"), "-inkey", str(web.folder / "authority.key")),
    )
    with pytest.raises(SignatureError):
        verify(web, forged)


def _openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=True, timeout=30).stdout


def test_without_the_authoritys_certificate_a_token_shows_nothing(timestamp_authority: TimestampAuthority) -> None:
    with pytest.raises(SignatureError):
        verify(timestamp_authority, timestamp_authority.response(TEXT, "-sha256"))


def test_other_hashes_are_refused(timestamp_authority: TimestampAuthority) -> None:
    with pytest.raises(FormatError):
        verify(timestamp_authority, timestamp_authority.response(TEXT, "-sha384", "-cert"))


def test_a_rejection_is_no_token(timestamp_authority: TimestampAuthority) -> None:
    """An authority that does not know the hash answers, without a token."""
    with pytest.raises(FormatError):
        verify(timestamp_authority, timestamp_authority.response(TEXT, "-sha1", "-cert"))


@pytest.mark.attacks
@pytest.mark.parametrize("bare", [False, True])
def test_no_damage_moves_the_time(timestamp_authority: TimestampAuthority, bare: bool) -> None:
    """A bit flipped anywhere is refused, or was in a byte that nothing signed is about and changes nothing."""
    good = timestamp_authority.token(TEXT) if bare else timestamp_authority.response(TEXT)
    expected = verify(timestamp_authority, good)
    kept = 0
    for place in range(len(good)):
        flipped = bytearray(good)
        flipped[place] ^= 1 << place % 8
        try:
            assert verify(timestamp_authority, bytes(flipped)) == expected
            kept += 1
        except (FormatError, SignatureError):
            pass
    assert kept < 25


def test_a_token_cut_or_lengthened_is_refused(timestamp_authority: TimestampAuthority) -> None:
    good = timestamp_authority.response(TEXT)
    for wrong in (*(good[:length] for length in range(len(good))), good + b"\0", good + good, b"\0" + good):
        with pytest.raises(FormatError):
            verify(timestamp_authority, wrong)


def test_any_bytes_are_refused(timestamp_authority: TimestampAuthority) -> None:
    numbers = random.Random(1)
    good = timestamp_authority.response(TEXT)
    year = good.index(b"20")
    hostile = [numbers.randbytes(numbers.randrange(200)) for _ in range(300)]
    hostile += [b"", b"\x30", b"\x30\x80", b"\x30\xff", b"\x30\x84\x06", good[:1] * 100, bytes(70_000), TEXT.encode()]
    hostile += [good[:year] + b"0000" + good[year + 4 :], good.replace(b"\x18\x0f20", b"\x18\x0f99")]
    for wrong in hostile:
        with pytest.raises((FormatError, SignatureError)):
            verify(timestamp_authority, wrong)


@pytest.mark.parametrize(
    "roots", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff" * 50, b"A" * 2**21]
)
def test_roots_that_are_no_certificates_are_refused(timestamp_authority: TimestampAuthority, roots: bytes) -> None:
    with pytest.raises(FormatError):
        verify_token(timestamp_authority.response(TEXT), TEXT, roots)


def test_without_the_library_the_error_says_what_to_install(timestamp_authority: TimestampAuthority) -> None:
    """Importing the module needs nothing; only the use of a token does."""
    code = (
        "import sys; sys.modules['rfc3161_client'] = None\n"
        "from key_registry import timestamp\n"
        "try: timestamp.verify_token(b'', '', b'')\n"
        "except timestamp.LibraryMissing as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == timestamp.INSTALL
    assert "timestamps" in timestamp.INSTALL
    assert issubclass(LibraryMissing, FormatError)


def test_errors_of_the_library_stop_here() -> None:
    assert not issubclass(VerificationError, (FormatError, SignatureError))
