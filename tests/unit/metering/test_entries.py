"""What metering reads from the signer's log, and what it refuses to believe."""

from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.message import LogEntry
from contracts.signer import FenceRaised, PaymentRefused, PaymentSigned, SessionClosed, SessionOpened
from services.metering.domain.usage import Span
from services.metering.entries import read_usage

AT = datetime(2026, 7, 1, 11, 59, 59, 999_999, tzinfo=UTC)
PAYMENT: dict[str, Any] = {
    "account_id": "acme",
    "session_id": "s1",
    "user_id": None,
    "app": "daydream",
    "job_type": "lv2v",
    "recipient": "0xr",
    "payer": "0xp",
    "tickets": 3,
    "cost": "1000000000000000000001",
    "face_value": "12345",
    "win_prob": "0xff",
    "units": 17,
    "price_per_unit": 5,
    "pixels_per_unit": 3,
    "creation_round": 9,
}
OPENING = {
    "account_id": "acme",
    "session_id": "s1",
    "user_id": "ann",
    "key_id": "k",
    "stream_id": None,
    "app": "daydream",
    "job_type": "lv2v",
    "orchestrator": "0xo",
}


def entry(position: int, subject: str, event: dict[str, Any], at: datetime = AT) -> LogEntry:
    return LogEntry(
        epoch=2, position=position, previous_position=position - 1, subject=subject, at=at, event=event
    )


def payment(position: int = 7, **changed: object) -> LogEntry:
    return entry(position, PaymentSigned.subject, {**PAYMENT, **changed})


def test_a_payment_keeps_all_that_is_summed() -> None:
    span, usage = read_usage([payment(7), payment(9, tickets=1, user_id="bob")])

    assert span == Span("signer", 2, 7, 9)
    assert usage["who"] == [
        ("acme", "", "s1", "lv2v", "daydream", "0xr", "", ""),
        ("acme", "bob", "s1", "lv2v", "daydream", "0xr", "", ""),
    ]
    assert usage["prices"] == [(12345 * 255, 5, 3)]
    assert usage["payments"] == [(0, 0, 0, 0, 3, 10**21 + 1, 17), (2, 0, 1, 0, 1, 10**21 + 1, 17)]
    assert usage["at"] == 1_782_907_199_999_999


def test_key_and_capability_are_kept_where_they_are_told() -> None:
    _, usage = read_usage(
        [
            payment(7, key_id="key-1", capability="llm/a"),
            entry(8, SessionOpened.subject, {**OPENING, "capability": "llm/a"}),
        ]
    )

    assert usage["who"][0][6:] == ("key-1", "llm/a")
    assert usage["opened"][0][8:] == ("k", "llm/a")


def test_the_contract_is_what_is_read() -> None:
    event = PaymentSigned.model_validate(PAYMENT).model_dump(mode="json")
    opening = SessionOpened.model_validate(OPENING).model_dump(mode="json")

    assert read_usage([entry(7, PaymentSigned.subject, event)])[1] == read_usage([payment(7)])[1]
    assert read_usage([entry(7, SessionOpened.subject, opening)])[1]["opened"]


def test_openings_and_closings_are_kept() -> None:
    closing = {"account_id": "acme", "session_id": "s1", "spent": "5", "ask_number": 2}
    _, usage = read_usage(
        [entry(7, SessionOpened.subject, OPENING), entry(8, SessionClosed.subject, closing)]
    )

    assert usage["opened"] == [(0, "acme", "ann", "s1", "lv2v", "daydream", "0xo", "", "k", "")]
    assert usage["closed"] == [(1, 0, "acme", "s1")]


@pytest.mark.parametrize(
    "changed",
    [
        {"tickets": -1},
        {"tickets": 2**31},
        {"tickets": "3"},
        {"tickets": True},
        {"tickets": 1.0},
        {"units": -1},
        {"units": 2**63},
        {"units": None},
        {"cost": 5},
        {"cost": "-5"},
        {"cost": "5.0"},
        {"cost": " 5"},
        {"cost": "1_0"},
        {"cost": "٣"},
        {"cost": ""},
        {"cost": str(2**256)},
        {"cost": "9" * 5000},
        {"face_value": "x"},
        {"win_prob": "0x" + "f" * 65},
        {"win_prob": "-1"},
        {"win_prob": "f_f"},
        {"win_prob": 255},
        {"win_prob": "0x"},
        {"price_per_unit": -1},
        {"price_per_unit": 2**63},
        {"price_per_unit": 1.5},
        {"pixels_per_unit": 0},
        {"pixels_per_unit": True},
        {"account_id": ""},
        {"account_id": None},
        {"account_id": ["acme"]},
        {"session_id": ""},
        {"user_id": 0},
        {"user_id": {}},
        {"app": "zero\0byte"},
        {"app": "\ud800"},
        {"app": "a" * 401},
        {"recipient": ""},
    ],
)
def test_a_bad_payment_is_a_value_error(changed: dict[str, object]) -> None:
    bad = LogEntry.model_construct(**{**dict(payment()), "event": {**PAYMENT, **changed}})

    with pytest.raises(ValueError, match=r"."):
        read_usage([bad])


@pytest.mark.parametrize("field", sorted(set(PAYMENT) - {"payer", "creation_round"}))
def test_a_missing_field_is_a_value_error(field: str) -> None:
    event = {name: value for name, value in PAYMENT.items() if name != field}

    with pytest.raises(ValueError, match=field):
        read_usage([entry(7, PaymentSigned.subject, event)])


def test_a_bad_value_is_seen_beside_a_good_one_that_equals_it() -> None:
    with pytest.raises(ValueError, match="price"):
        read_usage([payment(7, price_per_unit=1), payment(8, price_per_unit=1.0)])


def test_names_that_no_index_takes_are_refused() -> None:
    names = ("account_id", "user_id", "session_id", "job_type", "app", "recipient")
    event = {**PAYMENT, **dict.fromkeys(names, "ä" * 200)}

    with pytest.raises(ValueError, match="too long"):
        read_usage([entry(7, PaymentSigned.subject, event)])


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        read_usage([entry(7, PaymentSigned.subject, PAYMENT, at=AT.replace(tzinfo=None))])


def test_an_event_that_is_not_for_metering_is_refused() -> None:
    with pytest.raises(ValueError, match="not for metering"):
        read_usage([entry(7, FenceRaised.subject, {})])


def test_a_refusal_is_kept_with_its_status_and_reason() -> None:
    refused = {"account_id": "acme", "session_id": "s", "status": 402, "reason": "limit"}

    _, usage = read_usage([entry(7, PaymentRefused.subject, refused)])

    assert usage["refused"] == [(0, "acme", "s", 402, "limit")]


@pytest.mark.parametrize("status", [-1, 1000, True, "402", None])
def test_a_refusal_of_no_status_is_refused(status: object) -> None:
    refused = {"account_id": "acme", "session_id": "s", "status": status, "reason": "limit"}

    with pytest.raises(ValueError, match="status"):
        read_usage([entry(7, PaymentRefused.subject, refused)])


@pytest.mark.parametrize("subject", [SessionOpened.subject, SessionClosed.subject, PaymentRefused.subject])
def test_what_is_no_payment_is_checked_too(subject: str) -> None:
    with pytest.raises(ValueError, match="account_id"):
        read_usage([entry(7, subject, {})])
