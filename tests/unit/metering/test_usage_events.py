"""Pushed usage as it is stored and told: what is read is what was written, old bytes included."""

import json
import zlib
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import Notification, StoredEvent

from contracts.meters import MeterDefined, MeterRetired
from contracts.usage_events import UsageEventsRecorded
from services.metering.application import Metering
from services.metering.domain.counting import BILLION, Said
from services.metering.domain.meters import Counting, Meters
from services.metering.domain.usage import HOUR_MICROSECONDS, moment
from services.metering.domain.usage_events import (
    Correction,
    Packing,
    Record,
    UsageEventBatch,
    corrections_of,
    counted,
    key_of,
    records_of,
)
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from shared.store import EventSourced
from tests.architecture.test_contracts_only_grow import domain_classes

# As the first version wrote them; they have to be readable for ever.
GOLDEN: dict[str, str] = json.loads((Path(__file__).parent / "golden_usage_events.json").read_text())
NOW = 537_996 * HOUR_MICROSECONDS + 7
ANNS = Record(
    "app", "1", Said("used", "ann", NOW - 3 * HOUR_MICROSECONDS, True, 2, {"n": BILLION, "of": "x"})
)
BOBS = Record("app", "2", Said("used", "bob", NOW + 5, False, 2, {"n": 10**24 - 1, "fast": True}))
CORRECTED = Correction("app", "3", "1", 1, ANNS.said._replace(data={}), ANNS.said.data, {"n": 7})
VOIDED = Correction("app", "4", "1", 2, ANNS.said._replace(data={}), {"n": 7}, None)


def batch(*records: Record, corrections: tuple[Correction, ...] = ()) -> UsageEventBatch.Recorded:
    packing = Packing(NOW)
    for record in records:
        packing.record(record)
    for correction in corrections:
        packing.correct(correction)
    aggregate = UsageEventBatch("acme", 2, 0, packing.packed(), timestamp=moment(NOW))
    [event] = aggregate.collect_events()
    assert isinstance(event, UsageEventBatch.Recorded)
    return event


def stored(event: UsageEventBatch.Recorded) -> UsageEventBatch.Recorded:
    mapper = EventSourced().mapper
    found = mapper.to_domain_event(mapper.to_stored_event(event))
    assert isinstance(found, UsageEventBatch.Recorded)
    return found


def test_what_is_read_is_what_was_recorded() -> None:
    found = stored(batch(ANNS, BOBS, corrections=(CORRECTED, VOIDED)))

    assert [*records_of(found)] == [ANNS, BOBS]
    assert [*corrections_of(found)] == [CORRECTED, VOIDED]


def test_a_correction_takes_back_what_was_said_and_counts_what_is() -> None:
    counting = Counting(Meters(timestamp=moment(NOW)))
    event = batch(ANNS, BOBS, corrections=(CORRECTED, VOIDED))
    event = UsageEventBatch.Recorded(**{**vars(event), "meters": counting.version})

    rows = counted(event, counting)

    assert {key.user_id: total[:3] for key, total in rows.hours.items()} == {
        "ann": (0, 0, 0),
        "bob": (1, 0, 1),
    }


def test_a_batch_counts_with_the_meters_of_its_version_only() -> None:
    with pytest.raises(ValueError, match="version 0 do not count a batch of 2"):
        counted(batch(ANNS), Counting(None))


def test_a_batch_is_named_by_its_first_record() -> None:
    ids = {each.originator_id for each in (batch(ANNS), batch(ANNS, BOBS), batch(BOBS, ANNS))}

    assert len(ids) == 2
    assert batch(corrections=(CORRECTED,)).originator_id != batch(corrections=(VOIDED,)).originator_id


def test_no_two_records_share_a_key() -> None:
    told = [("acme", "app", "1"), ("acm", "eapp", "1"), ("acme", "ap", "p1"), ("acme", "app1", "")]

    assert len({key_of(*each) for each in told}) == len(told)
    assert key_of("acme", "app", "1") == UUID("5e38ee04-3755-2b55-fb29-f7e2136f2f2d")


@pytest.mark.parametrize("topic", GOLDEN)
def test_stored_bytes_are_read_and_written_unchanged(topic: str) -> None:
    mapper = EventSourced().mapper
    found = StoredEvent(UUID(int=1), 2, topic, GOLDEN[topic].encode())

    assert mapper.to_stored_event(mapper.to_domain_event(found)) == found


def test_every_stored_event_has_its_golden_bytes() -> None:
    modules = {Meters.__module__, UsageEventBatch.__module__}
    events = {
        found.TOPIC
        for found in domain_classes()
        if found.__module__ in modules
        and not issubclass(found, Aggregate)
        and not found.TOPIC.endswith(".event")
    }

    assert events == set(GOLDEN)


def test_the_public_events_tell_counts_and_definitions() -> None:
    metering = Metering(usage_tables("metering"))
    outbox = MeteringOutbox(metering)

    told = {
        topic: outbox.to_public(Notification(UUID(int=1), 2, topic, zlib.compress(state.encode()), id=7))[0]
        for topic, state in GOLDEN.items()
        if topic in outbox.topics
    }

    assert told == {
        "metering.usage_events_recorded": UsageEventsRecorded(
            account_id="acme",
            records=2,
            corrections=2,
            from_at=moment(NOW) - timedelta(hours=3),
            to_at=moment(NOW + 5),
        ),
        "metering.meter_defined": MeterDefined(
            name="tokens",
            event_type="used",
            aggregation="sum",
            value="n",
            group_by=["of"],
            filter={"fast": ["true"]},
            actor="admin:1",
            reason="new_price",
        ),
        "metering.meter_retired": MeterRetired(name="tokens", actor="admin:1", reason="new_price"),
    }
