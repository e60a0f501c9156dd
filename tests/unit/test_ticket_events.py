"""What is read of go-livepeer's events, and what is refused."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.signed_tickets import SignedTicket
from contracts.ticket_events import BadEvent, id_of, read_event, read_json
from tests.told_tickets import event

NOW = datetime(2031, 5, 17, 8, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1000


def read(account_id: str | None = None, **changes: Any) -> SignedTicket | None:
    return read_event(read_json(json.dumps(event(**changes))), NOW, account_id=account_id)


def as_sent(given: object) -> object:
    return read_json(json.dumps(given))


def refusal(given: object, account_id: str | None = None) -> tuple[str, str]:
    with pytest.raises(BadEvent) as refused:
        read_event(as_sent(given), NOW, account_id=account_id)
    return refused.value.field, refused.value.code


def test_an_event_tells_all_of_a_payment() -> None:
    told = event(17)

    ticket = read_event(as_sent(told), NOW)

    assert ticket == SignedTicket(
        account_id="acme",
        user_id="ann:1",
        event_id=told["id"],
        gateway="",
        state_id="8c1d03aa",
        sequence=17,
        signed_at_ms=told["data"]["current_time_unix"],
        orchestrator="0x00000000000000000000000000000000000000ab",
        job_type="lv2v",
        app="live-video-to-video/a-model",
        tickets=2,
        fee=2_764_811,
        pixels=82_944_339,
        billable_seconds=4,
    )


@pytest.mark.parametrize(
    ("auth_id", "account_id", "user_id"),
    [("acme:ann:1", "acme", "ann:1"), ("acme:", "acme", None), ("acme", "acme", None)],
)
def test_the_account_stands_before_the_first_colon(
    auth_id: str, account_id: str, user_id: str | None
) -> None:
    ticket = read(auth_id=auth_id)

    assert ticket is not None
    assert (ticket.account_id, ticket.user_id) == (account_id, user_id)


def test_an_event_of_nobody_is_of_the_account_that_tells_it() -> None:
    ticket = read("acme", auth_id="")

    assert ticket is not None
    assert (ticket.account_id, ticket.user_id) == ("acme", None)
    assert refusal(event(auth_id="")) == ("data.auth_id", "auth_id_missing")


def test_an_account_tells_its_own_events_only() -> None:
    assert read("acme") is not None
    assert refusal(event(), "another") == ("data.auth_id", "account_not_found")


@pytest.mark.parametrize(
    "auth_id", [":ann", "Acme:ann", "ac:ann", "acme:a b", "acme:lpch_x", "acme:" + "a" * 129]
)
def test_an_auth_id_that_we_never_answered_is_refused(auth_id: str) -> None:
    assert refusal(event(auth_id=auth_id)) == ("data.auth_id", "bad_event")


@pytest.mark.parametrize(
    ("pipeline", "job_type"),
    [("live-video-to-video", "lv2v"), ("live", "live"), ("fixed", "fixed"), ("", "")],
)
def test_the_pipeline_says_the_job_type(pipeline: str, job_type: str) -> None:
    ticket = read(pipeline=pipeline)

    assert ticket is not None
    assert ticket.job_type == job_type


@pytest.mark.parametrize(
    ("seconds", "billable"), [(0, 0), (60, 60), (9.25, 10), (10.000000001, 11), (-0.5, 0)]
)
def test_begun_seconds_count(seconds: float, billable: int) -> None:
    ticket = read(billable_secs=seconds)

    assert ticket is not None
    assert ticket.billable_seconds == billable


def test_what_a_signer_tells_at_the_bounds_is_read() -> None:
    ticket = read(
        computed_fee="9" * 77,
        sequence_number=2**64 - 1,
        num_tickets=0,
        pixels=2**63 - 1,
        app=None,
        current_time_unix=NOW_MS + 60_000,
        gateway="a gateway of ours",
        new_in_a_later_release={"a": 1},
    )

    assert ticket is not None
    assert (ticket.fee, ticket.sequence, ticket.app) == (10**77 - 1, 2**64 - 1, "")


@pytest.mark.parametrize("kind", ["create_new_payment", "a_later_type"])
def test_other_types_tell_no_usage(kind: str) -> None:
    assert read_event({"type": kind}, NOW) is None


@pytest.mark.parametrize("given", [None, 5, "a", [], [{}], {}, {"type": 5}, {"type": None}])
def test_what_is_no_event_is_refused(given: object) -> None:
    assert refusal(given) in {("", "bad_event"), ("type", "bad_event")}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", 5),
        ("id", "not-a-uuid"),
        ("timestamp", None),
        ("timestamp", 1_936_771_199_123),
        ("timestamp", "-1"),
        ("gateway", None),
        ("gateway", "a\nb"),
        ("gateway", "a" * 257),
        ("data", []),
        ("data", None),
        ("app", 5),
        ("app", "a\0b"),
        ("app", "\ud800"),
        ("auth_id", None),
        ("billable_secs", None),
        ("billable_secs", "3"),
        ("billable_secs", True),
        ("billable_secs", 1e300),
        ("computed_fee", None),
        ("computed_fee", 2_764_811),
        ("computed_fee", "2764811.5"),
        ("computed_fee", "-1"),
        ("computed_fee", "1e9"),
        ("computed_fee", "9" * 78),
        ("computed_fee", ""),
        ("computed_fee", "\N{ARABIC-INDIC DIGIT ONE}"),
        ("cost", "-1"),
        ("cost", 0.03),
        ("current_time", 5),
        ("current_time_unix", "1936771199123"),
        ("current_time_unix", 1_936_771_199),
        ("current_time_unix", NOW_MS + 60_001),
        ("current_time_unix", 1.5),
        ("manifest_id", 5),
        ("num_tickets", 1.5),
        ("num_tickets", -1),
        ("num_tickets", 2**31),
        ("num_tickets", True),
        ("orch_address", "0xab"),
        ("orch_url", 5),
        ("pipeline", "text-to-image"),
        ("pixels", -1),
        ("pixels", 2**63),
        ("pixels", "5"),
        ("pm_session_id", None),
        ("previous_time", None),
        ("previous_time_unix", -1),
        ("request_id", None),
        ("sequence_number", -1),
        ("sequence_number", 2**64),
        ("sequence_number", "3"),
        ("session_balance", "1.5"),
        ("session_balance", 5),
        ("session_id", ""),
        ("session_id", "a/b"),
        ("session_id", "a" * 129),
        ("session_status", "old"),
    ],
)
def test_a_field_that_go_livepeer_does_not_write_is_named(field: str, value: Any) -> None:
    told = event(**{field: value})

    named, code = refusal(told)

    assert (named, code) == (
        field if field in {"id", "timestamp", "gateway", "data"} else f"data.{field}",
        "bad_event",
    )


@pytest.mark.parametrize("text", ["", "{", "NaN", "[" * 100_000, "1" * 5_000, b"\xff", '{"a": Infinity}'])
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadEvent, match="not JSON"):
        read_json(text)


def test_a_clock_may_be_a_minute_ahead() -> None:
    late = event(at=NOW + timedelta(minutes=1))

    assert read_event(as_sent(late), NOW) is not None
    assert refusal(event(1, at=NOW + timedelta(minutes=1))) == ("data.current_time_unix", "bad_event")


@pytest.mark.parametrize(
    ("given", "told"),
    [({"id": "a"}, "a"), ({"id": 5}, None), ([], None), ({"id": "a" * 129}, None), ({"id": "\ud800"}, None)],
)
def test_an_id_is_told_back_as_far_as_it_can_be(given: object, told: str | None) -> None:
    assert id_of(given) == told
