"""How a batch is spread over signer processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.shares import shares


@given(
    count=st.integers(min_value=0, max_value=500),
    outstanding=st.lists(st.integers(min_value=0, max_value=40), min_size=1, max_size=5),
    fill=st.integers(min_value=1, max_value=16),
)
def test_nothing_is_lost_and_no_process_is_woken_too_early(count: int, outstanding: list[int], fill: int) -> None:
    """The shares add up; an idle process gets work only when every working one is filled."""
    given_ = shares(count, outstanding, fill)
    assert sum(given_) == count
    assert all(share >= 0 for share in given_)
    loads = [load + share for load, share in zip(outstanding, given_, strict=True)]
    woken = [i for i, load in enumerate(outstanding) if load == 0 and given_[i]]
    if woken:
        assert all(loads[i] >= fill for i, load in enumerate(outstanding) if load)
        assert sum(loads[i] < fill for i in woken) <= 1


@given(
    count=st.integers(min_value=100, max_value=1000),
    processes=st.integers(min_value=1, max_value=5),
    fill=st.integers(min_value=1, max_value=16),
)
def test_a_large_batch_is_spread_evenly(count: int, processes: int, fill: int) -> None:
    """No process gets more than a filling more than another."""
    loads = shares(count, [0] * processes, fill)
    assert max(loads) - min(loads) <= fill


@pytest.mark.parametrize(
    ("count", "outstanding", "expected"),
    [
        (1, [0, 0], [1, 0]),
        (8, [0, 0], [8, 0]),
        (9, [0, 0], [8, 1]),
        (64, [0, 0], [32, 32]),
        (1, [3, 0], [1, 0]),
        (1, [0, 3], [0, 1]),
        (1, [8, 0], [0, 1]),
        (1, [20, 9], [0, 1]),
        (6, [3, 0], [5, 1]),
    ],
)
def test_examples(count: int, outstanding: list[int], expected: list[int]) -> None:
    """With eight messages to a filling."""
    assert shares(count, outstanding, 8) == expected
