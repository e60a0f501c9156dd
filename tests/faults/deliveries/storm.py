"""What Livepeer Studio tells of streams, and what the network makes of it; all told by a seed.

Each stream has runs. Deliveries come in any order, twice, late, from two webhooks, or never.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from services.metering.domain.known import Delivery
from services.metering.domain.stream import milliseconds, moment_of
from services.metering.streaming import Arrival

NOW = datetime(2031, 5, 17, 12, 7, tzinfo=UTC)
GRACE = timedelta(hours=12)
START_MS = milliseconds(NOW) - 48 * 3_600_000
RUNS_MAX = 5
ACCOUNTS = 7
LOST, TWICE, OTHER_WEBHOOK = 0.08, 0.25, 0.1
LATE_MS_MAX = 20 * 3_600_000
USERS = ("", "ann", "bob", "cid")


@dataclass(frozen=True)
class Show:
    """One stream as it really was: from when to when it ran."""

    account_id: str
    stream_id: str
    user_id: str
    runs: tuple[tuple[int, int], ...]

    @property
    def wall_ms(self) -> int:
        return self.runs[-1][1] - self.runs[0][0]

    @property
    def elapsed_ms(self) -> int:
        return sum(ended - began for began, ended in self.runs)


@dataclass(frozen=True)
class Storm:
    """Shows, with what arrives of them; `whole` are those of which everything arrives at least once."""

    shows: list[Show]
    arrivals: list[Arrival]
    whole: frozenset[str]


def storm(seed: int, amount: int) -> Storm:
    """Make so many streams, and shuffle all that is told of them."""
    random = Random(seed)
    shows = [_show(random, seed, number) for number in range(amount)]
    arrivals: list[Arrival] = []
    whole: set[str] = set()
    for show in shows:
        told = [[] if random.random() < LOST else _copies(random, arrival) for arrival in _tell(show)]
        if all(told):
            whole.add(show.stream_id)
        arrivals += [arrival for copies in told for arrival in copies]
    random.shuffle(arrivals)
    return Storm(shows, arrivals, frozenset(whole))


def _show(random: Random, seed: int, number: int) -> Show:
    at, runs = START_MS + random.randrange(3_600_000), []
    for _ in range(random.randint(1, RUNS_MAX)):
        began = at + random.randint(1, 2 * 3_600_000)
        at = began + random.choice([1, random.randint(1, 90_000), random.randint(1, 4 * 3_600_000)])
        runs.append((began, at))
    account_id = f"account-{random.randrange(ACCOUNTS)}"
    return Show(account_id, f"stream-{seed}-{number}", random.choice(USERS), tuple(runs))


def _tell(show: Show) -> Iterator[Arrival]:
    source = 0
    for began, ended in show.runs:
        yield _arrival(show, "stream.started", began, source)
        source += ended - began
        yield _arrival(show, "stream.idle", ended, source)


def _arrival(show: Show, event: str, at: int, source: int) -> Arrival:
    delivery = Delivery(
        hook_id="hook",
        webhook_id="webhook-1",
        event_id=f"{show.stream_id}-{event}-{at}",
        event=event,
        at=at,
        seen=None,
        source=source,
        user_id=show.user_id,
        user_from="creator_id",
        received=at,
    )
    return Arrival(show.account_id, show.stream_id, delivery, body="{}", received_at=moment_of(at))


def _copies(random: Random, arrival: Arrival) -> list[Arrival]:
    """As it comes: late by some time, perhaps more than once, perhaps by another webhook as well."""
    copies = [_late(random, arrival)]
    while random.random() < TWICE:
        copies.append(_late(random, arrival))
    if random.random() < OTHER_WEBHOOK:
        delivery = arrival.delivery._replace(webhook_id="webhook-2")
        copies.append(_late(random, Arrival(arrival.account_id, arrival.stream_id, delivery, "{}", NOW)))
    return copies


def _late(random: Random, arrival: Arrival) -> Arrival:
    received = arrival.delivery.at + random.choice([0, 700, random.randrange(LATE_MS_MAX)])
    delivery = arrival.delivery._replace(received=received)
    return Arrival(arrival.account_id, arrival.stream_id, delivery, arrival.body, moment_of(received))


def batches(random: Random, arrivals: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """Cut what arrives as an edge's line may cut it."""
    place = 0
    while place < len(arrivals):
        size = random.choice([1, 7, 100])
        yield list(arrivals[place : place + size])
        place += size
