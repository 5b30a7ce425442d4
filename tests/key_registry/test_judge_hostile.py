"""Hostile bytes to judge: damaged, mutated and absurd evidence and bundles get a verdict, and never VALID."""

import base64
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from key_registry.bundle import Bundle
from key_registry.coverage import Coverage
from key_registry.errors import FormatError
from key_registry.evidence import Evidence
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.statement import STATEMENT_TYPE, Statement
from key_registry.tlog_proof import TlogProof
from key_registry.verdict import Code, Outcome, Verdict
from tests.key_registry.software_registry import RotatedRegistry, envelope

PRODUCTION = frozenset({"production"})


@pytest.fixture
def world() -> RotatedRegistry:
    return RotatedRegistry()


@pytest.fixture(scope="module")
def trusted() -> TrustedRegistry:
    """The bundle of a world, opened; for tests that only read."""
    return RotatedRegistry().open()


HOSTILE = {
    "empty": b"",
    "a zip bomb": gzip.compress(bytes(10_000_000)),
    "zeros": bytes(100_000),
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "a huge number": b"1" * 500_000,
    "a number with exponent": b'{"payload":1e999999999}',
    "not a number": b"NaN",
    "lone surrogate": b'{"payload":"\\ud800","payloadType":"x","signatures":[{"keyid":"","sig":""}]}',
    "not UTF-8": b"\xff\xfe{}",
    "byte order mark": b"\xef\xbb\xbf{}",
    "two megabytes": b'{"payload":"' + b"A" * 2_000_000 + b'"}',
    "many members": b"{" + b",".join(b'"%d":""' % number for number in range(50_000)) + b"}",
    "a header alone": b"c2sp.org/tlog-proof@v1\n",
    "a header and nothing more": b"c2sp.org/tlog-proof@v1\n\n",
    "another version": b"c2sp.org/tlog-proof@v2\nindex 0\n\n",
    "many hashes": b"c2sp.org/tlog-proof@v1\nindex 0\n" + b"A" * 43 + b"=\n" * 5000 + b"\nx",
    "no envelope": b"c2sp.org/tlog-proof@v1\nindex 0\n\ntest.example/statements\n",
}


@pytest.mark.attacks
@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: f"case_48_{name}")
def test_hostile_bytes_get_a_verdict(trusted: TrustedRegistry, name: str) -> None:
    """Whatever the bytes, as evidence they are BAD_FORMAT and as a bundle REGISTRY_INVALID, at once."""
    data = HOSTILE[name]
    assert judge(trusted, data, event_hash=None, environments=PRODUCTION).code is Code.BAD_FORMAT
    verdict = open_bundle(data, trusted.registry.registry_id)
    assert isinstance(verdict, Verdict)
    assert verdict.code is Code.REGISTRY_INVALID


@pytest.mark.attacks
def test_evidence_over_a_mebibyte_is_refused(world: RotatedRegistry) -> None:
    """Lines of unknown cosigners are ignored, but not without end."""
    index, signed = world.attested[12]
    line = "\N{EM DASH} x " + base64.b64encode(bytes(12_080)).decode() + "\n"
    for lines, code in ((10, Code.VALID_KEY_ACTIVE), (65, Code.BAD_FORMAT)):
        note = world.statements.checkpoint() + (line * lines).encode()
        data = Evidence(signed, TlogProof(index, world.statements.proof(index), note, None)).to_bytes()
        assert (len(data) > 1_048_576) == (code is Code.BAD_FORMAT)
        assert world.judge(data).code is code


@pytest.mark.attacks
@pytest.mark.parametrize(
    "members",
    [
        {"records": []},
        {"records": None},
        {"records": {}},
        {"records": [None]},
        {"records": ["x"]},
        {"format": "witness-service/bundle/v2"},
        {"format": None},
        {"coverage": None},
        {"registry_checkpoint": None},
        {"registry_checkpoint": ""},
        {"more": "members"},
    ],
    ids=str,
)
def test_a_bundle_of_another_form_is_refused(world: RotatedRegistry, members: dict[str, object]) -> None:
    """A bundle has its members, its format and at least the genesis record."""
    data = json.dumps({**json.loads(world.bundle().to_json()), **members}).encode()
    verdict = open_bundle(data, world.registry_id)
    assert isinstance(verdict, Verdict)
    assert verdict.code is Code.REGISTRY_INVALID


@pytest.mark.parametrize(
    "members",
    [
        {"statement_size": "0"},
        {"statement_size": 17},
        {"statement_root": "00"},
        {"registry_size": "08"},
        {"created_at": "today"},
        {"more": "members"},
    ],
    ids=str,
)
def test_a_coverage_of_another_form_is_refused(world: RotatedRegistry, members: dict[str, object]) -> None:
    """Also if the registry log itself has signed it; an empty log has one root only."""
    said = {**json.loads(world.coverage().encode()), **members}
    body = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(FormatError):
        Coverage.decode(body)


def same_evidence(one: bytes, other: bytes) -> bool:
    return Evidence.read(one) == Evidence.read(other)


@pytest.mark.attacks
@pytest.mark.parametrize("number", [3, 15], ids=["case_48_ed25519", "case_48_ecdsa-p256"])
def test_no_single_changed_byte_is_valid(world: RotatedRegistry, trusted: TrustedRegistry, number: int) -> None:
    """Every byte of the evidence, changed in its lowest, sixth and highest bit: never VALID, unless it says the same.

    It can say the same where the envelope's JSON is respelt, which is not signed: base64 in the URL-safe alphabet.
    """
    trusted, evidence = world.open(), world.genuine(number)
    for position in range(len(evidence)):
        for bit in (0x01, 0x20, 0x80):
            flipped = bytearray(evidence)
            flipped[position] ^= bit
            verdict = judge(trusted, bytes(flipped), event_hash=None, environments=PRODUCTION)
            assert verdict.outcome is not Outcome.VALID or same_evidence(bytes(flipped), evidence)


@pytest.mark.attacks
def test_no_changed_byte_of_a_bundle_is_trusted(world: RotatedRegistry) -> None:
    """A sample of the bundle's bytes, each changed in one bit: refused, unless the bundle says the same."""
    data = world.bundle().to_json()
    bundle = Bundle.from_json(data)
    for position in range(0, len(data), 23):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        opened = open_bundle(bytes(flipped), world.registry_id)
        assert isinstance(opened, Verdict) or Bundle.from_json(bytes(flipped)) == bundle
        assert not isinstance(opened, Verdict) or opened.outcome is not Outcome.VALID


def test_the_containers_may_be_respelt(world: RotatedRegistry) -> None:
    """What is not signed carries no meaning: white space, member order and the base64 alphabet of envelopes."""
    index, signed = world.attested[12]
    said = signed.to_object()
    said["payload"] = str(said["payload"]).replace("+", "-").replace("/", "_")
    respelt = json.dumps(dict(reversed(said.items())), indent=2).encode()
    proof = TlogProof(index, world.statements.proof(index), world.statements.checkpoint(), respelt)
    assert world.judge(proof.to_bytes()).code is Code.VALID_KEY_ACTIVE
    bundle = json.dumps(json.loads(world.bundle().to_json()), indent=1).encode()
    assert isinstance(open_bundle(bundle, world.registry_id), TrustedRegistry)


WORLD = RotatedRegistry()
EVIDENCE, BUNDLE = WORLD.genuine(12), WORLD.bundle().to_json()


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """The data with a piece replaced: by random bytes, by another piece of itself, or by nothing."""
    places = st.integers(0, len(data))
    pieces = st.binary(max_size=20) | st.builds(lambda at, size: data[at : at + size], places, st.integers(0, 300))
    return st.builds(lambda at, size, piece: data[:at] + piece + data[at + size :], places, st.integers(0, 300), pieces)


@pytest.mark.attacks
@settings(max_examples=400)
@given(data=mutated(EVIDENCE) | mutated(WORLD.attested[12][1].to_json()) | st.binary(max_size=200))
def test_mutated_evidence_is_never_valid(trusted: TrustedRegistry, data: bytes) -> None:
    """Whatever is cut, copied or put in: a verdict, and VALID only for the same evidence."""
    verdict = judge(trusted, data, event_hash=None, environments=PRODUCTION)
    assert verdict.outcome is not Outcome.VALID or same_evidence(data, EVIDENCE)


@pytest.mark.attacks
@settings(max_examples=200)
@given(data=mutated(BUNDLE) | st.binary(max_size=200))
def test_a_mutated_bundle_is_never_trusted(data: bytes) -> None:
    """Whatever is cut, copied or put in: a verdict, or the same bundle."""
    opened = open_bundle(data, WORLD.registry_id)
    assert isinstance(opened, Verdict) or Bundle.from_json(data) == Bundle.from_json(BUNDLE)


@pytest.mark.attacks
@settings(max_examples=100)
@given(where=st.integers(0, 11), piece=st.text(max_size=3) | st.none(), member=st.booleans())
def test_a_signed_statement_of_another_form_is_bad(where: int, piece: str | None, member: bool) -> None:
    """The valid key's signature under a body that is no statement gets BAD_FORMAT and nothing else."""
    said = json.loads(WORLD.attested[12][1].body)
    name = sorted(said)[where]
    if member:
        del said[name]
    else:
        said[name] = piece
    body = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        Statement.decode(body)
    except FormatError:
        code = WORLD.judge(envelope(STATEMENT_TYPE, body, WORLD.b).to_json()).code
        assert code is Code.BAD_FORMAT
