"""What importers send, batch after batch, by a seed: repeats, corrections, late ones, and some to refuse.

Several clients may read one feed, each at its own pace: all get the same batches.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil
from random import Random
from typing import Any

from tests.acceptance.system import Account
from tests.faults.imports.sent import APP, HOUR_MS, HOUR_US, NOTE, RUN, Event, Key, Sent, Ticket, Value
from tests.told_tickets import event as written

USERS = ("ann", "bob")
MODELS, REGIONS = ("small", "tiny", "large"), ("eu", "us")
CALLERS = 40
LATE_HOURS = (3, 30)
TOO_OLD_US = 40 * 24 * HOUR_US
BATCH = (20, 90)
EVENTS, LINES = "application/cloudevents-batch+json", "application/x-ndjson"
JOB_TYPES = {"live-video-to-video": "lv2v", "live": "live", "fixed": "fixed", "": ""}
RECIPIENTS = ("0x00000000000000000000000000000000000000ab", "0x00000000000000000000000000000000000000cd")
SESSIONS_OPEN = 6


@dataclass(frozen=True)
class Customer:
    """An account whose usage is imported, and a key of one of its users."""

    account: Account
    user_key: str  # of USERS[0]


@dataclass(frozen=True)
class Batch[Item: (Event, Ticket)]:
    """`headers` are the credential, `query` names the account where an administrator sends."""

    items: Sequence[Item]
    lines: Sequence[str]  # each item in JSON
    headers: Mapping[str, str]
    query: str = ""

    @property
    def body(self) -> bytes:
        is_lines = self.headers["Content-Type"] == LINES
        return ("\n".join(self.lines) if is_lines else f"[{','.join(self.lines)}]").encode()

    def pieces(self, random: Random) -> "Iterator[Batch[Item]]":
        """The same, cut in two and in another order: but what is about one record keeps its own."""
        places: dict[Key, list[int]] = {}
        for place, item in enumerate(self.items):
            places.setdefault(item.about, []).append(place)
        order = [place for same in random.sample([*places.values()], len(places)) for place in same]
        cut = random.randrange(len(order))
        for part in filter(None, (order[:cut], order[cut:])):
            yield replace(self, items=[self.items[at] for at in part], lines=[self.lines[at] for at in part])


class Feed[Item: (Event, Ticket)](ABC):
    """Batches are made when the first client asks for them; none any more once it is closed.

    They are posted to `PATH`, which answers one that it could read with the status `READ`.
    """

    PATH: str
    READ: int

    def __init__(self, customers: Sequence[Customer], random: Random, sent: Sent) -> None:
        self.customers = customers
        self.random = random
        self.sent = sent
        self._made: list[Batch[Item]] = []
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def batch(self, number: int) -> Batch[Item] | None:
        """None if there is none of this number, and never will be."""
        if number == len(self._made) and not self.is_closed:
            self._made.append(self._make())
            self.sent.add(self._made[-1].items)
        return self._made[number] if number < len(self._made) else None

    @abstractmethod
    def _make(self) -> Batch[Item]:
        """Make the next batch."""

    def moment(self, unit: int) -> int:
        """A time within the hour in which all began, or hours before it, in such units of an hour."""
        if self.random.random() < 0.3:
            hour = self.sent.hour - self.random.randint(*LATE_HOURS)
            return hour * unit + self.random.randrange(unit)
        now = int(time.time() * (unit // 3600))
        return self.random.randrange(self.sent.hour * unit, min(now, (self.sent.hour + 1) * unit - 1) + 1)


class EventFeed(Feed[Event]):
    """CloudEvents: with an administrator's key, an account's, or that of one user."""

    PATH, READ = "/v1/usage/events", 202

    def __init__(
        self,
        customers: Sequence[Customer],
        random: Random,
        sent: Sent,
        *,
        source: str,
        admin_key: str,
        all_good: bool = False,
    ) -> None:
        super().__init__(customers, random, sent)
        self._source = source
        self._admin_key = admin_key
        self._all_good = all_good
        self._number = 0
        self._records: dict[str, list[Event]] = {each.account.account_id: [] for each in customers}

    def _make(self) -> Batch[Event]:
        customer = self.random.choice(self.customers)
        account_id = customer.account.account_id
        key, user_id, query = self.random.choice(
            [
                (self._admin_key, "", f"?account={account_id}"),
                (customer.account.api_key, "", ""),
                (customer.user_key, USERS[0], ""),
            ]
        )
        items: list[Event] = []
        for _ in range(self.random.randint(*BATCH)):
            items.append(self._item(account_id, user_id, items))
        lines = [text_of(item) for item in items]
        return Batch(items, lines, {"Authorization": f"Bearer {key}", "Content-Type": EVENTS}, query)

    def _item(self, account_id: str, user_id: str, items: Sequence[Event]) -> Event:
        """A record, something about one that was sent before, or what has to be refused."""
        chance = self.random.random()
        known = [each for each in self._records[account_id][-300:] if user_id in {"", each.user_id}]
        if known and chance < 0.08:
            return self.random.choice(known)
        if known and chance < 0.11:  # whatever it says now, it was recorded with what it said first
            return replace(self.random.choice(known), type=RUN, data=self._data())
        if known and chance < 0.25:
            return self._correction(self.random.choice(known))
        if items and chance < 0.30:
            return self.random.choice(items)
        if chance < 0.33 and not self._all_good:
            return self._refused(account_id, user_id)
        return self._record(account_id, user_id)

    def _record(self, account_id: str, user_id: str) -> Event:
        subject = user_id or self.random.choice(["", *USERS])
        kind = RUN if self.random.random() < 0.85 else NOTE
        data = self._data() if kind == RUN else {"text": "so"}
        made = Event(account_id, subject, self._source, self._name(), kind, self.moment(HOUR_US), data)
        self._records[account_id].append(made)
        return made

    def _correction(self, record: Event) -> Event:
        data = None if self.random.random() < 0.25 else self._data()
        return replace(record, event_id=self._name(), data=data, corrects=record.event_id)

    def _refused(self, account_id: str, user_id: str) -> Event:
        made = Event(account_id, user_id, self._source, self._name(), RUN, self.moment(HOUR_US), self._data())
        match self.random.randrange(3):
            case 0:
                return replace(made, at=made.at - TOO_OLD_US, refused="event_out_of_window")
            case 1:
                return replace(made, data={"model": "small"}, refused="unfit_value")
        return replace(made, corrects="nothing", refused="corrects_not_found")

    def _data(self) -> dict[str, Value]:
        """Odd amounts; some tell no model, which is a group as well."""
        data: dict[str, Value] = {
            "tokens": Decimal(self.random.randrange(10**12)).scaleb(-self.random.choice([0, 3, 9])),
            "seconds": Decimal(self.random.randrange(9 * 10**12)).scaleb(-9),
            "region": self.random.choice(REGIONS),
            "caller": f"caller-{self.random.randrange(CALLERS)}",
        }
        if self.random.random() < 0.9:
            data["model"] = self.random.choice(MODELS)
        return data

    def _name(self) -> str:
        self._number += 1
        return f"{self._number}"


class TicketFeed(Feed[Ticket]):
    """Payments of another signer, by its events: with the secret of its hook, or an account's key."""

    PATH, READ = "/v1/usage/tickets", 200

    def __init__(
        self,
        customers: Sequence[Customer],
        random: Random,
        sent: Sent,
        *,
        hook_secret: str,
        all_good: bool = False,
    ) -> None:
        super().__init__(customers, random, sent)
        self._hook_secret = hook_secret
        self._all_good = all_good
        self._said: dict[Ticket, dict[str, Any]] = {}
        self._open: dict[str, list[list[Any]]] = {each.account.account_id: [] for each in customers}

    def _make(self) -> Batch[Ticket]:
        own = self.random.choice(self.customers).account
        by_account = self.random.random() < 0.3
        items: list[Ticket] = []
        for _ in range(self.random.randint(*BATCH)):
            account = own if by_account else self.random.choice(self.customers).account
            items.append(self._item(account.account_id, items))
        lines = [json.dumps(self._said[item]) for item in items]
        self._said.clear()
        key = own.api_key if by_account else self._hook_secret
        return Batch(items, lines, {"Authorization": f"Bearer {key}", "Content-Type": LINES})

    def _item(self, account_id: str, items: Sequence[Ticket]) -> Ticket:
        chance = self.random.random()
        if items and chance < 0.08:
            return self.random.choice(items)
        if chance < 0.1:
            return self._ticket(account_id, due="ignored", type="create_new_payment")
        if chance < 0.12 and not self._all_good:
            return self._ticket(account_id, due="account_not_found", auth_id="nobody-of-ours:ann")
        return self._ticket(account_id)

    def _ticket(self, account_id: str, due: str = "", **changes: Any) -> Ticket:
        """The next payment of a session; one that is not kept has a session of its own."""
        session_id, user_id, sequence = self._session(account_id) if not due else (self._name(), "", 0)
        pipeline, at = self.random.choice(list(JOB_TYPES)), self.moment(HOUR_MS)
        seconds = self.random.randrange(0, 9000) / 1000
        said = written(
            sequence,
            at=datetime.fromtimestamp(at // 1000, UTC),
            session_id=session_id,
            app=APP,
            pipeline=pipeline,
            computed_fee=str(self.random.randrange(10**9)),
            num_tickets=self.random.randint(0, 5),
            pixels=self.random.randrange(10**8),
            billable_secs=seconds,
            orch_address=self.random.choice(RECIPIENTS),
            **{"auth_id": f"{account_id}:{user_id}", **changes},
        )
        made = _read(said, account_id, user_id, due)
        self._said[made] = said
        return made

    def _session(self, account_id: str) -> tuple[str, str, int]:
        """One that is open, or another; all of its payments are of one user."""
        sessions = self._open[account_id]
        if len(sessions) < SESSIONS_OPEN or self.random.random() < 0.05:
            sessions[:] = sessions[1 - SESSIONS_OPEN :]
            sessions.append([self._name(), self.random.choice(["", *USERS]), -1])
        session = self.random.choice(sessions)
        session[2] += 1
        return session[0], session[1], session[2]

    def _name(self) -> str:
        return f"{self.random.getrandbits(64):016x}"


def text_of(event: Event) -> str:
    """The event in JSON, numbers as they are."""
    said: dict[str, str] = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": event.source,
        "type": event.type,
        "time": _rfc_3339(event.at),
    }
    if event.user_id:
        said["subject"] = event.user_id
    if event.corrects:
        said["corrects"] = event.corrects
    members = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in said.items()]
    if event.data is not None:
        members.append(f'"data":{{{",".join(_members(event.data))}}}')
    return f"{{{','.join(members)}}}"


def _members(data: Mapping[str, Value]) -> Iterator[str]:
    for name, value in data.items():
        yield f"{json.dumps(name)}:{f'{value:f}' if isinstance(value, Decimal) else json.dumps(value)}"


def _rfc_3339(at: int) -> str:
    seconds, rest = divmod(at, 10**6)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06}Z"


def _read(said: Mapping[str, Any], account_id: str, user_id: str, due: str) -> Ticket:
    """What usage an event has to become."""
    data = said["data"]
    job_type = JOB_TYPES[data["pipeline"]]
    seconds = ceil(Decimal(repr(data["billable_secs"])))
    return Ticket(
        account_id=account_id,
        user_id=user_id,
        event_id=said["id"],
        session_id=data["session_id"],
        sequence=data["sequence_number"],
        at=data["current_time_unix"],
        recipient=data["orch_address"].lower(),
        job_type=job_type,
        tickets=data["num_tickets"],
        fee=int(data["computed_fee"]),
        units={"live": seconds, "fixed": 1}.get(job_type, data["pixels"]),
        due=due,
    )
