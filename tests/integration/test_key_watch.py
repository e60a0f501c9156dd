"""Key watches on PostgreSQL, two replicas of quota: what both are told is one alarm, and one stop."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import psycopg
import pytest

from contracts.deposit_watcher import FundsObserved
from contracts.key_watch import KeyActivity, NetworkSighting
from contracts.limits import Alarms
from contracts.message import Event, LogEntry
from contracts.stops import StopView, stop_entry
from services.quota.application import Quota
from services.quota.domain.granting import Ask
from services.quota.domain.key_watch import Sensitivity
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.stops import StopKind
from services.quota.limiting import Limiting
from services.quota.replay import replay
from services.quota.stopping import Stopping
from services.quota.watching import Watching
from shared.money import Wei
from shared.store import postgres_env
from tests.infra import Database
from tests.told_payments import payment_signed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
ACCOUNT, KEY_ID = "acme", "AbCdEfGhIjKl"
KEY = Scope(ACCOUNT, key_id=KEY_ID)
PAYER, RECIPIENT = "0x" + "11" * 20, "0x" + "22" * 20
HOME = "192.0.2.0/24"
STOP = stop_entry("key", KEY_ID)


class Replica:
    def __init__(self, env: dict[str, str]) -> None:
        holding = Alarms(holds=["spend", "network", "recipient"])
        self.quota = Quota(
            Wei(10**9),
            env,
            default_key_limits=Limits(alarms=holding.model_dump()),
            sensitivity=Sensitivity(floor=Wei(7)),
        )
        self.watching, self.limiting = Watching(self.quota), Limiting(self.quota)

    def seen_from(self, *networks: str, at: datetime = LATER) -> None:
        sightings = [
            NetworkSighting(account_id=ACCOUNT, key_id=KEY_ID, network=network) for network in networks
        ]
        self.watching.report_networks(sightings, at)

    def lift(self) -> None:
        Stopping(self.quota).lift_stops([(StopKind.KEY, KEY_ID)], Author("admin", "test"), LATER)

    def spend(self, session: str, cost: int, at: datetime, recipient: str = RECIPIENT) -> None:
        ask = Ask(
            account_id=ACCOUNT,
            key_id=KEY_ID,
            session_id=session,
            number=1,
            payer=PAYER,
            needed=Wei(cost),
            wanted=Wei(cost),
        )
        assert self.quota.grant_all([ask], at) == [cost]
        payment = payment_signed(
            session, cost, account_id=ACCOUNT, recipient=recipient, payer=PAYER, face_value=cost
        )
        self.quota.follow_spend([entry(payment, at)], lambda _: None)

    @property
    def activity(self) -> KeyActivity:
        return self.watching.activity(KEY, LATER)

    @property
    def stop(self) -> StopView | None:
        """As its row says, which goes to the bucket."""
        found = self.quota.rules.some([STOP])
        return StopView.model_validate_json(found[STOP]) if found else None


def entry(event: Event, at: datetime) -> LogEntry:
    return LogEntry(
        epoch=1,
        position=1,
        previous_position=0,
        subject=event.subject,
        at=at,
        event=event.model_dump(mode="json"),
    )


@pytest.fixture
def store(database: Callable[..., Database]) -> str:
    return database("quota").dsn("quota")


@pytest.fixture
def replicas(store: str) -> Iterator[tuple[Replica, Replica]]:
    env = dict(postgres_env(store, "quota", create_tables=True))
    with ExitStack() as stack:
        pair = Replica(env), Replica(env)
        for each in pair:
            stack.callback(each.quota.close)
        quota = pair[0].quota
        quota.create_tables()
        funds = FundsObserved(
            payer=PAYER,
            deposit=10**9,
            reserve=1,
            withdraw_round=0,
            pool_size=1,
            l1_block=1,
            block_hash="0x",
        )
        quota.follow_funds([entry(funds, NOW)], lambda _: None)
        yield pair


def transactions(store: str) -> list[tuple[str, Any]]:
    """What was stored of stops and alarms, by the transaction that stored it."""
    query = (
        "SELECT topic, xmin::text FROM quota.quota_events"
        " WHERE topic IN ('quota.key_alarm_raised', 'quota.stop_set') ORDER BY notification_id"
    )
    with psycopg.connect(store) as connection:
        return connection.execute(query).fetchall()


def test_what_two_edges_tell_two_replicas_at_once_is_one_alarm_and_one_stop(
    replicas: tuple[Replica, Replica], store: str
) -> None:
    replicas[0].seen_from(HOME, at=NOW)
    networks = [f"198.51.{number}.0/24" for number in range(10)]

    for network in networks:
        barrier = Barrier(4)

        def report(number: int, barrier: Barrier = barrier, network: str = network) -> None:
            barrier.wait()
            replicas[number % 2].seen_from(network)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(report, range(4)))
        assert replicas[0].stop is not None
        replicas[1].lift()
        assert replicas[0].stop is None

    raised = replicas[0].activity.alarms
    assert [(row.alarm, row.value, row.held) for row in reversed(raised)] == [
        ("network", network, True) for network in networks
    ]
    assert raised == replicas[1].activity.alarms
    stored = transactions(store)
    assert [topic for topic, _ in stored].count("quota.stop_set") == len(networks)
    assert len({transaction for _, transaction in stored}) == len(networks)


def test_a_spend_that_is_unusual_stops_the_key_in_the_same_commit(
    replicas: tuple[Replica, Replica], store: str
) -> None:
    one, other = replicas
    one.spend("s1", 10, NOW)

    other.spend("s2", 5 * 10, LATER)
    quiet = one.activity.alarms
    one.spend("s3", 1, LATER)

    assert quiet == []
    for each in replicas:
        [alarm] = each.activity.alarms
        assert (alarm.alarm, alarm.spent_wei, alarm.usual_wei, alarm.held) == ("spend", 51, 10, True)
    stop = other.stop
    assert stop is not None
    assert (stop.what, stop.value, stop.actor, stop.reason) == ("key", KEY_ID, "quota", "alarm_spend")
    assert len({transaction for _, transaction in transactions(store)}) == 1


def test_what_is_kept_beside_the_log_is_what_the_log_says(
    replicas: tuple[Replica, Replica], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = replicas
    kinds = dict.fromkeys(Quota.snapshotting_intervals, 2)
    monkeypatch.setattr(Quota, "snapshotting_intervals", kinds)
    one.seen_from(HOME, at=NOW)
    one.spend("s1", 10, NOW)
    for number in range(4):
        other.seen_from(f"198.51.{number}.0/24", HOME)
        one.spend(f"again-{number}", 60, LATER, recipient=f"0x{number:040x}")
        if number % 2:
            other.lift()

    report = replay.verify(store, lambda _: None)

    assert report.differing == {}
    assert one.activity == other.activity
    assert len(one.activity.alarms) == 9
