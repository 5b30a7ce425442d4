"""Signed notes, against the published keys and notes of C2SP and of Go."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from key_registry import note
from key_registry.errors import FormatError, SignatureError, UnsupportedAlgorithm
from key_registry.note import Note, NoteSignature
from key_registry.public_key import PublicKey

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
SPECIFICATION = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPECIFICATION_NOTE = (
    "This is an example message.\n"
    "\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Y"
    "u72IneyaQM=\n"
)
QUASIMODO = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n"
    "\n"
    "ed è subito sera.\n"
    "\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcX"
    "xj99ihAQwaqP3ZekRwNtIc=\n"
)


def ed25519(raw: bytes) -> PublicKey:
    return PublicKey.from_spki(bytes.fromhex("302a300506032b6570032100") + raw)


def verifier(vkey: str) -> tuple[str, PublicKey]:
    """Return name and key of a published verifier key."""
    name, _, material = vkey.split("+", 2)
    return name, ed25519(base64.b64decode(material)[1:])


def opened(data: str) -> Note:
    return note.parse(data.encode())


@pytest.mark.parametrize("vkey", [PETER, ENOCH, SPECIFICATION])
def test_verifier_keys_are_the_published_ones(vkey: str) -> None:
    """Name, key hash and key are written as other implementations write them."""
    name, key = verifier(vkey)
    assert note.vkey(name, key) == vkey
    assert note.key_hash(name, key.raw).hex() == vkey.split("+")[1]


def test_the_signature_type_is_part_of_the_key_hash() -> None:
    """The same key and name has another hash as a cosigner (type 0x04)."""
    name, key = verifier(PETER)
    assert note.key_hash(name, key.raw, 0x04) != note.key_hash(name, key.raw)
    assert note.key_hash(name, key.raw, 0x01) == note.key_hash(name, key.raw)


def test_published_notes_verify() -> None:
    """Notes of C2SP and of Go are good, with one and with two signatures."""
    opened(SPECIFICATION_NOTE).verify(*verifier(SPECIFICATION))
    opened(f"{TEXT}\n{PETER_LINE}").verify(*verifier(PETER))
    both = opened(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}")
    both.verify(*verifier(PETER))
    both.verify(*verifier(ENOCH))
    assert both.text == TEXT


def test_the_last_blank_line_ends_the_text() -> None:
    """The text of the specification's first example holds a blank line itself."""
    parsed = opened(QUASIMODO)
    assert parsed.text.endswith("sole:\n\ned è subito sera.\n")
    assert [(line.name, len(line.signature)) for line in parsed.signatures] == [("quasimodo.example/salvatore", 64)]
    assert note.serialize(parsed.text, parsed.signatures) == QUASIMODO.encode()


def test_a_note_is_written_as_go_writes_it() -> None:
    """Signing with the example key of Go gives its published note byte for byte."""
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:])
    key = ed25519(private.public_key().public_bytes_raw())
    line = NoteSignature("PeterNeumann", note.key_hash("PeterNeumann", key.raw), private.sign(TEXT.encode()))
    assert note.serialize(TEXT, [line]) == f"{TEXT}\n{PETER_LINE}".encode()


def test_unknown_signers_are_ignored() -> None:
    """Signatures by other names, other keys of the name, and other types of the key do not count."""
    name, key = verifier(PETER)
    genuine = opened(f"{TEXT}\n{PETER_LINE}").signatures[0]
    other_key = NoteSignature(name, b"\x00\x01\x02\x03", b"x")
    other_name = NoteSignature("EnochRoot", genuine.key_hash, b"x")
    cosignature = NoteSignature(name, note.key_hash(name, key.raw, 0x04), bytes(72))
    Note(TEXT, (other_key, genuine, other_name, cosignature)).verify(name, key)
    with pytest.raises(SignatureError, match="got 0"):
        Note(TEXT, (other_key, other_name, cosignature)).verify(name, key)


def test_a_bad_signature_by_the_known_key_refuses_the_note() -> None:
    """A forged line in the key's name refuses the note, alone and beside the genuine one."""
    name, key = verifier(PETER)
    genuine = opened(f"{TEXT}\n{PETER_LINE}").signatures[0]
    forged = NoteSignature(name, genuine.key_hash, bytes(64))
    with pytest.raises(SignatureError):
        Note(TEXT, (forged,)).verify(name, key)
    for lines in ((genuine, forged), (forged, genuine), (genuine, genuine)):
        with pytest.raises(SignatureError, match="got 2"):
            Note(TEXT, lines).verify(name, key)
    with pytest.raises(SignatureError):
        Note(TEXT + "more\n", (genuine,)).verify(name, key)
    with pytest.raises(SignatureError, match="64 bytes"):
        Note(TEXT, (NoteSignature(name, genuine.key_hash, genuine.signature + b"x"),)).verify(name, key)


def test_only_ed25519_keys_sign_notes() -> None:
    """An ECDSA key has no verifier key and verifies no note."""
    point = ec.derive_private_key(7, ec.SECP256R1()).public_key()
    key = PublicKey.from_spki(point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(UnsupportedAlgorithm):
        note.vkey("example.com/log", key)
    with pytest.raises(UnsupportedAlgorithm):
        opened(f"{TEXT}\n{PETER_LINE}").verify("PeterNeumann", key)


BAD_NAMES = [
    "",
    "a b",
    "a+b",
    "a\nb",
    "a\tb",
    "a\u00a0b",
    "a\u3000b",
    "a\u2028b",
    "a\u0085b",
    "a\x00b",
    "a\ud800b",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_cannot_name_a_key(name: str) -> None:
    """No spaces of Unicode, no plus, no control characters, nothing UTF-8 cannot write."""
    _, key = verifier(PETER)
    for refused in (
        lambda: note.check_name(name),
        lambda: note.vkey(name, key),
        lambda: note.key_hash(name, key.raw),
        lambda: NoteSignature(name, b"1234", b"x"),
    ):
        with pytest.raises(FormatError, match="key name"):
            refused()


@pytest.mark.parametrize("name", ["example.com/log", "a", "café", "日本", "a\u200bb", "x" * 1000])
def test_names_beyond_urls_are_kept(name: str) -> None:
    """A name need not be a URL nor ASCII."""
    data = note.serialize("text\n", [NoteSignature(name, b"1234", b"x")])
    assert note.parse(data).signatures[0].name == name


MALFORMED = {
    "empty": "",
    "text only": TEXT,
    "no blank line": TEXT + PETER_LINE,
    "no signature": TEXT + "\n",
    "no final newline": f"{TEXT}\n{PETER_LINE}"[:-1],
    "other end of the last line": f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}"[:-1] + "x",
    "blank line at the end": f"{TEXT}\n{PETER_LINE}\n",
    "blank line between signatures": f"{TEXT}\n{PETER_LINE}\n\n{ENOCH_LINE}\n",
    "signature only": PETER_LINE,
    "blank line and signature": "\n" + PETER_LINE,
    "carriage returns": f"{TEXT}\n{PETER_LINE}".replace("\n", "\r\n"),
    "control character in text": f"a\x07b\n\n{PETER_LINE}",
    "tab in text": f"a\tb\n\n{PETER_LINE}",
    "NUL in signature": f"{TEXT}\n— Peter\x00 QUJDREU=\n",
    "hyphen for dash": f"{TEXT}\n{PETER_LINE.replace('—', '-')}",
    "no space after dash": f"{TEXT}\n{PETER_LINE.replace('— ', '—')}",
    "two spaces before name": f"{TEXT}\n{PETER_LINE.replace('— ', '—  ')}",
    "two spaces after name": f"{TEXT}\n{PETER_LINE.replace('Neumann ', 'Neumann  ')}",
    "space at the end": f"{TEXT}\n{PETER_LINE[:-1]} \n",
    "name only": f"{TEXT}\n— PeterNeumann\n",
    "empty signature": f"{TEXT}\n— PeterNeumann \n",
    "key hash only": f"{TEXT}\n— PeterNeumann QUJDRA==\n",
    "no padding": f"{TEXT}\n{PETER_LINE[:-2]}\n",
    "URL-safe": f"{TEXT}\n{PETER_LINE.replace('/', '_')}",
    "trailing bits": f"{TEXT}\n— PeterNeumann QUJDREV=\n",
    "plus in name": f"{TEXT}\n{PETER_LINE.replace('Neumann', '+')}",
    "text among signatures": f"{TEXT}\n{PETER_LINE}more\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_notes_are_refused(data: str) -> None:
    """A note has one form."""
    with pytest.raises(FormatError):
        opened(data)


def test_notes_are_utf_8() -> None:
    """Bytes that are no UTF-8 are refused, also surrogates written as such."""
    for bad in (b"\xff", b"\xed\xa0\x80", b"\xc0\xaf"):
        with pytest.raises(FormatError, match="UTF-8"):
            note.parse(bad + b"\n\n" + PETER_LINE.encode())
    with pytest.raises(FormatError, match="surrogate"):
        note.serialize("\ud800\n", [NoteSignature("a", b"1234", b"x")])


def test_length_and_number_of_signatures_are_limited() -> None:
    """A hundred signatures are read and written, more are not, nor is more than 1 MiB."""
    line = NoteSignature("a", b"1234", b"x")
    full = note.serialize("text\n", [line] * 100)
    assert len(note.parse(full).signatures) == 100
    with pytest.raises(FormatError, match="1 to 100"):
        note.serialize("text\n", [line] * 101)
    with pytest.raises(FormatError, match="1 to 100"):
        note.parse(full + full.splitlines(keepends=True)[-1])
    long = "x" * 1_048_576 + "\n"
    with pytest.raises(FormatError, match="at most 1048576"):
        note.serialize(long, [line])
    with pytest.raises(FormatError, match="at most 1048576"):
        note.parse(long.encode())


@pytest.mark.parametrize("text", ["", "no newline", "a\r\n", "a\x00\n"])
def test_text_outside_the_form_is_not_written(text: str) -> None:
    """What no reader would accept is refused before it is written."""
    with pytest.raises(FormatError):
        note.serialize(text, [NoteSignature("a", b"1234", b"x")])


def test_a_note_without_signatures_is_not_written() -> None:
    """A note has at least one signature."""
    with pytest.raises(FormatError, match="1 to 100"):
        note.serialize("text\n", [])


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), max_size=40),
    st.lists(st.tuples(st.sampled_from(["a", "é/b"]), st.binary(min_size=5, max_size=80)), min_size=1, max_size=4),
)
def test_every_note_comes_back(text: str, lines: list[tuple[str, bytes]]) -> None:
    """Text and signatures are read as they were written, also with blank lines at the end of the text."""
    signatures = tuple(NoteSignature(name, blob[:4], blob[4:]) for name, blob in lines)
    assert note.parse(note.serialize(text + "\n", signatures)) == Note(text + "\n", signatures)
