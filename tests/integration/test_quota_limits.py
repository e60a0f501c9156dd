"""Limits on PostgreSQL, two replicas of quota: rules, stops, tokens, the audit."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random

import pytest

from contracts.audit import ReadAudit
from contracts.limits import Limits as LimitsTold
from contracts.stops import stop_entry
from contracts.stream_starts import (
    StreamRefused,
)
from services.quota.domain.limit_set import LimitsChanged, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.plan import Terms
from services.quota.domain.stops import StopKind
from services.quota.replay import replay
from shared.money import Wei
from tests.infra import Database
from tests.integration.quota_replica import ACCOUNT, AUTHOR, NOW, Replica, two_replicas
from tests.property.limited_house import ACCOUNT as ACCOUNT_ID
from tests.property.limited_house import House


@pytest.fixture
def store(database: Callable[..., Database]) -> str:
    return database("quota").dsn("quota")


@pytest.fixture
def replicas(store: str) -> Iterator[tuple[Replica, Replica]]:
    with two_replicas(store) as pair:
        yield pair


@pytest.mark.parametrize("seed", [1, 2])
def test_windows_hold_whichever_replica_is_asked(replicas: tuple[Replica, Replica], seed: int) -> None:
    """The steps of tests/property/test_limits_properties.py, each at one of two replicas."""
    limits = {
        Scope(ACCOUNT_ID): Limits(spend_per_hour_wei=Wei(700), spend_per_day_wei=Wei(2000), sessions_max=4),
        Scope(ACCOUNT_ID, user_id="ann"): Limits(spend_per_hour_wei=Wei(300)),
        Scope(ACCOUNT_ID, key_id="key-1"): Limits(spend_limit_wei=Wei(1500)),
    }
    house = House([each.quota for each in replicas], "Europe/Berlin", limits, Random(seed))
    house.open()

    for _ in range(150):
        house.step()


def test_rules_and_stops_stand_in_the_table_that_signers_are_told_from(
    replicas: tuple[Replica, Replica],
) -> None:
    one, other = replicas
    one.limit(payments_per_second=5, spend_limit_wei=Wei(7))
    one.limit(Scope("acme", user_id="ann"), spend_limit_wei=Wei(7))
    one.limiting.set_plan("pro", Terms(key_limits=Limits(job_types=["live"])), AUTHOR, NOW)
    one.limiting.assign_plan("acme", "pro", AUTHOR, NOW)
    one.stopping.set_stops(
        [(StopKind.APP, "bad"), (StopKind.KEY, "k")], AUTHOR, expires_at=NOW + timedelta(hours=1), now=NOW
    )
    other.stopping.lift_stops([(StopKind.KEY, "k")], AUTHOR, NOW)

    found = {key: json.loads(value) for key, value in other.quota.rules.all().items()}

    assert found["account.acme"] == {"rules": {"payments_per_second": 5}, "plan": "pro"}
    assert found["plan.pro"] == {"key_rules": {"job_types": ["live"]}}
    assert found[stop_entry("app", "bad")]["expires_at"] == "2026-03-01T13:00:00Z"
    assert len(found) == 3  # a user's limit on spend is no rule, and a lifted stop is none
    assert other.quota.rules.plan_names() == ["pro"]
    assert [stop.what for stop in other.stopping.stops("", 10, NOW)] == ["app"]


def test_an_expired_stop_is_forgotten_and_one_that_was_prolonged_stays(
    replicas: tuple[Replica, Replica],
) -> None:
    one, other = replicas
    later = NOW + timedelta(minutes=1)
    for name in ("short", "long"):
        one.stopping.set_stops([(StopKind.APP, name)], AUTHOR, expires_at=later, now=NOW)
    other.stopping.set_stops(
        [(StopKind.APP, "long")], AUTHOR, expires_at=later + timedelta(seconds=1), now=NOW
    )

    one.stopping.lift_expired_stops(later - timedelta(seconds=1))
    before = [stop.value for stop in other.stopping.stops("", 10, NOW)]
    one.stopping.lift_expired_stops(later)

    assert before == ["long", "short"]
    assert [stop.value for stop in other.stopping.stops("", 10, NOW)] == ["long"]
    assert list(one.quota.rules.all()) == [stop_entry("app", "long")]


def test_the_limits_of_a_token_go_with_it(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    ends = int((NOW + timedelta(hours=1)).timestamp())
    for token in ("t-1", "t-2"):
        one.limit(Scope("acme", token_id=token), spend_limit_wei=Wei(5), expires_at=ends)
        ends += 3600

    other.limiting._drop_expired_tokens(NOW + timedelta(days=1, minutes=90))  # noqa: SLF001 (what its task does)

    assert set(one.quota.rules.all()) == {"token.acme.t-2"}


def test_an_ended_token_has_expired_wherever_rules_are_checked(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    token = Scope("acme", token_id="t-1")
    ends = int((NOW + timedelta(hours=1)).timestamp())
    one.limit(token, payments_per_second=5, spend_limit_wei=Wei(5), expires_at=ends)
    before = one.limiting.view(token, NOW)

    other.limiting.end_token(token, AUTHOR, NOW)
    after = one.limiting.end_token(token, AUTHOR, NOW + timedelta(seconds=1))  # it has ended already

    entry = json.loads(one.quota.rules.all()["token.acme.t-1"])
    assert entry == {"rules": {"payments_per_second": 5, "expires_at": "2026-03-01T12:00:00Z"}}
    assert after.own == before.own.model_copy(update={"expires_at": NOW})
    one.limiting._drop_expired_tokens(NOW + timedelta(days=1, seconds=1))  # noqa: SLF001 (what its task does)
    assert one.quota.rules.all() == {}


@pytest.mark.parametrize("scope", [ACCOUNT, Scope("acme", key_id="k-1")])
def test_of_two_who_replace_what_both_have_read_one_does(
    replicas: tuple[Replica, Replica], scope: Scope
) -> None:
    version = replicas[0].limiting.view(scope, NOW).version

    def race(number: int) -> int | None:
        limits = Limits(sessions_max=number)
        try:
            return (
                replicas[number]
                .limiting.set_limits(scope, limits, AUTHOR, NOW, version=version)
                .own.sessions_max
            )
        except LimitsChanged:
            return None

    with ThreadPoolExecutor(2) as threads:
        ended = list(threads.map(race, (0, 1)))

    [winner] = [each for each in ended if each is not None]
    assert [each.limiting.view(scope, NOW).own.sessions_max for each in replicas] == [winner] * 2


def test_of_two_who_replace_a_plan_that_both_have_read_one_does(replicas: tuple[Replica, Replica]) -> None:
    def race(number: int) -> int | None:
        limiting = replicas[number].limiting
        try:
            return limiting.set_plan("pro", Terms(rank=number), AUTHOR, NOW, version=0).plan.rank
        except LimitsChanged:
            return None

    with ThreadPoolExecutor(2) as threads:
        ended = list(threads.map(race, (0, 1)))

    [winner] = [each for each in ended if each is not None]
    [plan] = replicas[0].limiting.plans(["pro"], NOW)
    assert plan.plan.rank == winner


def test_a_limit_that_one_replica_sets_holds_at_the_other(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    other.limiting.view(ACCOUNT, NOW)
    one.limit(streams_max=0)

    assert isinstance(other.begin("a"), StreamRefused)
    assert other.limiting.view(ACCOUNT, NOW).own == LimitsTold(streams_max=0)


def test_who_changed_what_is_in_the_audit(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    one.limit(streams_max=3)
    one.limiting.set_plan("pro", Terms(), AUTHOR, NOW)
    other.stopping.set_stops([(StopKind.APP, "bad")], AUTHOR, expires_at=None, now=NOW)
    one.begin("a")

    rows = other.quota.audit.read(ReadAudit()).rows

    assert [(row.action, row.actor, row.reason) for row in rows] == [
        ("stop_set", "admin:12345678", "test"),
        ("plan_set", "admin:12345678", "test"),
        ("limits_set", "admin:12345678", "test"),
    ]
    assert rows[2].account_id == "acme"
    assert rows[2].details["limits"] == {"streams_max": 3}


def test_tables_are_what_the_log_tells(replicas: tuple[Replica, Replica], store: str) -> None:
    one, _ = replicas
    one.limit(payments_per_second=5, spend_per_hour_wei=Wei(900))
    one.limit(Scope("acme", user_id="ann"), spend_limit_wei=Wei(500))
    one.limiting.set_plan("pro", Terms(), AUTHOR, NOW)
    one.stopping.set_stops([(StopKind.APP, "bad")], AUTHOR, expires_at=None, now=NOW)
    one.begin("a", "ann")
    one.begin("b", "ann")
    one.streaming.end("acme", "b", None, "ended", NOW)
    one.told(0, "70")
    one.limit(spend_per_hour_wei=Wei(800))
    one.limiting.end_token(Scope("acme", token_id="t-1"), AUTHOR, NOW)

    differing = _verify(store)
    with one.quota.recorder.datastore.get_connection() as connection:  # type: ignore[attr-defined]
        connection.execute("DELETE FROM quota.rules WHERE entry = 'plan.pro'")
        connection.execute("DELETE FROM quota.audit WHERE action = 'stop_set'")
        connection.execute("UPDATE quota.streams SET user_id = 'eve'")
    named = _verify(store)

    assert differing == {}
    assert set(named) == {"rules", "audit", "streams"}


def _verify(dsn: str) -> dict[str, list[str]]:
    return replay.verify(dsn, lambda _: None).differing
