"""Files that commands write."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from witness_service.cli.failure import InputProblem
from witness_service.cli.files import LONGEST_NAME, make_folder, stream_folder, write_file

streams = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255)


@given(streams)
def test_every_stream_has_a_folder_name(stream: str) -> None:
    """A stream's folder is one plain, visible name that file systems take, whatever the stream is called."""
    name = stream_folder(stream)
    assert name.isascii()
    assert 0 < len(name) <= LONGEST_NAME
    assert "/" not in name
    assert not name.startswith(".")


@given(streams, streams)
def test_two_streams_never_share_a_folder(one: str, other: str) -> None:
    """Different streams have different folders, so that no evidence overwrites another's."""
    assert (stream_folder(one) == stream_folder(other)) == (one == other)


@pytest.mark.parametrize("stream", ["..", ".", "a/b", "../../etc/passwd", "%2E%2E", "x" * 255, "é" * 127])
def test_names_that_would_lead_elsewhere_do_not(stream: str, tmp_path: Path) -> None:
    """A hostile stream name stays inside the folder it is written to."""
    assert (tmp_path / stream_folder(stream)).resolve().parent == tmp_path.resolve()


def test_long_names_that_start_alike_stay_apart() -> None:
    """The cut of a long name does not make two streams one."""
    assert stream_folder("ü" * 120 + "a") != stream_folder("ü" * 120 + "b")


def test_writing_replaces_a_file_as_a_whole(tmp_path: Path) -> None:
    """What stood under the name is replaced, and nothing is left beside it."""
    path = tmp_path / "bundle.json"
    write_file(path, b"first, and longer")
    write_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_an_input_problem(tmp_path: Path) -> None:
    """The message names the file; nothing half-written stays."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputProblem, match="cannot be written"):
        write_file(tmp_path / "file" / "below", b"x")
    with pytest.raises(InputProblem, match="expected a folder"):
        make_folder(tmp_path / "file" / "below")
