"""Streams: what is heard becomes time, by whose hours, and is stored so that it can be read for ever."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import StoredEvent

from services.metering.domain.known import Delivery
from services.metering.domain.stream import HourChange, Stream, milliseconds, moment_of
from shared.store import EventSourced
from tests.architecture.test_contracts_only_grow import domain_classes

GOLDEN: dict[str, str] = json.loads((Path(__file__).parent / "golden.json").read_text())
NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
HOUR = milliseconds(NOON) // 3_600_000
GRACE = timedelta(hours=12)


def stream() -> Stream:
    return Stream("acme", "stream-1", timestamp=NOON)


def heard(event: str, at: timedelta, *, seen: timedelta | None = None, **told: Any) -> Delivery:
    moment = milliseconds(NOON + at)
    delivery = Delivery(
        hook_id="hook",
        webhook_id="webhook",
        event_id=f"{event} {at}",
        event=f"stream.{event}",
        at=moment,
        seen=milliseconds(NOON + seen) if seen is not None else None,
        source=None,
        user_id="",
        user_from="creator_id",
        received=moment + 700,
    )
    return delivery._replace(**told)


def hours_of(stream: Stream) -> list[HourChange]:
    """What its events carried, in their order."""
    return [
        HourChange(*change) for event in stream.collect_events() for change in getattr(event, "hours", [])
    ]


def test_time_between_start_and_end_lies_in_its_hours() -> None:
    live = stream()

    live.hear([heard("started", timedelta(minutes=-1)), heard("idle", timedelta(seconds=61))], NOON)

    assert hours_of(live) == [HourChange("", "", HOUR - 1, 60_000, 0), HourChange("", "", HOUR, 61_000, 0)]
    assert live.known.state == "idle"


def test_what_changes_an_hour_that_was_over_a_whole_hour_before_is_late() -> None:
    live = stream()
    both = [heard("started", timedelta()), heard("idle", timedelta(hours=2))]

    live.hear(both, NOON + timedelta(hours=2, milliseconds=-1))
    other = stream()
    other.hear(both, NOON + timedelta(hours=2))

    assert [change.late_ms for change in hours_of(live)] == [0, 0]
    assert [change.late_ms for change in hours_of(other)] == [3_600_000, 0]


def test_a_lost_end_costs_what_nobody_saw() -> None:
    live = stream()
    seen = timedelta(minutes=3)

    live.hear([heard("started", timedelta()), heard("started", timedelta(minutes=9), seen=seen)], NOON)

    first, second = live.known.studio_runs
    assert (first.ms, first.state) == (180_000, "incomplete")
    assert (second.ms, second.state) == (0, "running")


def test_an_end_without_a_start_is_kept_and_costs_nothing() -> None:
    live = stream()

    live.hear([heard("idle", timedelta())], NOON)

    assert [(run.ms, run.state) for run in live.known.studio_runs] == [(0, "incomplete")]


def test_a_silent_stream_times_out_and_a_late_end_corrects_it() -> None:
    live = stream()
    live.hear([heard("started", timedelta(), seen=timedelta(minutes=5))], NOON)
    last = NOON + timedelta(minutes=5)

    live.give_up(GRACE, last + GRACE)
    before = live.known.state
    live.give_up(GRACE, last + GRACE + timedelta(milliseconds=1))
    silent = live.known.state, sum(live.known.hours().values())
    live.hear([heard("idle", timedelta(minutes=20))], NOON + timedelta(days=1))

    assert before == "running"
    assert silent == ("timed_out", 300_000)
    assert (live.known.state, sum(live.known.hours().values())) == ("idle", 1_200_000)


def test_a_sign_of_life_after_it_was_given_up_lets_it_run_again() -> None:
    live = stream()
    live.hear([heard("started", timedelta())], NOON)
    live.give_up(GRACE, NOON + timedelta(days=1))

    live.hear([heard("multistream.connected", timedelta(hours=3))], NOON + timedelta(days=1))

    assert live.known.state == "running"
    assert live.known.alive == milliseconds(NOON + timedelta(hours=3))


def test_seconds_move_to_the_user_it_is_assigned_to() -> None:
    live = stream()
    live.hear([heard("started", timedelta(), user_id="ann"), heard("idle", timedelta(seconds=7))], NOON)
    hours_of(live)

    live.assign("bob", actor="admin:1", reason="asked_for", now=NOON)
    moved = hours_of(live)
    live.assign("bob", actor="admin:1", reason="asked_for", now=NOON)

    assert moved == [HourChange("ann", "", HOUR, -7_000, 0), HourChange("bob", "", HOUR, 7_000, 0)]
    assert not hours_of(live)


def test_the_map_names_the_user_unless_livepeer_studio_does() -> None:
    live = stream()
    live.begin("1:7", at=NOON, user_id="cid", app="demo/echo", now=NOON)
    mapped = live.known.user_id

    live.hear([heard("started", timedelta(), user_id="ann", user_from="user_tags")], NOON)

    assert (mapped, live.known.user_id, live.known.app) == ("cid", "ann", "demo/echo")


def test_time_of_the_map_counts_until_livepeer_studio_tells_of_some() -> None:
    live = stream()
    live.begin("1:7", at=NOON, user_id="", app="", now=NOON)
    live.end("1:8", at=NOON + timedelta(seconds=90), because="ended", now=NOON)
    mapped = sum(live.known.hours().values())

    live.hear([heard("started", timedelta(seconds=1)), heard("idle", timedelta(seconds=61))], NOON)

    assert (mapped, sum(live.known.hours().values())) == (90_000, 60_000)


@pytest.mark.parametrize(("source", "differs"), [(540_000, False), (539_999, True), (661_111, False)])
def test_video_far_from_the_time_it_ran_is_shown(source: int, differs: bool) -> None:  # noqa: FBT001
    live = stream()

    live.hear(
        [
            heard("started", timedelta(), source=5_000),
            heard("idle", timedelta(minutes=10), source=5_000 + source),
        ],
        NOON,
    )

    assert (live.known.source, live.known.differs) == (source, differs)


@pytest.mark.parametrize("topic", GOLDEN)
def test_stored_bytes_are_read_and_written_unchanged(topic: str) -> None:
    mapper = EventSourced().mapper
    stored = StoredEvent(UUID(int=1), 1, topic, GOLDEN[topic].encode())

    assert mapper.to_stored_event(mapper.to_domain_event(stored)) == stored


def test_every_stored_event_of_streams_has_its_golden_bytes() -> None:
    events = {
        found.TOPIC
        for found in domain_classes()
        if found.__module__ == Stream.__module__
        and not issubclass(found, Aggregate)
        and not found.TOPIC.endswith(".event")
    }

    assert events == set(GOLDEN)


def test_a_stream_that_is_read_is_the_one_that_was_stored() -> None:
    mapper = EventSourced().mapper
    live = stream()
    live.hear([heard("started", timedelta(), seen=timedelta(minutes=5), source=7)], NOON)
    live.begin("1:7", at=NOON, user_id="ann", app="demo", now=NOON)
    live.end("1:8", at=NOON + timedelta(hours=3), because="ended", now=NOON)
    live.give_up(GRACE, NOON + timedelta(days=1))
    live.assign("bob", actor="admin:1", reason="asked_for", now=NOON)

    read: Any = None
    for event in live.collect_events():
        restored: Any = mapper.to_domain_event(mapper.to_stored_event(event))
        read = restored.mutate(read)

    assert (read.known, read.closed_as) == (live.known, live.closed_as)
    assert moment_of(milliseconds(NOON)) == NOON


def closed_as(live: Stream) -> list[tuple[int, int, str]]:
    """What was told of ended runs, in milliseconds after noon."""
    noon = milliseconds(NOON)
    return [
        (event.began - noon, event.ended - noon, event.because)
        for event in live.collect_events()
        if isinstance(event, Stream.Closed)
    ]


def test_a_stream_that_ended_is_told_once() -> None:
    live = stream()
    live.hear([heard("started", timedelta())], NOON)
    live.hear([heard("idle", timedelta(seconds=61))], NOON)

    live.hear([heard("recording.ready", timedelta(seconds=90))], NOON)

    assert closed_as(live) == [(0, 61_000, "idle")]


def test_a_late_end_tells_a_stream_anew_that_was_given_up() -> None:
    live = stream()
    live.hear([heard("started", timedelta(), seen=timedelta(seconds=5))], NOON)
    live.give_up(GRACE, NOON + timedelta(days=1))

    live.hear([heard("idle", timedelta(seconds=61))], NOON + timedelta(days=1))

    assert closed_as(live) == [(0, 5_000, "timed_out"), (0, 61_000, "idle")]


@pytest.mark.parametrize("because", ["ended", "lease_expired"])
def test_it_is_told_who_ended_a_stream_of_the_map(because: str) -> None:
    live = stream()
    live.begin("1:7", at=NOON, user_id="ann", app="", now=NOON)
    live.end("1:8", at=NOON + timedelta(seconds=90), because=because, now=NOON)
    live.begin("1:9", at=NOON + timedelta(seconds=91), user_id="ann", app="", now=NOON)

    assert closed_as(live) == [(0, 90_000, because)]
    assert live.known.last_run is not None
    assert live.known.last_run[1] == "running"


def test_an_end_that_comes_before_its_start_is_told_when_the_start_came() -> None:
    live = stream()
    live.end("1:8", at=NOON + timedelta(seconds=90), because="ended", now=NOON)

    live.begin("1:7", at=NOON, user_id="ann", app="", now=NOON)

    assert closed_as(live) == [(90_000, 90_000, "incomplete"), (0, 90_000, "ended")]
