"""Stored usage, old bytes included, and the public event made of it."""

import zlib
from datetime import UTC, datetime
from uuid import UUID

import pytest
from eventsourcing.persistence import Notification

from contracts.metering import UsageRecorded
from services.metering.application import Metering
from services.metering.domain.usage import Hour, Sums, UsageBatch, rollup, session_changes
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables

# A stored batch as version 1 wrote it; it has to be readable for ever.
GOLDEN = (
    b'{"originator_topic":"metering.usage_batch","timestamp":"2026-07-01T12:00:00Z","publisher":"signer",'
    b'"epoch":1,"first":3,"last":9,"records":1,"cost":1000000000000000000001,"usage":{"at":1782907199999999,'
    b'"who":[["acme","","s1","lv2v","daydream","0xr"]],"prices":[[3147975,5,3]],'
    b'"payments":[[0,0,0,0,3,1000000000000000000001,17]],'
    b'"opened":[[0,"acme","ann","s1","lv2v","daydream","0xo",""]],"closed":[[6,9,"acme","s1"]]}}'
)


@pytest.fixture
def metering() -> Metering:
    return Metering(usage_tables("metering"))


@pytest.fixture
def stored() -> Notification:
    return Notification(UUID(int=1), 1, "metering.usage_recorded", zlib.compress(GOLDEN), id=12)


def test_the_public_event_says_which_stretch_became_usage(metering: Metering, stored: Notification) -> None:
    event, at = MeteringOutbox(metering).to_public(stored)

    assert event == UsageRecorded(
        from_position=3, to_position=9, records=1, cost=10**21 + 1, publisher="signer", from_epoch=1
    )
    assert at == datetime(2026, 7, 1, 12, tzinfo=UTC)


def test_stored_bytes_still_fold(metering: Metering, stored: Notification) -> None:
    recorded = metering.mapper.to_domain_event(stored)

    assert isinstance(recorded, UsageBatch.Recorded)
    assert rollup(recorded.usage) == {
        Hour("acme", "", "", "lv2v", "daydream", "", "0xr", 495251, 3): Sums(
            1, 3, 10**21 + 1, 3 * 12345 * 255, 85, 17, 0
        ),
        Hour("acme", "ann", "", "lv2v", "daydream", "", "", 495251, 1): Sums(0, 0, 0, 0, 0, 0, 1),
    }
    assert session_changes(recorded.usage)["acme", "s1"].closed


def test_what_is_written_today_is_what_was_written_then(metering: Metering, stored: Notification) -> None:
    recorded = metering.mapper.to_domain_event(stored)

    assert zlib.decompress(metering.mapper.to_stored_event(recorded).state) == GOLDEN


def test_batches_assignments_closings_and_ends_are_public() -> None:
    assert MeteringOutbox.topics == (
        "metering.usage_recorded",
        "metering.stream_assigned",
        "metering.usage_closed",
        "metering.stream_closed",
        "metering.usage_events_recorded",
        "metering.meter_defined",
        "metering.meter_retired",
    )
