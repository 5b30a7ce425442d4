"""Every attack ends in the verdict that docs/format.md promises, under the policy `none` and with cosigners."""

from __future__ import annotations

import pytest

from key_registry.verdict import Code, Outcome
from tests.attacks import administrators, forms, replaced_keys, stolen_keys
from tests.attacks.attack import Attack, verdict_on
from tests.attacks.years import Years
from tests.fix_attack_table import RecordAttack

ROWS: list[Attack] = [*stolen_keys.ROWS, *administrators.ROWS, *replaced_keys.ROWS, *forms.ROWS]
CASES = [
    pytest.param(attack, policy, id=f"{policy}-{attack.name}")
    for attack in ROWS
    for policy in ("none", "cosigned")
    if attack.expected(policy) is not None
]

pytestmark = pytest.mark.attacks


@pytest.mark.parametrize(("attack", "policy"), CASES)
def test_an_attack_ends_in_its_verdict(attack: Attack, policy: str, record_attack: RecordAttack) -> None:
    """The verdict is the expected one, and says why in one line."""
    world = Years(cosigned=policy == "cosigned")
    verdict = verdict_on(world, attack.make(world))
    expected = attack.expected(policy)
    assert expected is not None
    record_attack(policy, attack.name, expected.name, verdict.code.name)
    assert verdict.code is expected, verdict.reason
    assert attack.because in verdict.reason
    assert verdict.reason
    assert verdict.reason.isprintable()


def test_the_table_is_large_and_has_every_code() -> None:
    """Each published code is what at least one attack ends in, and each attack has a name of its own."""
    expected = {attack.expected(policy) for attack in ROWS for policy in ("none", "cosigned")} - {None}
    assert set(Code) - expected - {Code.VALID_KEY_ROTATED, Code.VALID_KEY_ACTIVE} == set()
    assert len({attack.name for attack in ROWS}) == len(ROWS) >= 60
    refused = [code for code in expected if code is not None and code.outcome is not Outcome.VALID]
    assert len(refused) == len(Code) - 3
