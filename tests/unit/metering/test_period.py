"""Closing an account's hours: forward only, whole hours, once."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from eventsourcing.persistence import StoredEvent

from contracts.metering import UsageClosed
from services.metering.application import Metering
from services.metering.closings import ClosedHours
from services.metering.domain.period import BadUntil, UsageAlreadyClosed, UsagePeriod
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from shared.store import JsonTranscoder

NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHO = {"actor": "billing", "reason": "invoiced"}
GOLDEN = {
    "metering.usage_period_opened": (
        '{"timestamp":"2031-05-17T12:00:00Z","originator_topic":"metering.usage_period","account_id":"acme"}'
    ),
    "metering.usage_closed": (
        '{"timestamp":"2031-05-17T12:00:00Z","account_id":"acme","until_at":"2031-05-17T11:00:00Z",'
        '"actor":"billing","reason":"invoiced"}'
    ),
}


def period() -> UsagePeriod:
    made = UsagePeriod("acme", timestamp=NOON)
    made.close(NOON - HOUR, **WHO, now=NOON)
    return made


def test_it_is_closed_forward_and_a_repeat_stores_nothing() -> None:
    made = period()
    made.close(NOON - HOUR, **WHO, now=NOON)
    made.close(NOON, **WHO, now=NOON)

    assert made.closed_until_at == NOON
    assert [type(event).__name__ for event in made.collect_events()] == ["Opened", "Closed", "Closed"]


@pytest.mark.parametrize(
    ("until", "refusal"),
    [
        (NOON - HOUR + timedelta(minutes=30), BadUntil),
        (NOON + HOUR, BadUntil),
        (NOON - 2 * HOUR, UsageAlreadyClosed),
    ],
)
def test_what_cannot_be_closed_is_refused(until: datetime, refusal: type[Exception]) -> None:
    made = period()

    with pytest.raises(refusal):
        made.close(until, **WHO, now=NOON)

    assert made.closed_until_at == NOON - HOUR


@pytest.mark.parametrize("topic", GOLDEN)
def test_stored_bytes_are_read_and_written_unchanged(topic: str) -> None:
    metering = Metering(usage_tables("metering"))
    state = metering.mapper.compressor.compress(GOLDEN[topic].encode()) if metering.mapper.compressor else b""
    stored = StoredEvent(UUID(int=1), 1, topic, state)

    event = metering.mapper.to_domain_event(stored)

    assert metering.mapper.to_stored_event(event) == stored
    assert JsonTranscoder().decode(GOLDEN[topic].encode())["timestamp"] == NOON


def test_every_stored_event_has_its_golden_bytes() -> None:
    metering = Metering(usage_tables("metering"))
    metering.save(period())

    stored = metering.recorder.select_notifications(1, 10)

    told = [metering.mapper.to_stored_event(metering.mapper.to_domain_event(each)) for each in stored]
    assert {each.topic for each in told} == set(GOLDEN)


def test_a_closing_is_public() -> None:
    metering = Metering(usage_tables("metering"))
    metering.save(period())
    [*_, closed] = metering.recorder.select_notifications(1, 10)

    event, at = MeteringOutbox(metering).to_public(closed)

    assert event == UsageClosed(account_id="acme", until=NOON - HOUR, **WHO)
    assert at == NOON


def test_closed_hours_in_memory_never_open_again() -> None:
    closed = ClosedHours()
    closed.close("acme", NOON)
    closed.close("acme", NOON - HOUR)

    assert closed.first_open() == {"acme": int(NOON.timestamp()) // 3600}
