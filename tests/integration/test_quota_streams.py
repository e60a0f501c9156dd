"""Streams and estimates of other signers on PostgreSQL, at two replicas of quota."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from contracts.stream_starts import (
    StreamBegun,
    StreamRefused,
    StreamStopped,
)
from services.quota.domain.limit_set import Scope
from services.quota.domain.streams import Streams
from services.quota.outbox import public_of
from services.quota.streaming import StreamNotFound
from shared.money import Wei
from tests.infra import Database
from tests.integration.quota_replica import NOW, Replica, two_replicas


@pytest.fixture
def store(database: Callable[..., Database]) -> str:
    return database("quota").dsn("quota")


@pytest.fixture
def replicas(store: str) -> Iterator[tuple[Replica, Replica]]:
    with two_replicas(store) as pair:
        yield pair


def test_no_more_streams_run_than_may(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    one.limit(streams_max=2)
    one.limit(Scope("acme", user_id="ann"), streams_max=1)

    begun = one.begin("a", "ann")
    refused = other.begin("b", "ann")
    again = other.begin("a", "ann")
    third = [one.begin("c", "bob"), other.begin("d", "bob")]

    assert isinstance(begun, StreamBegun)
    assert isinstance(again, StreamBegun)
    assert again.begun_at == begun.begun_at
    assert isinstance(refused, StreamRefused)
    assert (refused.status, refused.code) == (429, "too_many_streams")
    assert "user ann has 1 streams of 1" in refused.message
    assert [type(each) for each in third] == [StreamBegun, StreamRefused]
    assert {row.name: (row.used, row.limit) for row in begun.rows} == {
        "spend_limit_wei": (0, 1000),
        "streams_max": (1, 2),
        "user.streams_max": (1, 1),
    }


def test_the_last_place_goes_to_one_of_two_who_race(replicas: tuple[Replica, Replica]) -> None:
    replicas[0].limit(streams_max=5)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: replicas[number % 2].begin(f"stream-{number}"), range(20)))

    assert len([each for each in answers if isinstance(each, StreamBegun)]) == 5
    assert len(replicas[0].running()) == 5


def test_an_expired_lease_tells_when_the_last_heartbeat_was(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    one.begin("a")
    other.streaming.beat("acme", "a", None, NOW + timedelta(seconds=50))

    one.streaming._end_expired(NOW + timedelta(seconds=300))  # noqa: SLF001 (what its task does)

    stored = list(one.quota.events.get(Streams.create_id("acme")))[-1]
    assert isinstance(stored, Streams.Ended)
    assert (stored.because, stored.alive_at) == ("lease_expired", NOW + timedelta(seconds=50))
    told = public_of(stored, one.quota.repository.get(Streams.create_id("acme")))
    assert told == StreamStopped(
        account_id="acme", stream_id="a", because="lease_expired", alive_at=NOW + timedelta(seconds=50)
    )


def test_a_stream_ends_once_or_when_its_lease_does(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    one.begin("a")
    one.begin("b")

    other.streaming.beat("acme", "b", None, NOW + timedelta(seconds=50))
    other.streaming._end_expired(NOW + timedelta(seconds=61))  # noqa: SLF001 (what its task does)
    ended = one.streaming.end("acme", "b", None, "ended", NOW)

    assert one.running() == other.running() == []
    assert (ended.ended_because, ended.stream_id) == ("ended", "b")
    with pytest.raises(StreamNotFound):
        other.streaming.end("acme", "b", None, "ended", NOW)
    with pytest.raises(StreamNotFound):
        other.streaming.beat("acme", "a", None, NOW)


def test_another_users_stream_is_not_found(replicas: tuple[Replica, Replica]) -> None:
    replicas[0].begin("a", "ann")

    with pytest.raises(StreamNotFound):
        replicas[1].streaming.end("acme", "a", "bob", "ended", NOW)
    taken = replicas[1].begin("a", "bob")
    assert isinstance(taken, StreamRefused)
    assert taken.code == "stream_id_taken"


def test_who_has_nothing_left_begins_no_stream(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    one.limit(spend_per_hour_wei=Wei(30))
    assert one.told(0, "0") == (200, 30)  # ten seconds of 3 wei

    one.authorizing._settle_idle(NOW + timedelta(seconds=121))  # noqa: SLF001 (what its task does)
    refused = other.begin("a", at=NOW + timedelta(minutes=10))

    assert isinstance(refused, StreamRefused)
    assert (refused.status, refused.code, refused.retry_after_seconds) == (402, "spend_limit_reached", 3001)
    assert isinstance(other.begin("a", at=NOW + timedelta(minutes=60)), StreamBegun)


def test_what_another_signer_tells_is_held_and_then_spent(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas

    first = one.told(0, "70")  # tickets worth 100, ten seconds of 3 wei taken
    repeat = other.told(0, "70")
    second = other.told(1, "40", NOW + timedelta(seconds=10))  # none due: 30 more taken
    third = one.told(2, "281/2", NOW + timedelta(seconds=20))
    held = one.quota.budget("acme", NOW).held
    one.authorizing._settle_idle(NOW + timedelta(seconds=141))  # noqa: SLF001
    budget = other.quota.budget("acme", NOW)
    settled = (budget.held, budget.spent)
    after = other.told(3, "281/2", NOW + timedelta(seconds=150))

    assert (first, repeat, second, third) == ((200, 100), (200, 0), (200, 0), (200, 131))
    assert held == 231
    assert settled == (0, 231)
    assert after == (200, 390)


def test_another_signers_client_is_refused_with_the_communitys_codes(
    replicas: tuple[Replica, Replica],
) -> None:
    one, other = replicas
    one.limit(spend_limit_wei=Wei(120))
    one.told(0, "70")
    waits = other.told(0, "20", state="t")

    one.authorizing._settle_idle(NOW + timedelta(seconds=121))  # noqa: SLF001
    refused = other.told(0, "20", state="t")

    assert (waits[0], refused[0]) == (429, 483)
