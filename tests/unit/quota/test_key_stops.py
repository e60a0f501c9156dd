"""An alarm stops its key where limits say so, until somebody lifts it."""

from datetime import timedelta

import pytest

from services.quota.domain.stops import STOPS_MAX, StopKind
from tests.unit.quota.ledger import AUTHOR
from tests.unit.quota.watched import AWAY, HOME, Watched


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.mark.parametrize("kind", ["spend", "network", "recipient"])
def test_an_alarm_that_holds_stops_the_key_until_it_is_lifted(kind: str) -> None:
    watched = Watched(holds=[kind])
    watched.seen_from(HOME)
    watched.spend(1)
    watched.pass_time(days=1)

    watched.seen_from(AWAY)
    watched.spend(1000, "0x" + "44" * 20)
    stop = watched.stop()
    shown = watched.activity.stop
    watched.stopping.lift_stops([(StopKind.KEY, "key-1")], AUTHOR, watched.now)
    watched.seen_from(AWAY)
    watched.spend(1, "0x" + "44" * 20)

    assert {alarm.alarm: alarm.held for alarm in watched.alarms} == {
        each: each == kind for each in ("spend", "network", "recipient")
    }
    assert stop is not None
    assert (stop["actor"], stop["reason"], stop["expires"]) == ("quota", f"alarm_{kind}", None)
    assert shown is not None
    assert (shown.reason, shown.set_at, shown.expires_at) == (f"alarm_{kind}", watched.now, None)
    assert (watched.stop(), watched.activity.stop) == (None, None)


def test_a_stop_that_somebody_has_set_is_left_as_it_is_unless_it_ends() -> None:
    watched = Watched(holds=["network"])
    watched.seen_from(HOME)
    watched.pass_time(days=1)
    stops = [(StopKind.KEY, "key-1")]
    watched.stopping.set_stops(stops, AUTHOR, expires_at=None, now=watched.now)

    watched.seen_from(AWAY)
    kept = watched.stop()
    ends_at = watched.now + timedelta(hours=1)
    watched.stopping.set_stops(stops, AUTHOR, expires_at=ends_at, now=watched.now)
    watched.seen_from("198.51.100.0/24")
    replaced = watched.stop()

    assert kept is not None
    assert (kept["actor"], kept["reason"]) == (AUTHOR.actor, AUTHOR.reason)
    assert replaced is not None
    assert (replaced["actor"], replaced["expires"]) == ("quota", None)
    assert [alarm.held for alarm in watched.alarms] == [True, True]


def test_a_stop_that_has_ended_is_not_shown(watched: Watched) -> None:
    ends_at = watched.now + timedelta(hours=1)
    stops = [(StopKind.KEY, "key-1")]
    watched.stopping.set_stops(stops, AUTHOR, expires_at=ends_at, now=watched.now)

    shown = watched.activity.stop
    watched.pass_time(hours=1)

    assert shown is not None
    assert (shown.reason, shown.expires_at) == (AUTHOR.reason, ends_at)
    assert watched.activity.stop is None


def test_an_alarm_is_raised_also_where_there_is_no_room_for_a_stop() -> None:
    watched = Watched(holds=["network"])
    watched.seen_from(HOME)
    watched.pass_time(days=1)
    apps = [(StopKind.APP, f"app-{number}") for number in range(STOPS_MAX)]
    watched.stopping.set_stops(apps, AUTHOR, expires_at=None, now=watched.now)

    watched.seen_from(AWAY)

    assert [(alarm.value, alarm.held) for alarm in watched.alarms] == [(AWAY, False)]
