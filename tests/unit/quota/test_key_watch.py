"""What a key does that it did not do before is an alarm."""

import json
from datetime import timedelta
from typing import Any

import pytest

from contracts.key_watch import KeyAlarmRaised, NetworkSighting
from contracts.limits import Alarms
from services.quota.domain.key_watch import ALARMS_KEPT, NETWORKS_MAX, RECIPIENTS_MAX, KeyWatch, Sensitivity
from services.quota.domain.limit_set import Scope
from services.quota.outbox import QuotaOutbox
from services.quota.watching import Watching
from tests.unit.quota.ledger import NOW, RECIPIENT, Ledger
from tests.unit.quota.watched import AWAY, HOME, KEY, Watched


@pytest.fixture
def watched() -> Watched:
    return Watched()


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
