"""Frames between a pool and its signer processes."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm import Fault, HsmError
from hsm.frame import (
    MAX_BODY,
    FrameBuffer,
    Kind,
    decode_outcome,
    decode_pairs,
    encode,
    encode_outcome,
    encode_pairs,
    read,
)

frames = st.tuples(
    st.integers(min_value=0, max_value=2**32 - 1), st.sampled_from(Kind), st.lists(st.binary(max_size=300))
)


@given(sent=st.lists(frames, max_size=5), cut=st.integers(min_value=1, max_value=400))
def test_frames_arrive_whole_however_the_stream_is_cut(sent: list[tuple[int, Kind, list[bytes]]], cut: int) -> None:
    """Both readers give back what was encoded, empty fields and bodies included."""
    stream = b"".join(encode(*frame) for frame in sent)
    buffer = FrameBuffer()
    pieces = [stream[at : at + cut] for at in range(0, len(stream), cut)]
    assert [tuple(frame) for piece in pieces for frame in buffer.feed(piece)] == sent
    file = io.BytesIO(stream)
    assert [tuple(frame) for frame in iter(lambda: read(file), None)] == sent


@given(frame=frames, data=st.data())
def test_a_stream_that_ends_inside_a_frame_is_an_end(frame: tuple[int, Kind, list[bytes]], data: st.DataObject) -> None:
    """Half a frame is never given out: the other side has died in the middle of it."""
    whole = encode(*frame)
    part = whole[: data.draw(st.integers(min_value=0, max_value=len(whole) - 1))]
    assert read(io.BytesIO(part)) is None
    assert list(FrameBuffer().feed(part)) == []


@pytest.mark.parametrize(
    "broken",
    [
        b"\0\0\0\2" + b"\0\0\0\1" + b"\6" + b"\0\0",  # half a field length
        b"\0\0\0\5" + b"\0\0\0\1" + b"\6" + b"\0\0\0\2x",  # a field longer than the frame
        b"\0\0\0\0" + b"\0\0\0\1" + b"\xff",  # an unknown kind
        (MAX_BODY + 1).to_bytes(4) + b"\0\0\0\1" + b"\6",
    ],
)
def test_broken_frames_are_refused(broken: bytes) -> None:
    """They raise; they do not make either side wait, or read beyond."""
    with pytest.raises(ValueError, match=r"expected|not a valid Kind"):
        list(FrameBuffer().feed(broken))
    with pytest.raises(ValueError, match=r"expected|not a valid Kind"):
        read(io.BytesIO(broken))


@given(signature=st.binary())
def test_a_signature_survives(signature: bytes) -> None:
    """Whatever its bytes, a signature comes back as it was, the empty one too."""
    assert decode_outcome(encode_outcome(signature)) == signature


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_survives(fault: Fault) -> None:
    """Class and text come back as they were."""
    error = decode_outcome(encode_outcome(HsmError(fault, "expected ä, got b")))
    assert isinstance(error, HsmError)
    assert (error.fault, str(error)) == (fault, "expected ä, got b")


def test_an_empty_outcome_and_an_unknown_fault_are_refused() -> None:
    """Neither is taken for a signature."""
    for data in (b"", b"\xff?"):
        with pytest.raises(ValueError, match=r"empty field|not a valid Fault"):
            decode_outcome(data)


@given(pairs=st.dictionaries(st.text(), st.text()))
def test_names_and_values_survive(pairs: dict[str, str]) -> None:
    """Attributes come back as they were."""
    assert decode_pairs(encode_pairs(pairs.items())) == pairs
