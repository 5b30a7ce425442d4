"""The tests' cosigner follows C2SP tlog-witness and tlog-cosignature: what is tested against it is worth something."""

from __future__ import annotations

import ast
import base64
import http.client
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.cosigner.consistency import EMPTY, consistent
from tests.cosigner.misbehaviour import MISBEHAVIOURS
from tests.cosigner.note import COSIGNATURE, ED25519, cosignature, key_id, line, raw
from tests.fix_cosigner import RunningCosigner, StartCosigners, policy_text, submitted_checkpoint

ORIGIN = "log.example/statements"
LEAVES = [sha256(b"\x00" + bytes([number])).digest() for number in range(40)]


def tree(leaves: list[bytes]) -> bytes:
    """Return the root as RFC 6962 section 2.1 defines it."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def subproof(old: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """Return the consistency proof as RFC 6962 section 2.1.2 defines it."""
    if old == len(leaves):
        return [] if whole else [tree(leaves)]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if old <= split:
        return [*subproof(old, leaves[:split], whole), tree(leaves[split:])]
    return [*subproof(old - split, leaves[split:], False), tree(leaves[:split])]


class Log:
    """A log with a key of its own; `checkpoint` and `body` can be made wrong by their arguments."""

    def __init__(self, origin: str = ORIGIN) -> None:
        self.origin = origin
        self.key = Ed25519PrivateKey.generate()

    @property
    def vkey(self) -> str:
        material = base64.b64encode(bytes([ED25519]) + raw(self.key)).decode()
        return f"{self.origin}+{key_id(self.origin, ED25519, raw(self.key)).hex()}+{material}"

    def text(self, size: int, root: bytes | None = None) -> str:
        root = tree(LEAVES[:size]) if root is None else root
        return f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"

    def signature(self, text: str) -> str:
        return line(self.origin, key_id(self.origin, ED25519, raw(self.key)), self.key.sign(text.encode()))

    def checkpoint(self, size: int, root: bytes | None = None) -> str:
        text = self.text(size, root)
        return f"{text}\n{self.signature(text)}"

    def body(self, old: int, size: int) -> bytes:
        proof = subproof(old, LEAVES[:size]) if 0 < old <= size else []
        return request(old, proof, self.checkpoint(size))


def request(old: int, proof: list[bytes], checkpoint: str) -> bytes:
    lines = "".join(base64.b64encode(value).decode() + "\n" for value in proof)
    return f"old {old}\n{lines}\n{checkpoint}".encode()


def post(cosigner: RunningCosigner, body: bytes, path: str = "/add-checkpoint") -> tuple[int, str, bytes]:
    """Return status, content type and body of the answer."""
    asked = urllib.request.Request(cosigner.url + path, data=body, method="POST")
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


@pytest.fixture
def log(cosigner: RunningCosigner) -> Log:
    made = Log()
    cosigner.trust(Log("log.example/other").vkey, made.vkey)
    return made


def check_cosignature(cosigner: RunningCosigner, answer: bytes, text: str) -> int:
    """Verify the one line of an answer and return its time."""
    dash, name, encoded = answer.decode().removesuffix("\n").split(" ")
    data = base64.b64decode(encoded)
    assert (dash, name) == ("\u2014", cosigner.key_name)
    assert data[:4] == key_id(name, COSIGNATURE, raw(cosigner.key))
    (time,) = struct.unpack(">Q", data[4:12])
    cosigner.key.public_key().verify(data[12:], f"cosignature/v1\ntime {time}\n{text}".encode())
    return int(time)


def test_it_cosigns_a_log_that_grows(cosigner: RunningCosigner, log: Log) -> None:
    """The first checkpoint needs no proof; each next one continues the one before; the same one is cosigned again."""
    cosigner.set_time(1_700_000_000)
    for old, size in [(0, 0), (0, 3), (3, 3), (3, 8), (8, 21), (21, 40)]:
        status, _, answer = post(cosigner, log.body(old, size))
        assert (status, check_cosignature(cosigner, answer, log.text(size))) == (200, 1_700_000_000)
        assert cosigner.latest(ORIGIN) == (size, tree(LEAVES[:size]))
    assert [entry["status"] for entry in cosigner.requests()] == [200] * 6
    assert submitted_checkpoint(cosigner.requests()[-1]) == log.checkpoint(40)


def test_it_says_which_size_it_knows(cosigner: RunningCosigner, log: Log) -> None:
    """Another old size than the latest cosigned one: 409 with that size as text/x.tlog.size, and nothing is kept."""
    assert post(cosigner, log.body(4, 8)) == (409, "text/x.tlog.size", b"0\n")
    assert post(cosigner, log.body(0, 8))[0] == 200
    assert post(cosigner, log.body(0, 9)) == (409, "text/x.tlog.size", b"8\n")
    assert post(cosigner, log.body(7, 9)) == (409, "text/x.tlog.size", b"8\n")
    assert post(cosigner, log.body(5, 5)) == (409, "text/x.tlog.size", b"8\n")
    assert cosigner.latest(ORIGIN) == (8, tree(LEAVES[:8]))


def _extended(log: Log) -> str:
    text = log.text(8) + "extension\n"
    return f"{text}\n{log.signature(text)}"


def _with_bad_second_line(log: Log) -> str:
    return log.checkpoint(8) + log.signature("another text\n")


STRANGER = Log()
REFUSED: dict[str, tuple[int, Callable[[Log], bytes]]] = {
    "unknown origin": (404, lambda log: Log("log.example/unknown").body(5, 8)),
    "signed by another key": (403, lambda log: STRANGER.body(5, 8)),
    "known key, bad signature": (403, lambda log: request(5, [], log.checkpoint(8).replace("\n8\n", "\n9\n"))),
    "a good and a bad line": (403, lambda log: request(5, [], _with_bad_second_line(log))),
    "old size above the new": (400, lambda log: request(5, [], log.checkpoint(4))),
    "no old line": (400, lambda log: log.body(5, 8).partition(b"\n")[2]),
    "old with leading zero": (400, lambda log: log.body(5, 8).replace(b"old 5", b"old 05")),
    "negative old": (400, lambda log: log.body(5, 8).replace(b"old 5", b"old -5")),
    "size with leading zero": (400, lambda log: request(5, [], log.checkpoint(8).replace("\n8\n", "\n08\n"))),
    "proof line too short": (400, lambda log: log.body(5, 8).replace(b"old 5\n", b"old 5\nAAAA\n")),
    "64 proof lines": (400, lambda log: request(5, [bytes(32)] * 64, log.checkpoint(8))),
    "no checkpoint": (400, lambda log: b"old 5\n\n"),
    "empty": (400, lambda log: b""),
    "not UTF-8": (400, lambda log: b"\xff" + log.body(5, 8)),
    "other root, same size": (409, lambda log: request(5, [], log.checkpoint(5, bytes(32)))),
    "no proof": (422, lambda log: request(5, [], log.checkpoint(8))),
    "proof for another size": (422, lambda log: request(5, subproof(4, LEAVES[:8]), log.checkpoint(8))),
    "a hash too many": (422, lambda log: request(5, [*subproof(5, LEAVES[:8]), bytes(32)], log.checkpoint(8))),
    "proof for the same size": (422, lambda log: request(5, [bytes(32)], log.checkpoint(5))),
    "forked": (422, lambda log: request(5, subproof(5, LEAVES[:8]), log.checkpoint(8, bytes(32)))),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_refuses_as_the_specification_says(cosigner: RunningCosigner, log: Log, case: str) -> None:
    """Each fault has its status, and leaves the latest checkpoint as it was."""
    assert post(cosigner, log.body(0, 5))[0] == 200
    expected, body = REFUSED[case]
    status, content_type, _ = post(cosigner, body(log))
    assert (status, content_type) == (expected, "text/plain; charset=utf-8")
    assert cosigner.latest(ORIGIN) == (5, tree(LEAVES[:5]))


def test_a_proof_from_the_empty_tree_is_empty(cosigner: RunningCosigner, log: Log) -> None:
    assert post(cosigner, request(0, [LEAVES[0]], log.checkpoint(1)))[0] == 422


def test_extension_lines_are_cosigned_too(cosigner: RunningCosigner, log: Log) -> None:
    status, _, answer = post(cosigner, request(0, [], _extended(log)))
    assert status == 200
    check_cosignature(cosigner, answer, log.text(8) + "extension\n")


def test_signatures_by_others_are_ignored(cosigner: RunningCosigner, log: Log) -> None:
    """A line with the log's name and an unknown key id is no signature by the log, good or bad."""
    stranger = Log()
    checkpoint = log.checkpoint(8) + stranger.signature("another text\n")
    assert post(cosigner, request(0, [], checkpoint))[0] == 200


def test_its_word_outlives_it(cosigner: RunningCosigner, log: Log) -> None:
    """It is on disk before the answer leaves; after a kill the same address knows the same size."""
    assert post(cosigner, log.body(0, 5))[0] == 200
    url = cosigner.url
    cosigner.stop()
    with pytest.raises(urllib.error.URLError):
        post(cosigner, log.body(5, 8))
    cosigner.start()
    assert cosigner.url == url
    assert post(cosigner, log.body(0, 8)) == (409, "text/x.tlog.size", b"5\n")


def test_it_can_lose_and_be_given_another_memory(cosigner: RunningCosigner, log: Log) -> None:
    assert post(cosigner, log.body(0, 5))[0] == 200
    cosigner.set_latest(ORIGIN, 30, tree(LEAVES[:30]))
    assert post(cosigner, log.body(5, 8)) == (409, "text/x.tlog.size", b"30\n")
    cosigner.forget()
    assert post(cosigner, log.body(0, 2))[0] == 200


def test_at_most_one_of_many_at_once_moves_it(cosigner: RunningCosigner, log: Log) -> None:
    """Check and record are one step: of requests with one old size only those of one new size are cosigned."""
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda size=size: statuses.append(post(cosigner, log.body(0, size))[0]))
        for size in range(1, 17)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [200] + [409] * 15


def test_each_has_its_own_name_key_and_address(start_cosigners: StartCosigners) -> None:
    three = start_cosigners(3)
    for attribute in ("name", "key_name", "vkey", "url"):
        assert len({getattr(cosigner, attribute) for cosigner in three}) == 3
    assert policy_text(three, 2).endswith("\ngroup cosigners 2 c1 c2 c3\nquorum cosigners\n")


def test_only_its_own_path_is_answered(cosigner: RunningCosigner, log: Log) -> None:
    assert post(cosigner, log.body(0, 5), "/add-tree-head")[0] == 404
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(cosigner.url + "/add-checkpoint", timeout=20)


@pytest.mark.parametrize("how", [*MISBEHAVIOURS, "redirects"])
def test_it_misbehaves_until_told_otherwise(cosigner: RunningCosigner, log: Log, how: str) -> None:
    """No misbehaviour answers with its own good cosignature alone; afterwards it is as good as before."""
    cosigner.set_time(1_700_000_000)
    honest = cosignature(cosigner.key_name, cosigner.key, log.text(5), 1_700_000_000).encode()
    cosigner.misbehave(how)
    assert without_following(cosigner, log.body(0, 5)) != (200, honest)
    cosigner.misbehave(None)
    cosigner.forget()
    assert without_following(cosigner, log.body(0, 5)) == (200, honest)


def without_following(cosigner: RunningCosigner, body: bytes) -> tuple[int, bytes]:
    """Return status and body of the answer, also of a redirection, which urllib would follow."""
    address = cosigner.url.removeprefix("http://").partition("/")[0]
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("POST", f"/{cosigner.key_name}/add-checkpoint", body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_hangs_until_told_otherwise(cosigner: RunningCosigner, log: Log) -> None:
    cosigner.misbehave("hangs")
    asked = urllib.request.Request(cosigner.url + "/add-checkpoint", data=log.body(0, 5), method="POST")
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(asked, timeout=0.3)
    cosigner.misbehave(None)
    assert post(cosigner, log.body(0, 5))[0] == 200


def test_a_credulous_one_cosigns_a_fork(cosigner: RunningCosigner, log: Log) -> None:
    """Only what the log did not sign it still refuses."""
    assert post(cosigner, log.body(0, 8))[0] == 200
    cosigner.misbehave("credulous")
    status, _, answer = post(cosigner, request(0, [], log.checkpoint(5, bytes(32))))
    assert status == 200
    check_cosignature(cosigner, answer, log.text(5, bytes(32)))
    assert post(cosigner, Log().body(0, 5))[0] == 403


def test_consistency_is_what_the_recursion_of_the_specification_says() -> None:
    """Every proof between sizes up to 40 verifies, and none with any hash changed, cut off or added."""
    for new in range(41):
        for old in range(new + 1):
            proof = subproof(old, LEAVES[:new]) if old else []
            roots = tree(LEAVES[:old]), tree(LEAVES[:new])
            assert consistent(old, roots[0], new, roots[1], proof)
            assert not consistent(old, roots[0], new, bytes(32), proof) or (old == 0 and new > 0)
            assert not consistent(old, roots[0], new, roots[1], [*proof, bytes(32)])
            for place in range(len(proof)):
                changed = [*proof[:place], bytes(32), *proof[place + 1 :]]
                assert not consistent(old, roots[0], new, roots[1], changed)
                assert not consistent(old, roots[0], new, roots[1], proof[:place] + proof[place + 1 :])


def test_it_shares_no_code_with_the_product() -> None:
    """A fault of the product cannot be a fault of its judge as well."""
    for file in Path(__file__).parent.glob("*.py"):
        for statement in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
            names += [statement.module or ""] if isinstance(statement, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"hsm", "key_registry", "witness_service"}, file
