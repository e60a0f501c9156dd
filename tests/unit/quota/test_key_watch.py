"""What a key does that it did not do before is an alarm, and a stop where limits say so."""

import json
from datetime import timedelta
from typing import Any

import pytest

from contracts.key_watch import AlarmRow, KeyActivity, KeyAlarmRaised, NetworkSighting
from contracts.limits import Alarms
from services.quota.domain.key_watch import ALARMS_KEPT, NETWORKS_MAX, RECIPIENTS_MAX, KeyWatch, Sensitivity
from services.quota.domain.limit_set import Scope
from services.quota.domain.limits import Limits
from services.quota.domain.stops import STOPS_MAX, StopKind
from services.quota.domain.sub_budget import SubBudget
from services.quota.outbox import QuotaOutbox
from services.quota.watching import Watching
from shared.money import Wei
from tests.unit.quota.ledger import AUTHOR, NOW, RECIPIENT, Ledger

KEY = Scope("account-1", key_id="key-1")
HOME, AWAY = "192.0.2.0/24", "2001:db8:7::/48"
FLOOR = 7
STOP = "key:key-1"


class Watched(Ledger):
    """A ledger whose keys are watched as by default, with a floor of a few wei."""

    def __init__(self, **alarms: Any) -> None:
        super().__init__(
            deposit=10**12,
            default_key_limits=Limits(alarms=Alarms(**alarms).model_dump()),
            sensitivity=Sensitivity(floor=Wei(FLOOR)),
        )
        self.limit(spend_limit_wei=Wei(10**9))
        self.watching = Watching(self.quota)
        self.sessions = 0

    def seen_from(self, *networks: str, key_id: str = "key-1") -> None:
        sightings = [
            NetworkSighting(account_id="account-1", key_id=key_id, network=network) for network in networks
        ]
        self.watching.report_networks(sightings, self.now)

    def spend(self, cost: int, recipient: str = RECIPIENT) -> None:
        """In a session of its own, all of it."""
        self.sessions += 1
        session = f"s{self.sessions}"
        assert self.ask(session, needed=cost) == cost
        self.paid(session, cost, recipient=recipient)
        self.closed(session, cost)

    @property
    def activity(self) -> KeyActivity:
        return self.watching.activity(KEY, self.now)

    @property
    def alarms(self) -> list[AlarmRow]:
        """In the order in which they were raised."""
        return self.activity.alarms[::-1]

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(alarm.alarm, alarm.value) for alarm in self.alarms]

    def stop(self) -> dict[str, Any] | None:
        return self.quota.read(lambda work: work.known_stops(), self.now).get(STOP)


@pytest.fixture
def watched() -> Watched:
    return Watched()


# Networks and recipients


def test_the_first_day_is_learned_and_raises_nothing(watched: Watched) -> None:
    watched.seen_from(HOME)
    watched.spend(1000)
    watched.pass_time(hours=23)
    watched.seen_from(AWAY)
    watched.spend(100_000, "0x" + "44" * 20)

    assert watched.told == []
    assert {row.network for row in watched.activity.networks} == {HOME, AWAY}


def test_a_network_that_was_not_seen_before_is_an_alarm_once(watched: Watched) -> None:
    watched.seen_from(HOME)
    watched.pass_time(days=1)

    watched.seen_from(HOME, AWAY)
    watched.seen_from(AWAY)
    watched.pass_time(days=1)
    watched.seen_from(AWAY)

    assert watched.told == [("network", AWAY)]
    [alarm] = watched.alarms
    assert (alarm.spent_wei, alarm.usual_wei, alarm.held) == (None, None, False)
    assert watched.stop() is None


def test_a_recipient_that_was_not_paid_before_is_an_alarm_once(watched: Watched) -> None:
    other = "0x" + "44" * 20
    watched.spend(5)
    watched.pass_time(days=1)

    watched.spend(5)
    watched.pass_time(minutes=1)
    watched.spend(5, other)
    watched.spend(5, other)

    assert watched.told == [("recipient", other)]
    assert [row.recipient for row in watched.activity.recipients] == [other, RECIPIENT]


def test_what_a_key_does_is_no_other_keys(watched: Watched) -> None:
    watched.seen_from(HOME)
    watched.seen_from(AWAY, key_id="key-2")
    watched.pass_time(days=1)

    watched.seen_from(AWAY)
    watched.seen_from(AWAY, key_id="key-2")

    assert watched.told == [("network", AWAY)]
    assert watched.watching.activity(Scope("account-1", key_id="key-2"), watched.now).alarms == []
    assert watched.watching.activity(Scope("account-2", key_id="key-1"), watched.now).networks == []


def test_what_was_seen_is_stored_once_a_day(watched: Watched) -> None:
    def stored() -> int:
        return len(list(watched.quota.events.get(KeyWatch.create_id("account-1", "key-1"))))

    watched.seen_from(HOME)
    first = stored()
    watched.pass_time(hours=11)
    watched.seen_from(HOME)
    same_day = stored()
    watched.pass_time(hours=1)
    watched.seen_from(HOME)

    assert (first, same_day, stored()) == (2, 2, 3)
    [row] = watched.activity.networks
    assert (row.first_seen_at, row.last_seen_at) == (NOW, NOW + timedelta(hours=12))


@pytest.mark.parametrize(("days", "told"), [(30, []), (31, [("network", HOME)])])
def test_what_was_not_seen_for_thirty_days_is_new(
    watched: Watched, days: int, told: list[tuple[str, str]]
) -> None:
    watched.seen_from(HOME)

    watched.pass_time(days=days)
    watched.seen_from(HOME)

    assert watched.told == told
    [row] = watched.activity.networks
    assert row.first_seen_at == (watched.now if told else NOW)


def test_those_seen_last_are_kept() -> None:
    watch = KeyWatch("account-1", "key-1", timestamp=NOW)
    many = [f"10.{number // 256}.{number % 256}.0/24" for number in range(NETWORKS_MAX + 1)]

    watch.see_networks(many[:1], NOW)
    watch.see_networks(many[1:], NOW + timedelta(days=1))
    watch.see_recipients([f"0x{number:040x}" for number in range(RECIPIENTS_MAX + 1)], NOW)

    assert list(watch.networks) == sorted(many[1:])
    assert len(watch.recipients) == RECIPIENTS_MAX


def test_alarms_of_a_day_are_bounded_unless_they_stop_the_key(watched: Watched) -> None:
    watched.seen_from(HOME)
    watched.pass_time(days=1)
    many = [f"10.{number // 256}.{number % 256}.0/24" for number in range(ALARMS_KEPT + 50)]

    watched.seen_from(*many)
    events = watched.quota.events.get(KeyWatch.create_id("account-1", "key-1"))
    raised = [event for event in events if isinstance(event, KeyWatch.AlarmRaised)]
    watched.limit(KEY, alarms=Alarms(holds=["network"]).model_dump())
    watched.seen_from(AWAY)

    assert len(raised) == len(watched.told) == ALARMS_KEPT
    assert watched.told[-1] == ("network", AWAY)
    assert watched.stop() is not None


@pytest.mark.parametrize("off", [{"network": False}, {"recipient": False}, {"spend_times": None}])
def test_an_alarm_that_is_switched_off_is_not_raised(off: dict[str, Any]) -> None:
    watched = Watched(**off)
    [name] = off
    watched.seen_from(HOME)
    watched.spend(1)
    watched.pass_time(days=1)

    watched.seen_from(AWAY)
    watched.spend(1000, "0x" + "44" * 20)

    others = {"network", "recipient", "spend"} - {name.removesuffix("_times")}
    assert {alarm for alarm, _ in watched.told} == others


def test_without_alarms_in_any_limits_all_is_seen_and_nothing_raised() -> None:
    ledger = Ledger(sensitivity=Sensitivity(learning=timedelta(0)))
    watching = Watching(ledger.quota)
    sighting = NetworkSighting(account_id="account-1", key_id="key-1", network=HOME)

    watching.report_networks([sighting], ledger.now)

    activity = watching.activity(KEY, ledger.now)
    assert ([row.network for row in activity.networks], activity.alarms) == ([HOME], [])


# Spend


def test_an_hour_beyond_so_many_times_the_highest_is_an_alarm_once(watched: Watched) -> None:
    watched.spend(20)
    watched.pass_time(hours=1)
    watched.spend(11)
    watched.pass_time(days=1)

    watched.spend(100)
    before = watched.told
    watched.spend(1)
    watched.spend(500)

    assert before == []
    [alarm] = watched.alarms
    assert (alarm.alarm, alarm.value, alarm.spent_wei, alarm.usual_wei) == ("spend", "", 101, 20)


def test_the_next_hour_is_compared_with_the_one_that_was_an_alarm(watched: Watched) -> None:
    watched.spend(20)
    watched.pass_time(days=1)
    watched.spend(101)

    watched.pass_time(hours=1)
    watched.spend(505)
    quiet = len(watched.alarms)
    watched.spend(1)

    assert quiet == 1
    assert [(alarm.spent_wei, alarm.usual_wei) for alarm in watched.alarms] == [(101, 20), (506, 101)]


def test_what_is_usual_counts_as_the_floor_at_least(watched: Watched) -> None:
    watched.spend(1)
    watched.pass_time(days=1)

    watched.spend(5 * FLOOR)
    quiet = watched.told
    watched.spend(1)

    assert quiet == []
    assert watched.told == [("spend", "")]


def test_the_highest_hour_of_seven_days_is_kept_and_no_more(watched: Watched) -> None:
    for spent in range(30, 40):
        watched.spend(spent)
        watched.pass_time(days=1)

    days = [(NOW + timedelta(days=number)).date() for number in range(3, 10)]
    assert [(row.day, row.spent_wei) for row in watched.activity.highest_hours] == [
        (day, 30 + number) for number, day in reversed(list(enumerate(days, start=3)))
    ]
    assert watched.activity.spent_this_hour_wei == 0
    books: SubBudget = watched.quota.repository.get(SubBudget.create_id(*KEY.ids))
    assert len(books.peaks) <= 8


def test_after_a_quiet_week_nothing_is_usual(watched: Watched) -> None:
    watched.spend(1000)
    watched.pass_time(days=8)

    watched.spend(5 * FLOOR + 1)

    [alarm] = watched.alarms
    assert (alarm.spent_wei, alarm.usual_wei) == (36, 0)


def test_a_key_has_books_where_its_spend_may_be_an_alarm() -> None:
    assert Limits(alarms=Alarms().model_dump()).count_spend
    assert not Limits(alarms=Alarms(spend_times=None).model_dump()).count_spend


def test_books_from_before_highest_hours_are_read() -> None:
    state: dict[str, Any] = {"warned": {}}

    SubBudget.upcast_v1_v2(state)

    assert state["peaks"] == {}


# Stops


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


# What is told and kept


def test_an_alarm_is_told_to_everybody(watched: Watched) -> None:
    watched.seen_from(HOME)
    watched.pass_time(days=1)
    watched.seen_from(AWAY)
    outbox = QuotaOutbox(watched.quota)

    topics = KeyWatch.AlarmRaised.TOPIC
    [stored] = watched.quota.recorder.select_notifications(None, 10, topics=[topics])
    told, at = outbox.to_public(stored)

    assert at == watched.now
    assert told == KeyAlarmRaised(
        account_id="account-1",
        key_id="key-1",
        alarm="network",
        value=AWAY,
        spent_wei=None,
        usual_wei=None,
        held=False,
    )
    assert json.loads(told.model_dump_json())["spent_wei"] is None


def test_a_snapshot_is_what_was_folded(watched: Watched) -> None:
    watched.seen_from(HOME)
    watched.pass_time(days=1)
    watched.seen_from(AWAY)
    watched.spend(1)
    watch_id = KeyWatch.create_id("account-1", "key-1")
    watch: KeyWatch = watched.quota.repository.get(watch_id)
    before = dict(vars(watch))

    watched.quota.take_snapshot(watch_id)
    watched.quota.forget(watch_id)
    restored: KeyWatch = watched.quota.repository.get(watch_id)

    assert vars(restored) == before
