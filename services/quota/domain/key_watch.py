"""What is usual for an API key: the networks it is used from, the recipients it pays; and its alarms.

What was not seen for thirty days is forgotten, and new again. On a key's first day all is new: then it
is learned and no alarm.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from shared.money import Wei

NETWORKS_MAX, RECIPIENTS_MAX = 200, 1000  # those seen last
ALARMS_KEPT = 100
FORGOTTEN_SECONDS = 30 * 86_400
DAY_SECONDS = 86_400
FLOOR = Wei(10**15)
LEARNING = timedelta(days=1)


class Alarm(StrEnum):
    SPEND = "spend"
    NETWORK = "network"
    RECIPIENT = "recipient"


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What no alarm is raised under, or before."""

    floor: Wei = FLOOR  # what the highest hour counts as at least
    learning: timedelta = LEARNING  # since a key is known


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm: `value` is the network or the recipient, the rest is of spend."""

    alarm: Alarm
    value: str = ""
    spent: Wei | None = None
    usual: Wei | None = None  # the highest hour of the days before
    hour: int = 0  # when it began, in seconds since 1970


class KeyWatch(Aggregate):
    TOPIC = "quota.key_watch"

    class Event(Aggregate.Event):
        TOPIC = "quota.key_watch.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.key_watch_opened"
        account_id: str
        key_id: str

    class NetworksSeen(Event):
        """At most once a UTC day of each."""

        TOPIC = "quota.key_networks_seen"
        networks: list[str]

    class RecipientsPaid(Event):
        """At most once a UTC day of each."""

        TOPIC = "quota.key_recipients_paid"
        recipients: list[str]

    class AlarmRaised(Event):
        """`held`: it has stopped the key."""

        TOPIC = "quota.key_alarm_raised"
        alarm: str
        value: str
        spent: Wei | None
        usual: Wei | None
        hour: int
        held: bool

    @staticmethod
    def create_id(account_id: str, key_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/keys/{key_id}/watch")

    @event(Opened)
    def __init__(self, account_id: str, key_id: str, timestamp: datetime) -> None:
        self.account_id = account_id
        self.key_id = key_id
        self.networks: dict[str, list[int]] = {}  # when each was seen first and last, in seconds
        self.recipients: dict[str, list[int]] = {}
        self.alarms: list[dict[str, Any]] = []  # the last ones, in their order
        self.alarmed_hour = 0  # whose spend was an alarm last

    # What it knows

    def is_learning(self, now: datetime, learning: timedelta) -> bool:
        return now < self.created_on + learning

    def has_raised_many(self, now: datetime) -> bool:
        """Whether all alarms that are kept are of today: whoever is to be told has been."""
        today = int(now.timestamp()) // DAY_SECONDS
        return len(self.alarms) == ALARMS_KEPT and int(self.alarms[0]["raised"]) // DAY_SECONDS == today

    # What may be done with it

    def see_networks(self, networks: Iterable[str], now: datetime) -> list[str]:
        """Note what was not noted on this day; returns those that are new."""
        unseen = _unseen(self.networks, networks, now)
        new = _new(self.networks, unseen, now)
        if unseen:
            self._networks_seen(unseen, now)
        return new

    def see_recipients(self, recipients: Iterable[str], now: datetime) -> list[str]:
        """Note what was not noted on this day; returns those that are new."""
        unseen = _unseen(self.recipients, recipients, now)
        new = _new(self.recipients, unseen, now)
        if unseen:
            self._recipients_paid(unseen, now)
        return new

    def raise_alarm(self, raised: Raised, now: datetime, *, held: bool) -> None:
        self._alarm_raised(
            raised.alarm.value, raised.value, raised.spent, raised.usual, raised.hour, held, now
        )

    # What happened

    @event(NetworksSeen)
    def _networks_seen(self, networks: list[str], timestamp: datetime) -> None:
        _see(self.networks, networks, NETWORKS_MAX, timestamp)

    @event(RecipientsPaid)
    def _recipients_paid(self, recipients: list[str], timestamp: datetime) -> None:
        _see(self.recipients, recipients, RECIPIENTS_MAX, timestamp)

    @event(AlarmRaised)
    def _alarm_raised(
        self,
        alarm: str,
        value: str,
        spent: Wei | None,
        usual: Wei | None,
        hour: int,
        held: bool,
        timestamp: datetime,
    ) -> None:
        told = {"alarm": alarm, "value": value, "spent": spent, "usual": usual, "held": held}
        self.alarms = [*self.alarms, {**told, "raised": timestamp.timestamp()}][-ALARMS_KEPT:]
        self.alarmed_hour = max(self.alarmed_hour, hour)


def _unseen(known: dict[str, list[int]], names: Iterable[str], now: datetime) -> list[str]:
    today = int(now.timestamp()) // DAY_SECONDS
    return sorted({name for name in names if name not in known or known[name][1] // DAY_SECONDS < today})


def _new(known: dict[str, list[int]], names: Iterable[str], now: datetime) -> list[str]:
    return [name for name in names if name not in known or _is_forgotten(known[name], now)]


def _see(known: dict[str, list[int]], names: Iterable[str], many_max: int, at: datetime) -> None:
    """Keep those that were seen last."""
    seconds = int(at.timestamp())
    for name in [name for name, seen in known.items() if _is_forgotten(seen, at)]:
        del known[name]
    for name in names:
        first, last = known.pop(name, (seconds, seconds))
        known[name] = [first, max(last, seconds)]
    while len(known) > many_max:
        del known[min(known, key=lambda name: known[name][1])]


def _is_forgotten(seen: list[int], now: datetime) -> bool:
    return seen[1] < int(now.timestamp()) - FORGOTTEN_SECONDS
