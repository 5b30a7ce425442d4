"""The client's single calls: answers, refusals, and when it asks again."""

import socket
import threading
from collections.abc import Iterator
from time import monotonic

import grpc
import pytest

from tests.witness_service.wire_stage import Stage, attested, event, new_stage, serving
from witness_service.refusal import Code, Reason, Refused
from witness_service.wire.client import WitnessClient

UNAVAILABLE = Refused(Code.UNAVAILABLE, Reason.HSM_UNAVAILABLE, "the token did not sign", {"fault": "DEVICE"})


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A server that answers as the test says."""
    with serving(new_stage()) as stage:
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[WitnessClient]:
    """A client of the stage."""
    with WitnessClient(stage.address) as client:
        yield client


def test_an_answer_comes_as_values(client: WitnessClient) -> None:
    """Every field of an attestation arrives, bytes as bytes."""
    assert client.sign(event(7)) == (attested(7),)


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.name)
def test_a_refusal_arrives_whole(stage: Stage, client: WitnessClient, code: Code) -> None:
    """Code, reason, message, facts and evidence of a refusal are those the service gave."""
    given = Refused(code, "SOME_REASON", "expected this, got that", {"field": "stream"}, (attested(7),))
    stage.failures = [given]
    with pytest.raises(Refused) as refused:
        client.sign(event(7))
    got = refused.value
    assert (got.code, got.reason, got.message, got.metadata, got.existing) == (
        given.code,
        given.reason,
        given.message,
        given.metadata,
        given.existing,
    )


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Code.UNAVAILABLE, "UNREACHABLE"),
        (grpc.StatusCode.CANCELLED, Code.UNAVAILABLE, "OUTCOME_UNKNOWN"),
        (grpc.StatusCode.UNAUTHENTICATED, Code.PERMISSION_DENIED, "UNAUTHENTICATED"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Code.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"),
        (grpc.StatusCode.UNKNOWN, Code.INTERNAL, "UNKNOWN"),
        (grpc.StatusCode.DATA_LOSS, Code.INTERNAL, "DATA_LOSS"),
    ],
)
def test_a_bare_status_becomes_a_refusal(
    stage: Stage, client: WitnessClient, status: grpc.StatusCode, code: Code, reason: str
) -> None:
    """A status without details, from a proxy or from gRPC itself, is a Refused too, never a gRPC error."""
    stage.failures = [status]
    with pytest.raises(Refused) as refused:
        client.sign(event(0))
    assert (refused.value.code, refused.value.reason) == (code, reason)


def test_a_server_without_the_service_is_said_to_be_one(stage: Stage, client: WitnessClient) -> None:
    """A server that does not know the call is named as what it is."""
    with pytest.raises(Refused, match="does not know the call"):
        client.keys()


def test_unavailable_is_asked_again(stage: Stage, client: WitnessClient) -> None:
    """Signing is idempotent, so that a passing fault costs the caller nothing but time."""
    stage.failures = [UNAVAILABLE, UNAVAILABLE]
    assert client.sign(event(7), retry_for=20.0) == (attested(7),)
    assert stage.calls == 3


def test_without_time_to_retry_the_first_refusal_counts(stage: Stage, client: WitnessClient) -> None:
    """A caller that does not want to wait gets the refusal at once."""
    stage.failures = [UNAVAILABLE]
    with pytest.raises(Refused):
        client.sign(event(7))
    assert stage.calls == 1


def test_a_final_refusal_is_not_asked_again(stage: Stage, client: WitnessClient) -> None:
    """What asking again cannot change is asked once."""
    stage.failures = [Refused(Code.ABORTED, Reason.SEQUENCE_GAP, "expected 3, got 7")]
    with pytest.raises(Refused, match="SEQUENCE_GAP"):
        client.sign(event(7), retry_for=20.0)
    assert stage.calls == 1


def test_retries_end_in_time(stage: Stage, client: WitnessClient) -> None:
    """A fault that stays ends in a refusal when the time for retries is over."""
    stage.failures = [UNAVAILABLE] * 1000
    began = monotonic()
    with pytest.raises(Refused) as refused:
        client.sign(event(7), retry_for=0.5)
    assert refused.value.reason == Reason.HSM_UNAVAILABLE
    assert 0.4 < monotonic() - began < 10
    assert 1 < stage.calls < 1000


def test_a_service_that_does_not_answer_leaves_the_outcome_unknown(stage: Stage, client: WitnessClient) -> None:
    """When the client's own time is over nobody knows what became of the event, and the refusal says so."""
    stage.held.set()
    with pytest.raises(Refused) as refused:
        client.sign(event(7), timeout=0.2)
    assert (refused.value.code, refused.value.reason) == (Code.DEADLINE_EXCEEDED, Reason.OUTCOME_UNKNOWN)


def test_a_client_outlives_a_restart_of_the_service() -> None:
    """The same client reaches a service that came up after its first attempts failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    stage = new_stage()
    failed = threading.Event()
    with WitnessClient(address) as client:

        def serve_later() -> None:
            assert failed.wait(30)
            with serving(stage, address):
                signed.wait(30)

        signed = threading.Event()
        later = threading.Thread(target=serve_later)
        later.start()
        with pytest.raises(Refused, match="UNREACHABLE"):
            client.sign(event(7))
        failed.set()
        try:
            assert client.sign(event(7), retry_for=25.0) == (attested(7),)
        finally:
            signed.set()
            later.join(30)
