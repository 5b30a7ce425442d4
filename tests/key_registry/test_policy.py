"""The cosigner policy, against every sentence of C2SP tlog-policy."""

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry import note
from key_registry.errors import FormatError, SignatureError, UnsupportedAlgorithm
from key_registry.policy import MAX_BYTES, MAX_NAMES, NONE, Policy
from tests.key_registry.software_registry import START, SoftwareCosigner, policy_of
from tests.key_registry.test_cosignature import COSIGNED, DID_NOT_COSIGN, PUBLISHED, PUBLISHED_TIME, material

# The specification's example, with the keys of six public cosigners where it elides them, and without its log.
EXAMPLE = """
witness X1 {}
witness X2 {}
witness X3 {}
group X-witnesses 2 X1 X2 X3

witness Y1 {}
witness Y2 {}
witness Y3 {}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
""".format(*COSIGNED[:2], *DID_NOT_COSIGN, *COSIGNED[2:])

X, Y, Z = (SoftwareCosigner(name) for name in "xyz")
W = X.policy_line
WW = X.policy_line + Y.policy_line
WWW = WW + Z.policy_line


# Octets beyond ASCII are opaque: a Kelvin sign, and what is a space or ends a line elsewhere.
ODD = "\u212a\u2028\u00a0\u0085"


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)))


def test_the_specification_s_example() -> None:
    """Two of the three X and one of the three Y, for every subset of the six."""
    policy = Policy.parse(EXAMPLE)
    names = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
    assert tuple(cosigner.name for cosigner in policy.cosigners) == names
    assert policy.asks_cosigners
    assert policy.text == EXAMPLE
    for cosigned in subsets(names):
        expected = sum(name[0] == "X" for name in cosigned) >= 2 and any(name[0] == "Y" for name in cosigned)
        assert policy.is_met(cosigned) is expected, cosigned


def test_a_published_checkpoint_meets_the_example() -> None:
    """X1, X2, Y2 and Y3 really cosigned it, all in the same second."""
    policy = Policy.parse(EXAMPLE)
    times = policy.times(note.parse(PUBLISHED.encode()))
    assert times == dict.fromkeys(("X1", "X2", "Y2", "Y3"), PUBLISHED_TIME)
    assert policy.is_met(times)
    assert policy.met_at(times) == policy.met_since(times) == PUBLISHED_TIME
    others = Policy.parse("".join(f"witness {n} {key}\n" for n, key in enumerate(DID_NOT_COSIGN)) + "quorum 0\n")
    assert others.times(note.parse(PUBLISHED.encode())) == {}
    assert others.met_at({}) is None


@pytest.mark.parametrize(
    "text", [NONE, "quorum none\n", WW + "group g any x y\nquorum none\n", "# none\nquorum none\n"]
)
def test_a_policy_can_ask_nobody(text: str) -> None:
    """Everything is enough, and nothing tells a time; cosigners that are listed are verified all the same."""
    policy = Policy.parse(text)
    assert not policy.asks_cosigners
    assert policy.is_met([])
    assert policy.met_at({"x": START}) is None
    assert policy.met_since({"x": START}) is None


FORMS: list[tuple[str, str, set[str]]] = [
    ("one cosigner", W + "quorum x\n", {"x"}),
    ("all", WW + "group g all x y\nquorum g\n", {"xy"}),
    ("any", WW + "group g any x y\nquorum g\n", {"x", "y", "xy"}),
    ("a number", WWW + "group g 2 x y z\nquorum g\n", {"xy", "xz", "yz", "xyz"}),
    ("a group of one", W + "group g 1 x\nquorum g\n", {"x"}),
    ("cosigners nobody needs", WW + "group g any x\nquorum g\n", {"x", "xy"}),
    ("groups nobody needs", WW + "group g any y\nquorum x\n", {"x", "xy"}),
    ("groups in groups", WWW + "group g any x y\ngroup h all g z\ngroup i 1 h\nquorum i\n", {"xz", "yz", "xyz"}),
    ("the quorum line before other lines", W + "quorum x\n" + Y.policy_line, {"x", "xy"}),
    ("tabs, spaces and blank lines", f"\n \t\n\t {W.rstrip()}  \t\n\nquorum\t \tx \n\n", {"x"}),
    ("comments", f"# quorum y\n \t#\n{W}#quorum none\nquorum x\n#", {"x"}),
    ("a number sign inside a line", W.replace("witness x", "witness #x") + "quorum #x\n", {"x"}),
    (
        "names like keywords",
        WW.replace(" x ", " witness ").replace(" y ", " all ") + "group any any witness all\nquorum any\n",
        {"x", "y", "xy"},
    ),
    ("names beyond ASCII", W.replace(" x ", f" {ODD} ") + f"quorum {ODD}\n", {"x"}),
    ("an address", SoftwareCosigner("x", "https://bücher.example/#a").policy_line + "quorum x\n", {"x"}),
]


@pytest.mark.parametrize(("name", "text", "met_by"), FORMS, ids=[form[0] for form in FORMS])
def test_every_form_means_what_the_specification_says(name: str, text: str, met_by: set[str]) -> None:
    """Which subsets of the cosigners meet the policy, and no others."""
    text = text if text.endswith("\n") else text + "\n"
    policy = Policy.parse(text)
    key_to_policy_name = {cosigner.key_name[0]: cosigner.name for cosigner in policy.cosigners}
    keys = tuple(sorted(key_to_policy_name))
    met = {"".join(subset) for subset in subsets(keys) if policy.is_met([key_to_policy_name[key] for key in subset])}
    assert met == {subset for subset in met_by if set(subset) <= set(keys)}
    assert met


def test_an_address_is_kept_as_it_is() -> None:
    """The policy knows no meaning of it; whoever asks the cosigner does."""
    policy = Policy.parse(SoftwareCosigner("x", "https://x.example/a#b").policy_line + "quorum x\n")
    assert [cosigner.url for cosigner in policy.cosigners] == ["https://x.example/a#b"]
    assert Policy.parse(W + "quorum x\n").cosigners[0].url is None


NO_POLICIES: list[tuple[str, str]] = [
    ("nothing", ""),
    ("a blank line", "\n"),
    ("another word", "all"),
    ("none in another case", "None"),
    ("none with a newline", "none\n"),
    ("no quorum", W),
    ("two quorums", W + "quorum x\nquorum x\n"),
    ("two quorums of none", "quorum none\nquorum none\n"),
    ("a quorum of nobody known", W + "quorum y\n"),
    ("a quorum before its definition", "quorum x\n" + W),
    ("a quorum of two", WW + "quorum x y\n"),
    ("a quorum without name", "quorum\n"),
    ("no newline at the end", W + "quorum x"),
    ("carriage returns", (W + "quorum x\n").replace("\n", "\r\n")),
    ("a form feed", W + "quorum x\n\x0c\n"),
    ("a vertical tab between words", W + "quorum\x0bx\n"),
    ("a no-break space between words", W + "quorum\u00a0x\n"),
    ("a line separator between lines", W.rstrip() + "\u2028quorum x\n"),
    ("a null", W + "quorum x\n#\x00\n"),
    ("a delete", W + "quorum x\n#\x7f\n"),
    ("a lone surrogate", W + "quorum x\n#\ud800\n"),
    ("a byte order mark", "\ufeff" + W + "quorum x\n"),
    ("an unknown line", W + "threshold 1\nquorum x\n"),
    ("a keyword in another case", W + "Quorum x\n"),
    ("a log", f"log {COSIGNED[0]}\nquorum none\n"),
    ("a log without key", "log\nquorum none\n"),
    ("a witness named none", W.replace("witness x", "witness none") + "quorum none\n"),
    ("a witness without key", "witness x\nquorum none\n"),
    ("a witness with two addresses", W.rstrip() + " https://a/ https://b/\nquorum x\n"),
    ("a witness twice", W + W + "quorum x\n"),
    ("a key under two names", W + W.replace("witness x", "witness y") + "quorum x\n"),
    ("a name twice", W + Y.policy_line.replace("witness y", "witness x") + "quorum x\n"),
    ("a log's key", f"witness x {note.vkey('x.example', X.key.public)}\nquorum x\n"),
    ("a key twice with other names of keys", f"{W}witness y {material(4, X.key.public.raw, 'y')}\nquorum x\n"),
    ("a group named none", W + "group none any x\nquorum x\n"),
    ("a group named as a witness", W + "group x any x\nquorum x\n"),
    ("a witness named as a group", W + "group y any x\n" + Y.policy_line + "quorum x\n"),
    ("a group twice", WW + "group g any x\ngroup g any y\nquorum g\n"),
    ("a group of none", "group g any none\nquorum g\n"),
    ("a group of itself", W + "group g any x g\nquorum g\n"),
    ("a group of nobody", W + "group g any\nquorum g\n"),
    ("a group of all of nobody", W + "group g all\nquorum x\n"),
    ("a group without threshold", W + "group g\nquorum x\n"),
    ("a group of a later line", "group g any x\n" + W + "quorum g\n"),
    ("a member twice in a group", W + "group g any x x\nquorum g\n"),
    ("a member in two groups", W + "group g any x\ngroup h any x\nquorum g\n"),
    ("a group in two groups", W + "group g any x\ngroup h any g\ngroup i any g\nquorum h\n"),
    ("a threshold of 0", W + "group g 0 x\nquorum g\n"),
    ("a threshold above the members", WW + "group g 3 x y\nquorum g\n"),
    ("a threshold with leading zero", W + "group g 01 x\nquorum g\n"),
    ("a threshold with sign", W + "group g +1 x\nquorum g\n"),
    ("a negative threshold", W + "group g -1 x\nquorum g\n"),
    ("a threshold in other digits", W + "group g \u0661 x\nquorum g\n"),
    ("a threshold in hex", W + "group g 0x1 x\nquorum g\n"),
    ("a huge threshold", W + f"group g {'9' * 5000} x\nquorum g\n"),
    ("a threshold in another case", W + "group g ANY x\nquorum g\n"),
    ("too much", W + "quorum x\n" + "#" * MAX_BYTES + "\n"),
]


@pytest.mark.parametrize(("name", "text"), NO_POLICIES, ids=[name for name, _ in NO_POLICIES])
def test_other_texts_are_refused(name: str, text: str) -> None:
    """As malformed, never as merely unknown: a policy that could be read in two ways protects nobody."""
    with pytest.raises(FormatError) as error:
        Policy.parse(text)
    assert not isinstance(error.value, UnsupportedAlgorithm)


def test_the_error_names_the_line() -> None:
    """And what was expected there, escaped."""
    with pytest.raises(FormatError, match=r"^policy, line 3: expected the name .*, got 'y\\u2028'$"):
        Policy.parse("# first\n" + W + "quorum y\u2028\n")


@pytest.mark.parametrize("kind", [0x06, 0x07])
def test_a_cosigner_of_an_unknown_algorithm_makes_the_program_too_old(kind: int) -> None:
    """Not the policy wrong: who may say so is for the rules of records."""
    raw = bytes(1312) if kind == 0x06 else b"a key"
    with pytest.raises(UnsupportedAlgorithm, match="policy, line 2: "):
        Policy.parse(f"{W}witness y {material(kind, raw)}\nquorum x\n")


def test_as_many_as_the_limit_and_no_more() -> None:
    """The specification asks for 32 of each at least."""
    many = [SoftwareCosigner(f"w{number}") for number in range(MAX_NAMES + 1)]
    lines = "".join(it.policy_line for it in many[:-1])
    groups = "".join(f"group g{number} any w{number}\n" for number in range(MAX_NAMES - 1))
    last = f"group g all {' '.join(f'g{number}' for number in range(MAX_NAMES - 1))}\n"
    policy = Policy.parse(lines + groups + last + "quorum g\n")
    assert len(policy.cosigners) == len(policy.groups) == MAX_NAMES >= 32
    assert policy.is_met([it.name for it in many[:-2]])
    assert not policy.is_met([it.name for it in many[1:]])
    for text in (lines + many[-1].policy_line, lines + groups + last + f"group h any w{MAX_NAMES - 1}\n"):
        with pytest.raises(FormatError, match="at most 64"):
            Policy.parse(text + "quorum w0\n")


@pytest.mark.attacks
def test_two_cosigners_can_always_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One who ground a key for somebody else's 32-bit key hash under the same name could spoil their cosignatures."""
    line = X.policy_line + Y.policy_line.replace("y.example/cosigner", X.cosigner.key_name)
    monkeypatch.setattr(note, "key_hash", lambda *_: b"\xab\xcd\xef\x01")
    with pytest.raises(FormatError, match="another name or key hash than that of 'x'"):
        Policy.parse("".join(f"{it}\n" for it in _with_hash(line)) + "quorum x\n")


def _with_hash(lines: str) -> list[str]:
    parted = (line.split("+", 2) for line in lines.splitlines())
    return [f"{name}+abcdef01+{key}" for name, _, key in parted]


@pytest.mark.attacks
def test_names_that_mean_no_cosigner_count_for_nothing() -> None:
    """A group's own name, an unknown one, or one twice are no cosignatures."""
    policy = Policy.parse(policy_of(X, Y, Z, threshold=2))
    assert not policy.is_met(["cosigners"])
    assert not policy.is_met(["x", "x", "x"])
    assert not policy.is_met(["x", "nobody", "X", "none"])
    assert policy.met_at({"cosigners": START, "nobody": START}) is None
    assert policy.is_met(["x", "z", "nobody"])


def test_times_of_a_checkpoint() -> None:
    """Each cosigner's own time; strangers are ignored, and a known one's bad line is an error even if not needed."""
    policy = Policy.parse(policy_of(X, Y, threshold="any"))
    text = "example.com/log\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    x, y, z = X.line(text, START + 1), Y.line(text, START), Z.line(text, START)
    bad_z = note.NoteSignature(z.name, z.key_hash, bytes(72))
    bad_y = note.NoteSignature(y.name, y.key_hash, bytes(72))
    assert policy.times(note.Note(text, (z, bad_z))) == {}
    assert policy.times(note.Note(text, (x, z, y))) == {"x": START + 1, "y": START}
    for lines in ((x, bad_y), (x, y, y)):
        with pytest.raises(SignatureError):
            policy.times(note.Note(text, lines))


def test_when_a_quorum_was_reached() -> None:
    """The earliest time by which enough had cosigned, and the latest that enough reached."""
    policy = Policy.parse(policy_of(X, Y, Z, threshold=2))
    assert [(policy.met_at(times), policy.met_since(times)) for times in ({}, {"x": 5})] == [(None, None)] * 2
    assert (policy.met_at({"x": 5, "y": 9}), policy.met_since({"x": 5, "y": 9})) == (9, 5)
    assert (policy.met_at({"x": 5, "y": 9, "z": 7}), policy.met_since({"x": 5, "y": 9, "z": 7})) == (7, 7)
    assert (policy.met_at({"x": 0, "y": 0, "z": 2**33}), policy.met_since({"x": 0, "y": 0, "z": 2**33})) == (0, 0)


@pytest.mark.attacks
@given(
    threshold=st.integers(1, 5),
    honest=st.lists(st.integers(1000, 2000), min_size=5, max_size=5),
    liars=st.dictionaries(st.integers(0, 4), st.integers(0, 10**10), max_size=4),
)
def test_less_than_a_quorum_of_liars_moves_neither_bound_past_the_truth(
    threshold: int, honest: list[int], liars: dict[int, int]
) -> None:
    """Whatever they claim: no earlier than some honest time by which it existed, no later than some honest time."""
    policy = Policy.parse(policy_of(*(SoftwareCosigner(f"c{n}") for n in range(5)), threshold=threshold))
    liars = dict(list(liars.items())[: threshold - 1])
    times = {f"c{n}": liars.get(n, time) for n, time in enumerate(honest)}
    truthful = [time for n, time in enumerate(honest) if n not in liars]
    by, since = policy.met_at(times), policy.met_since(times)
    assert by is not None
    assert since is not None
    assert by >= min(truthful)
    assert since <= max(truthful)


@given(st.text(alphabet="wx \tg12any#\n\u00e9", max_size=60) | st.text())
def test_no_text_makes_reading_a_policy_fail_otherwise(text: str) -> None:
    """Whatever the text, it is a policy or a FormatError, and a policy can be asked."""
    for candidate in (text, f"{W}{text}\nquorum x\n", f"{WW}group g {text} x y\nquorum g\n"):
        try:
            policy = Policy.parse(candidate)
        except FormatError:
            continue
        assert policy.text == candidate
        assert policy.is_met([cosigner.name for cosigner in policy.cosigners])
