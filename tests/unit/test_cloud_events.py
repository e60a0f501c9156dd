"""The log as CloudEvents: a payment has go-livepeer's keys, types and roundings."""

import json
from datetime import timedelta
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from contracts.public_log import PublicEvent, told
from contracts.signer import TicketRecovered
from shared.cloud_events import batch, cloud_event
from tests.public_logs import START, FakeLog, closed, paid

# Protocol §8.3, with the type that Go's JSON has.
KEYS = {
    "app": str, "auth_id": str, "billable_secs": float, "computed_fee": str, "cost": str,
    "current_time": str, "current_time_unix": int, "manifest_id": str, "num_tickets": int,
    "orch_address": str, "orch_url": str, "pipeline": str, "pixels": int, "pm_session_id": str,
    "previous_time": str, "previous_time_unix": int, "request_id": str, "sequence_number": int,
    "session_balance": str, "session_id": str, "session_status": str,
}  # fmt: skip


def signed(**changes: Any) -> PublicEvent:
    return told("signer", FakeLog("signer").tell(paid(**changes), at=START + timedelta(microseconds=120_000)))


def data(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = cloud_event(signed(**changes))["data"]
    return found


def test_a_payment_is_a_create_signed_ticket_of_its_account_and_user() -> None:
    event = cloud_event(signed())

    assert (event["type"], event["id"], event["subject"]) == (
        "create_signed_ticket",
        "signer:1:3",
        "acme:ann",
    )
    assert (event["specversion"], event["time"]) == ("1.0", "2031-05-17T08:00:00.12Z")


def test_its_data_has_the_keys_and_types_of_go_livepeers_event_in_their_order() -> None:
    assert list(data()) == sorted(KEYS)
    assert {key: type(value) for key, value in data().items()} == KEYS


def test_what_the_log_knows_is_told() -> None:
    told_data = data()

    assert told_data["auth_id"] == "acme:ann"
    assert (told_data["num_tickets"], told_data["session_id"]) == (3, "5e" * 16)
    assert told_data["orch_address"] == "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    assert told_data["pm_session_id"] == "0x" + "cd" * 32
    assert told_data["current_time"] == "2031-05-17T08:00:00.12Z"
    assert told_data["current_time_unix"] == 1936771200120


@pytest.mark.parametrize(
    ("units", "price", "pixels", "fee", "cost"),
    [
        (1, 1, 2, "1", "0.5000000000"),  # half is rounded up
        (1, 1, 3, "0", "0.3333333333"),
        (7, 1_000_001, 2, "3500004", "500000.5000000000"),
        (1, 2**62, 1, str(2**62), f"{2**62}.0000000000"),
    ],
)
def test_fee_and_price_are_rounded_as_go_rounds(
    units: int, price: int, pixels: int, fee: str, cost: str
) -> None:
    found = data(units=units, price_per_unit=price, pixels_per_unit=pixels)

    assert (found["computed_fee"], found["cost"]) == (fee, cost)


@pytest.mark.parametrize(
    ("job_type", "units", "pipeline", "seconds", "pixels"),
    [
        ("live", 4, "live", 4.0, 0),
        ("lv2v", 1_658_880_000, "live-video-to-video", 60.0, 1_658_880_000),
        ("fixed", 1, "fixed", 0.0, 0),
        ("", 99, "", 0.0, 0),
    ],
)
def test_seconds_and_pixels_are_of_the_job_type(
    job_type: str, units: int, pipeline: str, seconds: float, pixels: int
) -> None:
    found = data(job_type=job_type, units=units)

    assert (found["pipeline"], found["billable_secs"], found["pixels"]) == (pipeline, seconds, pixels)


def test_an_account_without_a_user_is_its_own_subject() -> None:
    assert cloud_event(signed(user_id=None))["subject"] == "acme:"


def test_a_payment_that_is_told_again_has_the_id_and_time_it_had_first() -> None:
    lost_at = START - timedelta(hours=1)
    again = TicketRecovered(**paid().model_dump(), lost_epoch=4, lost_position=9, happened_at=lost_at)

    event = cloud_event(told("signer", FakeLog("signer").tell(again)))

    assert (event["type"], event["id"], event["time"]) == (
        "create_signed_ticket",
        "signer:4:9",
        "2031-05-17T07:00:00Z",
    )


def test_other_events_are_told_as_their_contracts_have_them() -> None:
    event = cloud_event(told("signer", FakeLog("signer").tell(closed())))

    assert (event["type"], event["subject"]) == ("clearinghouse.SessionClosed.v1", "acme")
    assert event["data"] == closed().model_dump(mode="json")


def test_the_official_client_reads_them() -> None:
    for event in batch([signed(), told("signer", FakeLog("signer").tell(closed()))]):
        read = JSONFormat().read(CloudEvent, json.dumps(event).encode())

        assert (read.get_id(), read.get_data()) == (event["id"], event["data"])
