"""Reads what metering stored of imports, in one snapshot; shares no code with it."""

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import psycopg

from tests.faults.imports.expected import Amount, Paid, PaidHour, Place
from tests.faults.imports.sent import APP, Key

HOUR_SECONDS, US_OF_MS = 3600, 1000
LOG = "SELECT originator_id, state FROM metering.metering_events WHERE topic = %s ORDER BY notification_id"
HOURS = """
SELECT account_id, meter, hour, of_hour, user_id, groups, records, late, amount FROM metering.meter_hourly
WHERE account_id = ANY(%s) AND (records, late, amount) <> (0, 0, 0)
"""
VALUES = """
SELECT account_id, meter, hour, of_hour, user_id, groups, value, records FROM metering.meter_values
WHERE account_id = ANY(%s) AND records <> 0
"""
PAID = """
SELECT account_id, user_id, job_type, app, recipient, hour,
    (of_hour, ev_numerator, fee_numerator, fee_denominator, key_id, capability) = (hour, 0, cost, 1, '', ''),
    payments, tickets, cost, units, sessions, late
FROM metering.usage_hourly WHERE account_id = ANY(%s) AND app = %s
"""
SIGNED = """
SELECT account_id, user_id, hour, sum(payments), sum(tickets), sum(cost) FROM metering.usage_hourly
WHERE account_id = ANY(%s) AND app <> %s GROUP BY 1, 2, 3 HAVING sum(payments) <> 0
"""
SESSIONS = """
SELECT account_id, session_id, payments, tickets, cost FROM metering.sessions
WHERE account_id = ANY(%s) AND session_id LIKE 'go-livepeer:%%'
"""

type Where = tuple[UUID, int]  # a batch, and the place in it


@dataclass(frozen=True, slots=True)
class Stored:
    """A record, correction or payment in metering's log; `said` is what it tells."""

    key: Key
    said: tuple[Any, ...]
    where: Where
    number: int = 0  # of a correction of its record


@dataclass
class Rows:
    """The log and its keys (`stored`, `keys`, `corrections`, `ticket_keys`) of all; else the importers'."""

    stored: list[Stored] = field(default_factory=list)
    keys: dict[UUID, Where] = field(default_factory=dict)
    corrections: dict[tuple[UUID, int], Where] = field(default_factory=dict)
    ticket_keys: set[UUID] = field(default_factory=set)
    hours: dict[Place, Amount] = field(default_factory=dict)
    values: dict[tuple[Place, str], int] = field(default_factory=dict)
    paid_hours: dict[PaidHour, Paid] = field(default_factory=dict)
    paid_sessions: dict[tuple[str, str], Paid] = field(default_factory=dict)
    signed_hours: dict[tuple[str, str, int], tuple[int, int, int]] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)  # rows that no import makes


def read_rows(dsn: str, account_ids: Collection[str]) -> Rows:
    """Read all in one snapshot; raises psycopg.Error if the server is away."""
    rows, ours = Rows(), list(account_ids)
    with psycopg.connect(dsn, connect_timeout=5, options="-c statement_timeout=60000") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        cursor = connection.cursor()
        rows.stored = [*_events(cursor), *_tickets(cursor)]
        found = cursor.execute("SELECT key, batch, index FROM metering.event_keys")
        rows.keys = {key: (batch, index) for key, batch, index in found}
        found = cursor.execute("SELECT key, number, batch, index FROM metering.event_corrections")
        rows.corrections = {(key, number): (batch, index) for key, number, batch, index in found}
        rows.ticket_keys = {key for (key,) in cursor.execute("SELECT key FROM metering.signed_tickets")}
        _read_meters(cursor, rows, ours)
        _read_payments(cursor, rows, ours)
    return rows


def event_key(key: Key) -> UUID:
    """What an event is known by: SHA-256 over account, source and id, each after its length."""
    parts = [text.encode() for text in key[1:]]
    return UUID(bytes=hashlib.sha256(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).digest()[:16])


def ticket_key(key: Key) -> UUID:
    """What a signed ticket is known by."""
    _, account_id, event_id, gateway = key
    return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/signed-tickets/{event_id}/{gateway}")


def _log(cursor: psycopg.Cursor[Any], topic: str) -> Iterator[tuple[UUID, dict[str, Any]]]:
    for batch, stored in cursor.execute(LOG, (topic,)).fetchall():
        yield batch, json.loads(zlib.decompress(stored))


def _events(cursor: psycopg.Cursor[Any]) -> Iterator[Stored]:
    for batch, state in _log(cursor, "metering.usage_events_recorded"):
        account_id, usage = state["account_id"], state["usage"]
        texts, shapes = usage["texts"], usage["shapes"]
        for place, (source, name, kind, user, at, *data) in enumerate(usage["records"]):
            key = ("event", account_id, texts[source], name)
            said = texts[kind], texts[user], usage["at"] + at, _unpacked(shapes, data)
            yield Stored(key, said, (batch, place))
        for place, each in enumerate(usage["corrections"], len(usage["records"])):
            source, name, corrects, number, *_, after = each
            key = ("event", account_id, texts[source], name)
            said_now = None if after is None else _unpacked(shapes, after)
            yield Stored(key, (corrects, said_now), (batch, place), number)


def _unpacked(shapes: list[list[str]], data: list[Any]) -> dict[str, Any]:
    shape, found = data
    return dict(zip(shapes[shape], found, strict=True))


def _tickets(cursor: psycopg.Cursor[Any]) -> Iterator[Stored]:
    for batch, state in _log(cursor, "metering.usage_recorded"):
        usage = state["usage"]
        for place, (event_id, gateway) in enumerate(usage.get("told", ())):
            sequence, at, who, _, tickets, cost, units = usage["payments"][place]
            account_id, user_id, session_id, job_type, app, recipient, *_ = usage["who"][who]
            at_ms = (usage["at"] + at) // US_OF_MS
            said = (user_id, session_id, sequence, job_type, app, recipient, at_ms, tickets, int(cost), units)
            yield Stored(("ticket", account_id, event_id, gateway), said, (batch, place))


def _read_meters(cursor: psycopg.Cursor[Any], rows: Rows, ours: list[str]) -> None:
    for account, meter, hour, of_hour, user, groups, *sums in cursor.execute(HOURS, (ours,)):
        place = Place(account, meter, _hour(hour), user, tuple(groups))
        rows.odd += [f"{place} is of {of_hour}"] if of_hour != hour else []
        records, late, amount = sums
        rows.hours[place] = Amount(records, late, Fraction(amount))
    for account, meter, hour, of_hour, user, groups, value, records in cursor.execute(VALUES, (ours,)):
        place = Place(account, meter, _hour(hour), user, tuple(groups))
        rows.odd += [f"{place} is of {of_hour}"] if of_hour != hour else []
        rows.values[place, value] = records


def _read_payments(cursor: psycopg.Cursor[Any], rows: Rows, ours: list[str]) -> None:
    paid: dict[PaidHour, Paid] = defaultdict(Paid)
    for account, user, job_type, app, recipient, hour, is_plain, *sums in cursor.execute(PAID, (ours, APP)):
        place = PaidHour(account, user, job_type, app, recipient, _hour(hour))
        rows.odd += [] if is_plain else [f"{place} has EV, key, another hour, or a fee that is not its cost"]
        paid[place] = paid[place].plus(Paid(*map(int, sums)))
    rows.paid_hours = dict(paid)
    rows.paid_sessions = {
        (account, session): Paid(payments, tickets, int(cost))
        for account, session, payments, tickets, cost in cursor.execute(SESSIONS, (ours,))
    }
    rows.signed_hours = {
        (account, user, _hour(hour)): (int(payments), int(tickets), int(cost))
        for account, user, hour, payments, tickets, cost in cursor.execute(SIGNED, (ours, APP))
    }


def _hour(at: datetime) -> int:
    return int(at.timestamp()) // HOUR_SECONDS
