"""Where the service is: options, environment and state folder."""

import json
from pathlib import Path

import pytest
from typer import BadParameter

from witness_service.cli.failure import InputProblem
from witness_service.cli.where import Where, find
from witness_service.refusal import Code, Refused

REGISTRY_ID = "ab" * 32
OTHER_ID = "cd" * 32


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder as `witness dev` leaves it while it serves."""
    folder = tmp_path / "state"
    folder.mkdir()
    announced = {
        "address": "127.0.0.1:7233",
        "registry_id": REGISTRY_ID,
        "lead_key": str(folder / "lead.pem"),
        "pid": 1,
        "environment": "development",
    }
    (folder / "dev.json").write_text(json.dumps(announced))
    return folder


def test_the_state_folder_says_address_registry_and_lead_key(state: Path) -> None:
    """With a state folder nothing else need be given."""
    assert find(None, state, environ={}) == Where("127.0.0.1:7233", REGISTRY_ID, state / "lead.pem")


def test_options_go_before_the_environment(state: Path) -> None:
    """A folder named on the command line counts more than an address in the environment, and vice versa."""
    environ = {"WITNESS_ADDRESS": "10.0.0.1:1", "WITNESS_STATE": "/nowhere"}
    assert find(None, state, environ=environ).address == "127.0.0.1:7233"
    assert find("10.0.0.2:2", None, environ=environ) == Where("10.0.0.2:2")
    assert find(None, None, environ=environ) == Where("10.0.0.1:1")


def test_the_environment_names_a_state_folder(state: Path) -> None:
    """WITNESS_STATE stands in for --state."""
    assert find(None, None, environ={"WITNESS_STATE": str(state)}).registry_id == REGISTRY_ID


def test_a_given_registry_id_goes_before_that_of_the_folder(state: Path) -> None:
    """What the caller pins is what answers are checked against."""
    assert find(None, state, OTHER_ID, environ={}).registry_id == OTHER_ID


def test_address_and_state_together_are_wrong_usage(state: Path) -> None:
    """Two places at once are not resolved silently."""
    with pytest.raises(BadParameter, match="either --address or --state"):
        find("10.0.0.1:1", state, environ={})


@pytest.mark.parametrize("registry_id", ["", "AB" * 32, "ab" * 31, "zz" * 32])
def test_a_registry_id_of_another_form_is_wrong_usage(registry_id: str) -> None:
    """A pin with a typing error is refused, not used."""
    with pytest.raises(BadParameter, match="64 lower-case"):
        find("10.0.0.1:1", None, registry_id, environ={})


def test_without_any_place_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody named a service: the message lists the ways to name one and how to start one."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused) as refused:
        find(None, None, environ={})
    assert refused.value.code is Code.UNAVAILABLE
    assert refused.value.reason == "NO_ADDRESS"
    for hint in ("--address", "WITNESS_ADDRESS", ".witness/dev.json", "witness dev"):
        assert hint in refused.value.message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"address": 7233}',
        b'{"address": "127.0.0.1:1"}',
        b'{"address": "127.0.0.1:1", "registry_id": "short"}',
    ],
    ids=repr,
)
def test_a_broken_dev_file_is_an_input_problem_that_names_it(tmp_path: Path, content: bytes) -> None:
    """A damaged dev.json is said to be damaged, with its path, and never taken for a service that is down."""
    (tmp_path / "dev.json").write_bytes(content)
    with pytest.raises(InputProblem, match=r"dev\.json"):
        find(None, tmp_path, environ={})
