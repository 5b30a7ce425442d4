"""Cosignatures, against what public cosigners have really signed, and against what an attacker would send."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry import note
from key_registry.cosignature import Cosigner, message, parse_vkey, vkey
from key_registry.errors import FormatError, SignatureError, UnsupportedAlgorithm
from key_registry.note import NoteSignature
from tests.key_registry.software_registry import START, SoftwareCosigner, SoftwareKey

# C2SP tlog-cosignature, "Format" and "Ed25519 signed message"; the specification does not publish the key.
SPECIFICATION = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5"
    "/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlr"
    "DJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

# A checkpoint of a public Certificate Transparency log, as it was served, with what public cosigners said about it.
PUBLISHED = (
    "arche2025h1.staging.ct.transparency.dev\n1432088532\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n"
    "\n"
    "— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkpt"
    "QIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n"
    "— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8"
    "Ei59RA23oHP7Ry1k3ZFWwQ=\n"
    "— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4As"
    "cylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n"
    "— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbq"
    "mNWVuE0tgh0XwzdZsDsUAQ==\n"
    "— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB"
    "0DrAWfBw==\n"
    "— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUi"
    "OvKFYe/TmN9DAg==\n"
)
PUBLISHED_TIME = 1_779_573_024

PUBLISHED_LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
COSIGNED = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
]
DID_NOT_COSIGN = [
    "rgdd.se/poc-witness+db03732e+BCjJKlo6BU0xfIb8LutqerIFTWIXEA0L5n3tW3QyPFgG",
    "witness.navigli.sunlight.geomys.org+a3e00fe2+BNy/co4C1Hn1p+INwJrfUlgz7W55dSZReusH/GhUhJ/G",
]

X = SoftwareCosigner("x")
TEXT = "example.com/log\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
LINE = X.line(TEXT, START)


def cosigner(text: str) -> Cosigner:
    return Cosigner("name", *parse_vkey(text))


def cosigned_by_x(*lines: NoteSignature, text: str = TEXT) -> int | None:
    return X.cosigner.cosigned_at(note.Note(text, lines))


@pytest.mark.parametrize("text", COSIGNED)
def test_published_cosignatures_verify(text: str) -> None:
    """Four cosigners run by other people with other software cosigned this checkpoint in one second."""
    known = cosigner(text)
    opened = note.parse(PUBLISHED.encode())
    assert known.cosigned_at(opened) == PUBLISHED_TIME
    assert vkey(known) == text
    for size in ("1432088531", "143208853", "14320885320"):
        other = note.Note(opened.text.replace("1432088532", size), opened.signatures)
        with pytest.raises(SignatureError, match="cosignature of this checkpoint"):
            known.cosigned_at(other)


@pytest.mark.parametrize("text", DID_NOT_COSIGN)
def test_who_did_not_cosign_is_not_missed(text: str) -> None:
    """No line of a cosigner is no error: the policy decides how many it takes."""
    assert cosigner(text).cosigned_at(note.parse(PUBLISHED.encode())) is None


def test_the_specification_s_example() -> None:
    """Key hash, time and signature lie where the example has them, and the signed message is the example's."""
    opened = note.parse(SPECIFICATION.encode())
    line = opened.signatures[1]
    assert (line.name, line.key_hash.hex(), len(line.signature)) == ("witness.example.com/w1", "8d66cf3f", 72)
    time = int.from_bytes(line.signature[:8], "big")
    assert message(opened.text, time) == (
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )


@pytest.mark.attacks
def test_a_log_key_is_no_cosigner() -> None:
    """Type 0x01 has no time and no promise to have seen the log grow; nor has the same key's line as a log."""
    with pytest.raises(FormatError, match="type 0x01"):
        parse_vkey(PUBLISHED_LOG)
    with pytest.raises(FormatError, match="type 0x01"):
        parse_vkey(note.vkey(X.cosigner.key_name, X.key.public))
    as_log = NoteSignature(
        X.cosigner.key_name, note.key_hash(X.cosigner.key_name, X.key.public.raw), X.key.sign(TEXT.encode())
    )
    assert cosigned_by_x(as_log) is None
    assert cosigned_by_x(as_log, LINE) == START
    relabelled = NoteSignature(LINE.name, LINE.key_hash, bytes(8) + as_log.signature)
    with pytest.raises(SignatureError):
        cosigned_by_x(relabelled)


@pytest.mark.parametrize("time", [0, 1, START, 253_402_300_799])
def test_every_second_of_the_calendar_counts(time: int) -> None:
    """From the first POSIX second to the last one that can be written with four digits of year."""
    assert cosigned_by_x(X.line(TEXT, time)) == time


@pytest.mark.attacks
@pytest.mark.parametrize("time", [253_402_300_800, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_time_beyond_the_calendar_is_refused(time: int) -> None:
    """Well signed, and still no time that a verdict could report."""
    with pytest.raises(SignatureError, match="before the year 10000"):
        cosigned_by_x(X.line(TEXT, time))


@pytest.mark.attacks
def test_a_cosigner_says_one_thing_about_a_checkpoint() -> None:
    """Two lines are refused whether they agree or not, in either order, also when one of them is bad."""
    bad = NoteSignature(LINE.name, LINE.key_hash, bytes(72))
    for lines in ((LINE, LINE), (LINE, X.line(TEXT, START + 1)), (LINE, bad), (bad, LINE)):
        with pytest.raises(SignatureError, match=r"expected one cosignature by x\.example/cosigner, got 2"):
            cosigned_by_x(*lines)


@pytest.mark.attacks
@pytest.mark.parametrize("length", [0, 1, 7, 8, 63, 64, 71, 73, 2428])
def test_a_cosignature_has_72_bytes(length: int) -> None:
    """Shorter, longer, or as long as an ML-DSA-44 one, under the name and hash of an Ed25519 cosigner: refused."""
    raw = (LINE.signature * 40)[:length] or b"\x00"
    with pytest.raises(SignatureError, match="expected 72 bytes"):
        cosigned_by_x(NoteSignature(LINE.name, LINE.key_hash, raw))


@given(position=st.integers(0, 72 * 8 - 1))
def test_no_bit_of_a_cosignature_can_change(position: int) -> None:
    """Time and signature: every bit counts."""
    flipped = bytearray(LINE.signature)
    flipped[position // 8] ^= 1 << position % 8
    with pytest.raises(SignatureError):
        cosigned_by_x(NoteSignature(LINE.name, LINE.key_hash, bytes(flipped)))


@pytest.mark.attacks
def test_lines_of_others_are_ignored() -> None:
    """The same hash under another name, the same name with another hash, and names that only look the same."""
    others = [
        NoteSignature("y.example/cosigner", LINE.key_hash, bytes(72)),
        NoteSignature(LINE.name, b"\x00\x00\x00\x00", bytes(72)),
        NoteSignature(LINE.name.upper(), LINE.key_hash, bytes(72)),
        NoteSignature(LINE.name + "\u200b", LINE.key_hash, bytes(72)),
        NoteSignature(LINE.name.replace("x", "\u0445"), LINE.key_hash, bytes(72)),
        NoteSignature("e\u0301", LINE.key_hash, b"x"),
    ]
    assert cosigned_by_x(*others) is None
    assert cosigned_by_x(*others, LINE) == START


@pytest.mark.attacks
@pytest.mark.parametrize("space", [" ", "\u2028", "\u2029", "\u00a0", "\u0085", "\u3000", "\u1680", "+", "\x00", "\n"])
def test_no_cosigner_has_a_space_in_its_name(space: str) -> None:
    """Neither in a policy's key nor in a note: what splits lines or words elsewhere must not be in a name."""
    name = f"x{space}y"
    raw = X.key.public.raw
    key_hash = hashlib.sha256(name.encode() + b"\n\x04" + raw).digest()[:4]
    with pytest.raises(FormatError):
        parse_vkey(f"{name}+{key_hash.hex()}+{base64.b64encode(bytes([4]) + raw).decode()}")
    with pytest.raises(FormatError):
        NoteSignature(name, key_hash, bytes(72))


def material(kind: int, raw: bytes, name: str = "x.example") -> str:
    key_hash = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + raw).digest()[:4].hex()
    return f"{name}+{key_hash}+{base64.b64encode(bytes([kind]) + raw).decode()}"


RAW = X.key.public.raw


@pytest.mark.parametrize(
    "text", [material(0x06, bytes(1312)), material(0x00, RAW), material(0x07, b"key"), material(0xFF, RAW)]
)
def test_cosigners_of_other_algorithms_are_told_apart_from_bad_ones(text: str) -> None:
    """ML-DSA-44 and types not assigned yet may be right, for a newer program."""
    with pytest.raises(UnsupportedAlgorithm):
        parse_vkey(text)


GOOD = vkey(X.cosigner)
NO_VKEYS = [
    "",
    "x.example",
    GOOD.upper(),
    GOOD.replace("+", " ", 1),
    "+" + GOOD,
    GOOD + "+",
    GOOD + "\n",
    GOOD + "=",
    GOOD[:-4],
    GOOD.split("+", 1)[0] + "+00000000+" + GOOD.split("+", 2)[2],
    GOOD.split("+", 1)[0] + "++" + GOOD.split("+", 2)[2],
    GOOD.split("+", 2)[0] + "+" + GOOD.split("+", 2)[1].upper() + "+" + GOOD.split("+", 2)[2],
    "other" + GOOD,
    "x.example+" + hashlib.sha256(b"x.example\n").digest()[:4].hex() + "+",
    material(0x01, RAW),
    material(0x02, RAW),
    material(0x03, RAW),
    material(0x05, RAW),
    material(0x04, RAW[:-1]),
    material(0x04, RAW + b"\x00"),
    material(0x04, b""),
    material(0x04, bytes(32)),
    material(0x04, b"\x01" + bytes(31)),
    material(0x04, b"\xff" * 32),
    material(0x04, SoftwareKey("p", "ecdsa-p256").public.raw),
    material(0x06, b""),
    material(0x06, bytes(1311)),
    material(0x06, bytes(1313)),
]


@pytest.mark.parametrize("text", NO_VKEYS)
def test_what_is_no_cosigner_s_key_is_refused(text: str) -> None:
    """Another form, another hash, another type, a key of no curve or of small order: wrong, not merely unknown."""
    with pytest.raises(FormatError) as error:
        parse_vkey(text)
    assert not isinstance(error.value, UnsupportedAlgorithm)


@given(st.text())
def test_no_text_makes_reading_a_key_fail_otherwise(text: str) -> None:
    """Whatever the text, it is a key or a FormatError."""
    try:
        name, key = parse_vkey(text)
    except FormatError:
        return
    assert vkey(Cosigner("x", name, key)) == text
