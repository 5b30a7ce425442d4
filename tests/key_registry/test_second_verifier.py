"""The second verifier, written from docs/format.md alone, gives the verdicts of the product on everything there is."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from key_registry.bundle import Bundle
from tests.attacks.attack import Attack, Presented
from tests.attacks.test_attacks import CASES as ATTACKS
from tests.attacks.years import Years
from tests.key_registry.agreement import agreed, agreed_on_bundle, bundle_of
from tests.key_registry.lived_registry import LivedRegistry
from tests.key_registry.software_registry import RotatedRegistry
from tests.key_registry.test_judge import ATTACKS as FORGERIES
from tests.key_registry.test_judge import Attack as Forgery
from tests.key_registry.test_judge_hostile import HOSTILE
from tests.key_registry.test_replay import CASES as RECORDS
from tests.key_registry.test_replay import Case
from tests.second_verifier import verifier
from tests.vectors import make
from tests.vectors.worlds import World

VECTORS = list(make.recorded())
FOLDER = Path(verifier.__file__).parent
PRODUCT = ("hsm", "key_registry", "witness_service")


# The vectors


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: row["name"])
def test_both_judge_a_vector_as_recorded(row: dict[str, Any]) -> None:
    """Code, completeness and interval of the frozen files."""
    bundle, evidence = ((make.FOLDER / row[name]).read_bytes() for name in ("bundle", "evidence"))
    arguments = (bundle, row["registry_id"], evidence, row["event_hash"], frozenset(row["environments"]))
    assert agreed(*arguments) == row["code"]
    judged = verifier.verify(*arguments)
    for said, recorded in ((judged.not_before, row["not_before"]), (judged.existed_by, row["existed_by"])):
        assert said == (recorded and (recorded["time"], recorded["source"]))
    assert judged.completeness == row["completeness"]


def test_the_vectors_have_every_code() -> None:
    """All that a single piece of evidence can get, which leaves out the code for two; and many of them."""
    codes = Counter(row["code"] for row in VECTORS)
    assert set(codes) == set(verifier.CODES) - {"EQUIVOCATION"}
    assert len({row["name"] for row in VECTORS}) == len(VECTORS) >= 40


def test_the_vectors_are_what_their_maker_makes() -> None:
    """The files are those of `python -m tests.vectors.make`, byte by byte, and no others."""
    made = make.files()
    kept = [file for folder in ("bundles", "evidence") for file in (make.FOLDER / folder).iterdir()]
    assert {f"{file.parent.name}/{file.name}" for file in kept} | {make.TABLE} == set(made)
    different = [path for path, data in made.items() if (make.FOLDER / path).read_bytes() != data]
    assert different == []


# What the tests of judging build


def presented(made: Presented | Bundle | bytes | tuple[bytes, Bundle]) -> Presented:
    """Return what a row of a table makes, as the parts that it may have."""
    if isinstance(made, Presented):
        return made
    if isinstance(made, tuple):
        return Presented(*made)
    return Presented(made) if isinstance(made, bytes) else Presented(bundle=made)


def to_bytes(bundle: Bundle | bytes) -> bytes:
    return bundle if isinstance(bundle, bytes) else bundle.to_json()


@pytest.mark.attacks
@pytest.mark.parametrize(("attack", "policy"), ATTACKS)
def test_both_agree_on_an_attack(attack: Attack, policy: str) -> None:
    """Whatever an attacker presents gets the same code from both, and the same interval."""
    world = Years(cosigned=policy == "cosigned")
    made, code = presented(attack.make(world)), attack.expected(policy)
    assert code is not None
    bundle = to_bytes(made.bundle or world.now_published.bundle)
    first = world.genuine(12) if made.evidence is None else made.evidence
    found = agreed(bundle, world.registry_id, first, made.expected)
    if made.other is None:
        assert found == code.name
    else:
        assert agreed(bundle, world.registry_id, made.other) in verifier.CODES


@pytest.mark.attacks
@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
def test_both_agree_on_a_forgery(forgery: Forgery) -> None:
    """The table of the judging tests."""
    world = RotatedRegistry()
    made = presented(forgery.make(world))
    evidence = world.genuine(12) if made.evidence is None else made.evidence
    bundle = to_bytes(made.bundle or world.bundle())
    assert agreed(bundle, world.registry_id, evidence, forgery.expected) == forgery.code.name


@pytest.mark.parametrize("name", HOSTILE)
def test_both_agree_on_hostile_bytes(name: str) -> None:
    """As evidence and as a bundle."""
    world = RotatedRegistry()
    assert agreed(world.bundle().to_json(), world.registry_id, HOSTILE[name]) == "BAD_FORMAT"
    assert agreed_on_bundle(HOSTILE[name], world.registry_id) == "REGISTRY_INVALID"


@pytest.mark.parametrize("case", RECORDS, ids=lambda case: case.name)
def test_both_agree_on_what_follows(case: Case) -> None:
    """The table of the replay tests, each record as the last of a bundle."""
    world = LivedRegistry()
    bundle = bundle_of(world, world.registry.envelopes)
    # Its log is left as it is: an envelope without signatures, of which there is one, has no entry.
    longer = replace(bundle, records=(*bundle.records, case.make(world)))
    if longer.records[-1].signatures:
        longer = bundle_of(world, longer.records)
    code = agreed_on_bundle(longer.to_json(), world.registry_id)
    assert code == (None if case.wrong is None else "REGISTRY_INVALID")


@pytest.mark.parametrize("cosigned", [False, True])
@pytest.mark.parametrize(
    ("time", "code"),
    [
        ("2026-01-01T00:00:00.000000Z", "VALID_KEY_ACTIVE"),
        ("2025-12-31T23:00:00.000000Z", "TIME_INCONSISTENT"),
        ("0001-01-01T00:00:00.000000Z", "TIME_INCONSISTENT"),
        ("9999-12-31T23:59:59.999999Z", "VALID_KEY_ACTIVE"),
    ],
)
def test_both_agree_on_a_timestamp(cosigned: bool, time: str, code: str) -> None:
    """What an authority says about the checkpoint bounds the interval, where it is earlier than the cosigners."""
    world = World(cosigned=cosigned)
    text = world.published.decode().partition("\n\n")[0] + "\n"
    bundle = world.newest.to_json()
    for seen_by, expected in (({text: time}, code), ({text + "x": time}, "VALID_KEY_ACTIVE")):
        assert agreed(bundle, world.registry_id, world.genuine(20), seen_by=seen_by) == expected


# On its own


def test_it_imports_nothing_of_the_product() -> None:
    """Every import is of itself, the standard library or `cryptography`."""
    names = set[str]()
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).partition(".")[0])
            else:
                assert not isinstance(node, ast.ImportFrom) or node.level == 1
    assert names <= sys.stdlib_module_names | {"cryptography"}
    assert "cryptography" in names


HIDING = """
import importlib.abc, runpy, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {product!r} + ("tests",):
            raise ImportError(name + " is hidden")

sys.meta_path.insert(0, Hidden())
sys.path.insert(0, {folder!r})
try:
    runpy.run_module("second_verifier", run_name="__main__", alter_sys=True)
finally:
    assert not {{name.partition(".")[0] for name in sys.modules}} & set({product!r})
"""


def program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the second verifier as a program, from a copy, with the product hidden."""
    shutil.copytree(
        FOLDER, folder / "second_verifier", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
    code = HIDING.format(product=PRODUCT, folder=str(folder))
    command = [sys.executable, "-I", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=make.FOLDER)


def rows_by_exit() -> Iterator[tuple[int, dict[str, Any]]]:
    """Return a row of one bundle for each exit code."""
    rows = [row for row in VECTORS if (row["bundle"], row["event_hash"]) == ("bundles/operator.json", None)]
    for status in (0, 1, 2):
        yield status, next(row for row in rows if verifier.outcome(row["code"]) == status)


def test_it_is_a_program_without_the_product(tmp_path: Path) -> None:
    """The code of each file on a line, and the exit code of the worst outcome; nothing of the product is there."""
    rows = list(rows_by_exit())
    for status, row in rows:
        done = program(tmp_path, "--bundle", row["bundle"], "--registry-id", row["registry_id"], row["evidence"])
        assert (done.returncode, done.stdout, done.stderr) == (status, f"{row['code']} {row['evidence']}\n", "")
    files = [row["evidence"] for _, row in rows]
    done = program(tmp_path, "--bundle", rows[0][1]["bundle"], "--registry-id", rows[0][1]["registry_id"], *files)
    assert [line.split(" ")[0] for line in done.stdout.splitlines()] == [row["code"] for _, row in rows]
    assert done.returncode == 1
