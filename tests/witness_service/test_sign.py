"""Signing single events: what is signed, what is refused and how, and that a place has one hash for ever."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from key_registry.statement import Statement
from tests.fix_service import DevService, Foundation, ServeService, serving, until
from tests.fix_softhsm import FaultyToken
from tests.witness_service.chain import Chain, rich_status, sign_at_once
from tests.witness_service.judging import check_stored, codes, stored
from tests.witness_service.rotating import rotate, witness_ids
from witness_service.embedded_postgres import EmbeddedPostgres
from witness_service.event import Attested, Event
from witness_service.refusal import Code, Refused
from witness_service.v1 import attestation_pb2, witness_pb2, witness_pb2_grpc
from witness_service.wire.answers import event_message
from witness_service.wire.client import WitnessClient

HASH = "sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def counted(
    foundation: Foundation,
    postgres: EmbeddedPostgres,
    fault_module: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServeService, FaultyToken]]:
    """A service whose token counts what is asked of it, with streams of every link rule."""
    with serving(foundation, postgres, tmp_path_factory.mktemp("counted") / "service") as service:
        token = service.behind(fault_module)
        service.configuration["streams"] = [
            {"pattern": "recorded/*", "link": "recorded"},
            {"pattern": "unlinked/*", "link": "none"},
        ]
        service.configuration["limits"] = {"min_deadline_seconds": 1.0, "default_deadline_seconds": 1.5}
        yield service.start(), token


@pytest.fixture
def client(dev_service: DevService) -> Iterator[WitnessClient]:
    """A connection to the shared service."""
    with WitnessClient(dev_service.address) as connected:
        yield connected


def refusal(client: WitnessClient, event: Event) -> Refused:
    """Sign an event, expecting that it is refused, and return the refusal."""
    with pytest.raises(Refused) as caught:
        client.sign(event)
    return caught.value


def test_a_statement_says_what_was_asked(dev_service: DevService, client: WitnessClient) -> None:
    """Every field of the event stands in the signed bytes, with witness, key, registry head and environment."""
    event = Chain().event(7)
    (attested,) = client.sign(event)
    said = Statement.decode(attested.statement)
    status = client.status()
    assert {name: getattr(said, name) for name in Event.__slots__} == {
        name: getattr(event, name) for name in Event.__slots__
    }
    assert (said.environment, said.registry_id) == ("development", dev_service.registry_id)
    assert (said.registry_size, said.registry_root) == (status.registry_size, status.registry_root)
    assert (attested.stream, attested.sequence, attested.key_id) == (event.stream, event.sequence, said.key_id)
    (key,) = [key for key in client.keys().keys if key.key_id == said.key_id]
    assert (key.witness_id, key.state) == (said.witness_id, "open")
    assert client.get(event.stream, event.sequence) == (attested,)


def test_what_is_signed_is_judged_valid(dev_service: DevService, client: WitnessClient) -> None:
    """An auditor with bundle and evidence finds every signature valid."""
    chain = Chain()
    for event in chain.events(0, 5):
        client.sign(event)
    assert codes(dev_service, chain) == {"VALID_KEY_ACTIVE": 5}


def test_the_witnesses_take_turns(dev_service: DevService, client: WitnessClient) -> None:
    """Who signs is drawn anew for each place, so that no witness signs everything."""
    chain = Chain()
    for batch in client.sign_stream([chain.events(0, 60)]):
        signers = {Statement.decode(item[0].statement).witness_id for item in batch if not isinstance(item, Refused)}
    assert len(signers) == 3


# -- the same again -------------------------------------------------------------------------------------------------


def test_the_same_event_again_gives_the_same_bytes(client: WitnessClient) -> None:
    """Asking again is always safe."""
    event = Chain().event(0)
    assert client.sign(event) == client.sign(event)


def test_case_05_a_thousand_at_once_are_one_signature(counted: tuple[ServeService, FaultyToken]) -> None:
    """A thousand callers with the same event get the same bytes; the token signs once, one attestation is stored."""
    service, token = counted
    chain = Chain()
    before = token.calls("C_SignInit")
    answers = sign_at_once(service.address, [chain.event(0)] * 1000)
    assert token.calls("C_SignInit") - before == 1
    assert len(set(answers)) == 1
    with service.auditor() as database:
        (row,) = check_stored(database, chain.stream, [answers[0]] if isinstance(answers[0], Attested) else [])
    assert row[0] == 0


def test_case_05_after_rotation_and_restart(service: ServeService) -> None:
    """What was signed stays as it is when every key has been replaced and another process answers."""
    service.start()
    chain = Chain()
    with WitnessClient(service.address) as client:
        first = [client.sign(event) for event in chain.events(0, 6)]
    for witness_id in witness_ids(service.address):
        rotate(service.address, service.lead_key, witness_id)
    with WitnessClient(service.address) as client:
        assert [client.sign(event) for event in chain.events(0, 6)] == first
        last = client.sign(chain.event(6))
    assert service.stop() == 0
    service.start()
    with WitnessClient(service.address) as client:
        assert [client.sign(event) for event in chain.events(0, 7)] == [*first, last]
    with service.auditor() as database:
        assert len(check_stored(database, chain.stream, [item for (item,) in [*first, last]])) == 7
    assert codes(service, chain) == {"VALID_KEY_ROTATED": 6, "VALID_KEY_ACTIVE": 1}


# -- bad input ------------------------------------------------------------------------------------------------------

BAD_FIELDS = {
    "hash empty": ("event_hash", ""),
    "hash without algorithm": ("event_hash", "ab" * 32),
    "hash of 0 bytes": ("event_hash", "sha256:"),
    "hash of 31 bytes": ("event_hash", "sha256:" + "ab" * 31),
    "hash of 33 bytes": ("event_hash", "sha256:" + "ab" * 33),
    "hash of 64 bytes": ("event_hash", "sha256:" + "ab" * 64),
    "hash of 9,000 bytes": ("event_hash", "sha256:" + "ab" * 9000),
    "hash unknown algorithm": ("event_hash", "md5:" + "ab" * 32),
    "hash upper-case digits": ("event_hash", "sha256:" + "AB" * 32),
    "hash upper-case algorithm": ("event_hash", "SHA256:" + "ab" * 32),
    "hash no digits": ("event_hash", "sha256:" + "gh" * 32),
    "hash other digits": ("event_hash", "sha256:" + "\N{ARABIC-INDIC DIGIT ONE}" * 64),
    "hash and a line end": ("event_hash", HASH + "\n"),
    "hash after a blank": ("event_hash", " " + HASH),
    "previous hash empty": ("previous_event_hash", ""),
    "previous hash short": ("previous_event_hash", "sha256:" + "ab" * 31),
    "previous hash upper-case": ("previous_event_hash", "blake3:" + "AB" * 32),
    "stream empty": ("stream", ""),
    "stream of 256 bytes": ("stream", "é" * 128),
    "stream of 10,000 characters": ("stream", "x" * 10_000),
    "stream with NUL": ("stream", "a\0b"),
    "stream with line end": ("stream", "a\nb"),
    "stream with C1 control": ("stream", "a\x85b"),
    "event id empty": ("event_id", ""),
    "event id of 10,000 characters": ("event_id", "x" * 10_000),
    "event id with NUL": ("event_id", "\0"),
    "event id with escape": ("event_id", "\x1b[2J"),
    "event type empty": ("event_type", ""),
    "event type of 10,000 characters": ("event_type", "x" * 10_000),
    "event type with carriage return": ("event_type", 'x\r{"level": "info"}'),
    "sequence of 2^63": ("sequence", 2**63),
    "sequence of 2^64-1": ("sequence", 2**64 - 1),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_case_01_04_bad_input_names_its_field(counted: tuple[ServeService, FaultyToken], case: str) -> None:
    """A field that is not of its form is refused by name, the token is not asked and nothing is stored."""
    service, token = counted
    field, value = BAD_FIELDS[case]
    event = replace(Chain().event(1), **{field: value})  # type: ignore[arg-type]  # that is the point
    before = token.calls("C_SignInit")
    with WitnessClient(service.address) as client:
        refused = refusal(client, event)
    assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "FIELD_INVALID")
    assert refused.metadata == {"field": field}
    assert field in refused.message
    assert len(refused.message) < 300
    assert token.calls("C_SignInit") == before
    with service.auditor() as database:
        assert database.execute(
            "SELECT count(*) FROM witness.streams WHERE name = %s", (Chain().stream,)
        ).fetchone() == (0,)
        if field != "stream":
            assert stored(database, event.stream) == []


def test_a_call_without_an_event_is_bad_input(dev_service: DevService) -> None:
    """A message that lacks its event is one whose stream has no name."""
    with grpc.insecure_channel(dev_service.address) as channel, pytest.raises(grpc.RpcError) as caught:
        witness_pb2_grpc.WitnessStub(channel).Sign(witness_pb2.SignRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_case_03_a_message_over_the_limit(dev_service: DevService, client: WitnessClient) -> None:
    """A message of more than a megabyte reaches no handler, and the next call is answered."""
    chain = Chain()
    huge = replace(chain.event(0), event_id="x" * 2_000_000)
    assert refusal(client, huge).code is Code.RESOURCE_EXHAUSTED
    (attested,) = client.sign(chain.event(0))
    assert attested.sequence == 0


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05\x0a\x03\xff\xfe\xfd"])
def test_case_02_bytes_that_are_no_message(dev_service: DevService, client: WitnessClient, data: bytes) -> None:
    """Malformed protobuf, and text that is not UTF-8, end the call and nothing else."""
    with grpc.insecure_channel(dev_service.address) as channel:
        call: Any = channel.unary_unary("/witness_service.v1.Witness/Sign")
        with pytest.raises(grpc.RpcError) as caught:
            call(data, timeout=10)
        assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)  # type: ignore[attr-defined]
        stream: Any = channel.stream_stream("/witness_service.v1.Witness/SignStream")
        with pytest.raises(grpc.RpcError) as caught:
            next(stream(iter([data]), timeout=10))
    assert error_info(caught.value).reason == "FIELD_INVALID"
    assert client.sign(Chain().event(0))


NAMES = {
    "right to left": "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe \N{HEBREW LETTER ALEF}",
    "sql": "'; DROP TABLE witness.claims; --",
    "sql comment": "a/**/OR/**/1=1%s%%{}$1",
    "log": '","level":"critical","event":"key quarantined',
    "line separator": "a\N{LINE SEPARATOR}b\N{PARAGRAPH SEPARATOR}c",
    "markup": "<script>alert(1)</script>[bold]${jndi:ldap://x}",
    "blanks": "  leading and trailing  ",
    "composed": "e\N{COMBINING ACUTE ACCENT}",
    "noncharacter": "\uffff\U0010ffff",
    "glob": "*",
    "longest": "é" * 127 + "x",
    "path": "../../etc/passwd",
}


@pytest.mark.parametrize("case", NAMES)
def test_case_04_strange_names_are_kept_as_sent(dev_service: DevService, client: WitnessClient, case: str) -> None:
    """A name is data: it comes back as it was sent, is judged, and its events stay in a stream of their own."""
    name = NAMES[case]
    chain = Chain(f"{name}"[:255])
    event = replace(chain.event(0), event_id=name, event_type=name)
    (attested,) = client.sign(event)
    said = Statement.decode(attested.statement)
    assert (said.stream, said.event_id, said.event_type) == (chain.stream, name, name)
    assert client.get(chain.stream, 0) == (attested,)
    assert codes(dev_service, chain) == {"VALID_KEY_ACTIVE": 1}
    assert refusal(client, chain.forked().event(0)).reason == "EQUIVOCATION"


def test_case_04_a_log_line_stays_one_line(dev_service: DevService, client: WitnessClient) -> None:
    """Whatever callers send, the log is one JSON object a line, also where it records who contradicted what."""
    chains = []
    for name in NAMES.values():
        chain = Chain((name + Chain().stream)[-130:])
        client.sign(chain.event(0))
        refusal(client, chain.forked().event(0))
        chains.append(chain)
    lines = [json.loads(line) for line in (dev_service.state / "witness.log").read_text().split("\n")[:-1]]
    assert all(isinstance(line, dict) for line in lines)
    recorded = {line["stream"]: line["hash"] for line in lines if line["event"] == "equivocation refused"}
    for chain in chains:
        assert recorded[chain.stream] == chain.forked().hash(0)


# -- equivocation ---------------------------------------------------------------------------------------------------


def test_case_06_another_hash_is_refused_with_the_first(counted: tuple[ServeService, FaultyToken]) -> None:
    """The second hash for a place is answered with the first attestation, and the token is not asked."""
    service, token = counted
    chain = Chain()
    with WitnessClient(service.address) as client:
        (first,) = client.sign(chain.event(0))
        before = token.calls("C_SignInit")
        refused = refusal(client, chain.forked().event(0))
        assert (refused.code, refused.reason) == (Code.ALREADY_EXISTS, "EQUIVOCATION")
        assert refused.existing == (first,)
        assert refused.metadata["stream"] == chain.stream
        assert token.calls("C_SignInit") == before
        assert client.get(chain.stream, 0) == (first,)


def test_case_06_the_first_is_attached_even_for_the_longest_names(client: WitnessClient) -> None:
    """The evidence fits where gRPC carries it, whatever the names cost."""
    longest = '"' * 255
    event = Event("\\" * 219 + str(Chain().stream)[:36], 0, HASH, "sha256:" + "cd" * 32, longest, longest)
    (first,) = client.sign(event)
    refused = refusal(client, replace(event, event_hash="sha256:" + "ef" * 32))
    assert refused.existing == (first,)


def test_case_06_two_hashes_at_once(dev_service: DevService) -> None:
    """Of two hundred callers with four hashes for one place, those of one hash win; the others all see its bytes."""
    chain = Chain()
    events = [Chain(chain.stream, str(number % 4)).event(0) for number in range(200)]
    answers = sign_at_once(dev_service.address, events)
    signed = {item for item in answers if isinstance(item, Attested)}
    (winner,) = signed
    winning_hash = Statement.decode(winner.statement).event_hash
    for event, answer in zip(events, answers, strict=True):
        if event.event_hash == winning_hash:
            assert answer == winner
        else:
            assert isinstance(answer, Refused)
            assert (answer.reason, answer.existing) == ("EQUIVOCATION", (winner,))
    with dev_service.auditor() as database:
        assert len(check_stored(database, chain.stream, [winner])) == 1


def test_case_06_two_hashes_in_one_message(client: WitnessClient) -> None:
    """Also within one batch the first one counts, and the second gets it as evidence."""
    chain = Chain()
    ((first, second, third),) = client.sign_stream([[chain.event(0), chain.forked().event(0), chain.event(1)]])
    assert isinstance(first, tuple)
    assert isinstance(second, Refused)
    assert (second.reason, second.existing) == ("EQUIVOCATION", first)
    assert isinstance(third, tuple)


def test_case_06_two_hashes_on_two_replicas(service: ServeService) -> None:
    """Two instances on one database give one hash per place, and both the same bytes for it."""
    replica = service.replica()
    try:
        addresses = [service.start().address, replica.start().address]
        chain = Chain()
        previous = None
        for sequence in range(20):
            events = [Chain(chain.stream, fork).event(sequence) for fork in ("", "x")]
            events = [replace(event, previous_event_hash=previous) for event in events] if sequence else events
            answers: list[Attested | Refused] = []
            calls = [(address, event) for address, event in itertools.product(addresses, events)]
            for address in addresses:
                answers += sign_at_once(address, [event for place, event in calls if place == address])
            (winner,) = {item for item in answers if isinstance(item, Attested)}
            refused = [item for item in answers if isinstance(item, Refused)]
            assert [(item.reason, item.existing) for item in refused] == [("EQUIVOCATION", (winner,))] * 2
            previous = Statement.decode(winner.statement).event_hash
        with service.auditor() as database:
            assert len(check_stored(database, chain.stream, [])) == 20
    finally:
        replica.clean()


# -- the stream's order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sequence", "previous", "reason"),
    [
        (12, 11, "SEQUENCE_GAP"),
        (2**63 - 1, 11, "SEQUENCE_GAP"),
        (4, 3, "BELOW_HEAD"),
        (0, None, "BELOW_HEAD"),
        (11, 9, "BROKEN_LINK"),
        (11, None, "BROKEN_LINK"),
    ],
)
def test_case_07_what_does_not_continue_the_stream(
    client: WitnessClient, sequence: int, previous: int | None, reason: str
) -> None:
    """A gap, a place before the start and a wrong link are refused with the head, and the stream goes on from there."""
    chain = Chain()
    for event in chain.events(5, 11):
        client.sign(event)
    link = None if previous is None else chain.hash(previous)
    refused = refusal(client, replace(chain.event(sequence), previous_event_hash=link))
    assert (refused.code, refused.reason) == (Code.ABORTED, reason)
    assert refused.metadata == {
        "stream": chain.stream,
        "head_sequence": "10",
        "head_hash": chain.hash(10),
        "expected_sequence": "11",
    }
    assert client.sign(chain.event(11))


def test_a_stream_may_end_at_the_last_sequence(client: WitnessClient) -> None:
    """The highest sequence is a place like any other; nothing follows it."""
    chain = Chain()
    last = chain.event(2**63 - 1)
    assert client.sign(last) == client.sign(last)
    assert refusal(client, chain.event(0)).reason == "BELOW_HEAD"


def test_the_first_sequence_seen_starts_a_stream(client: WitnessClient) -> None:
    """An event store with a past can be adopted at any place, and has its link recorded."""
    chain = Chain()
    (attested,) = client.sign(chain.event(1_000_000))
    assert Statement.decode(attested.statement).previous_event_hash == chain.hash(999_999)


def test_links_are_only_recorded_where_the_rule_says_so(counted: tuple[ServeService, FaultyToken]) -> None:
    """Under the rule "recorded" any previous hash is signed as it came; sequences must follow all the same."""
    service, _ = counted
    chain = Chain(f"recorded/{Chain().stream}")
    with WitnessClient(service.address) as client:
        client.sign(chain.event(0))
        (attested,) = client.sign(replace(chain.event(1), previous_event_hash=HASH))
        assert Statement.decode(attested.statement).previous_event_hash == HASH
        (unlinked,) = client.sign(replace(chain.event(2), previous_event_hash=None))
        assert Statement.decode(unlinked.statement).previous_event_hash is None
        assert refusal(client, chain.event(4)).reason == "SEQUENCE_GAP"
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": 3}


def test_links_are_refused_where_the_rule_says_so(counted: tuple[ServeService, FaultyToken]) -> None:
    """Under the rule "none" a previous hash is bad input, for the first event as for any other."""
    service, _ = counted
    chain = Chain(f"unlinked/{Chain().stream}")
    with WitnessClient(service.address) as client:
        for sequence in range(2):
            event = replace(chain.event(sequence), previous_event_hash=HASH)
            refused = refusal(client, event)
            assert (refused.code, refused.metadata["field"]) == (Code.INVALID_ARGUMENT, "previous_event_hash")
            assert client.sign(replace(event, previous_event_hash=None))


# -- deadlines ------------------------------------------------------------------------------------------------------


def test_case_40_too_little_time_is_refused_without_side_effect(counted: tuple[ServeService, FaultyToken]) -> None:
    """A call that can hardly be answered in time is refused at once, and leaves nothing behind."""
    service, token = counted
    chain = Chain()
    before = token.calls("C_SignInit")
    with WitnessClient(service.address) as client, pytest.raises(Refused) as caught:
        client.sign(chain.event(0), timeout=0.9)
    assert (caught.value.code, caught.value.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_TOO_NEAR")
    assert token.calls("C_SignInit") == before
    with service.auditor() as database:
        assert stored(database, chain.stream) == []


def test_case_40_no_deadline_gets_the_services_own(counted: tuple[ServeService, FaultyToken]) -> None:
    """A caller without a deadline is answered, at the latest at the service's default, and the work is completed."""
    service, token = counted
    chain = Chain()
    with grpc.insecure_channel(service.address) as channel:
        stub = witness_pb2_grpc.WitnessStub(channel)
        assert stub.Sign(witness_pb2.SignRequest(event=event_message(chain.event(0)))).attestations
        token.order("C_Sign", "sleep", 2000, 1)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Sign(witness_pb2.SignRequest(event=event_message(chain.event(1))))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    assert error_info(caught.value).reason == "OUTCOME_UNKNOWN"
    with service.auditor() as database:
        until(lambda: len([row for row in stored(database, chain.stream) if row[3] is not None]) == 2)


# -- how a refusal is written ---------------------------------------------------------------------------------------


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    """Return the ErrorInfo in the trailers of a failed call, read without the product's own client."""
    status = rich_status(error)
    assert status.code == error.code().value[0]  # type: ignore[attr-defined]
    info = error_details_pb2.ErrorInfo()
    (found,) = [detail for detail in status.details if detail.Is(info.DESCRIPTOR)]
    found.Unpack(info)
    return info


def test_a_refusal_has_the_standard_rich_form(dev_service: DevService) -> None:
    """Any gRPC client finds the reason as google.rpc.ErrorInfo and the first attestation as a packed message."""
    chain = Chain()
    with grpc.insecure_channel(dev_service.address) as channel:
        stub = witness_pb2_grpc.WitnessStub(channel)
        first = stub.Sign(witness_pb2.SignRequest(event=event_message(chain.event(0))), timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Sign(witness_pb2.SignRequest(event=event_message(chain.forked().event(0))), timeout=10)
    info = error_info(caught.value)
    assert (info.domain, info.reason) == ("witness-service", "EQUIVOCATION")
    status = rich_status(caught.value)
    evidence = attestation_pb2.Refusal()
    (found,) = [detail for detail in status.details if detail.Is(evidence.DESCRIPTOR)]
    found.Unpack(evidence)
    assert list(evidence.existing) == list(first.attestations)


@pytest.mark.parametrize(("stream", "sequence"), [("never-written", 0), ("a", 2**63 - 1)])
def test_an_unknown_place_is_not_found(client: WitnessClient, stream: str, sequence: int) -> None:
    """Nothing is invented for a place that was never signed."""
    for ask in (client.get, client.proof):
        with pytest.raises(Refused) as caught:
            ask(stream, sequence)
        assert (caught.value.code, caught.value.reason) == (Code.NOT_FOUND, "NOT_ATTESTED")


@pytest.mark.parametrize(
    ("stream", "sequence", "field"), [("", 0, "stream"), ("a\0", 0, "stream"), ("a", 2**63, "sequence")]
)
def test_a_place_that_cannot_be_is_bad_input(client: WitnessClient, stream: str, sequence: int, field: str) -> None:
    """Reading checks its arguments as signing does."""
    for ask in (client.get, client.proof):
        with pytest.raises(Refused) as caught:
            ask(stream, sequence)
        assert (caught.value.code, caught.value.metadata["field"]) == (Code.INVALID_ARGUMENT, field)
