"""What must be true once readers have come to the end of the log, whatever happened on the way.

The sums are read with SQL from what is stored, past the code that made it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from services.metering.replay import replay as metering_replay
from services.quota.replay import replay as quota_replay
from services.signer.replay import replay as signer_replay
from shared.meter import Progress
from tests.acceptance.signer_log import Log, read_log
from tests.infra import Database

PUBLIC = [
    f"signer.{name}"
    for name in ("session_opened", "payment_signed", "payment_refused", "session_closed", "fence_raised")
]
HEAD = "SELECT coalesce(max(notification_id), 0) FROM signer.signer_events WHERE topic = ANY(%s)"
BURNED = "SELECT max(notification_id) - count(*) FROM signer.signer_events"
SESSIONS = "SELECT session_id, payments, tickets, cost FROM metering.sessions WHERE payments > 0"
USAGE = """
SELECT account_id, sum(payments), sum(tickets), sum(cost) FROM metering.usage_hourly GROUP BY account_id
"""
SPENT = """
SELECT spend.key, sum(spend.value::numeric) FROM quota.quota_events,
    json_each_text(convert_from(state, 'UTF8')::json -> 'spends') AS spend
WHERE topic = 'quota.spend_recorded' GROUP BY spend.key
"""
HELD = """
SELECT coalesce(sum(greatest(granted - spent, 0)), 0) FROM quota.allowances
"""


@dataclass(frozen=True)
class Reader:
    """A service and the name of its durable reader."""

    service: str
    durable: str


READERS = (Reader("metering", "metering-record-usage"), Reader("quota", "quota-follow-spend"))


def head(dsn: str) -> int:
    return int(_rows(dsn, HEAD, (PUBLIC,))[0][0])


def burned(dsn: str) -> int:
    """Positions that no event has, as the save that drew them failed."""
    return int(_rows(dsn, BURNED)[0][0] or 0)


def position(dsn: str, reader: Reader) -> tuple[int, int]:
    query = f"SELECT epoch, position FROM {reader.service}.positions WHERE reader = %s"
    for epoch, at in _rows(dsn, query, (reader.durable,)):
        return int(epoch), int(at)
    return 1, 0


def violations(database: Database) -> list[str]:
    dsn, log = database.dsn(), read_log(database.dsn())
    return [
        *_positions(dsn),
        *_usage(dsn, log),
        *_spend(dsn, log),
        *(f"nonce signed twice: {ticket}" for ticket in log.repeated_nonces()),
        *_rebuilds(database),
    ]


def held(dsn: str) -> int:
    return int(_rows(dsn, HELD)[0][0])


def _positions(dsn: str) -> list[str]:
    found, wanted = [], (int(_rows(dsn, "SELECT epoch FROM signer.log")[0][0]), head(dsn))
    for reader in READERS:
        at = position(dsn, reader)
        if at != wanted:
            found.append(f"{reader.durable} is at {at}, the log ends at {wanted}")
        buried = _rows(dsn, f"SELECT position, reason FROM {reader.service}.dead_letters")
        found += [f"{reader.durable} buried {letter}" for letter in buried]
    return found


def _usage(dsn: str, log: Log) -> list[str]:
    sessions = {str(row[0]): tuple(map(int, row[1:])) for row in _rows(dsn, SESSIONS)}
    accounts = {str(row[0]): tuple(map(int, row[1:])) for row in _rows(dsn, USAGE)}
    by_account = {
        name: (len(log.of(name).payments), log.of(name).ticket_count, log.of(name).cost)
        for name in {payment.account_id for payment in log.payments}
    }
    return [
        *_differences("metering.sessions", sessions, log.by_session()),
        *_differences("metering.usage_hourly", accounts, by_account),
    ]


def _spend(dsn: str, log: Log) -> list[str]:
    booked = {str(session): (int(amount),) for session, amount in _rows(dsn, SPENT)}
    costs: Counter[str] = Counter()
    for payment in log.payments:
        costs[payment.session_id] += payment.cost
    return _differences("quota's spend", booked, {session: (cost,) for session, cost in costs.items()})


def _rebuilds(database: Database) -> list[str]:
    found = []
    for replay in (metering_replay, quota_replay, signer_replay):
        report = replay.verify(database.dsn(replay.service), _silently)
        found += [
            f"{replay.service}.{name} is not its rebuild: {keys}" for name, keys in report.differing.items()
        ]
    return found


def _differences(
    what: str, found: Mapping[str, tuple[int, ...]], told: Mapping[str, tuple[int, ...]]
) -> list[str]:
    return [
        f"{what}: {key} has {found.get(key)}, the signer's log {told.get(key)}"
        for key in sorted({*found, *told})
        if found.get(key) != told.get(key)
    ]


def _rows(dsn: str, query: str, params: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        return connection.execute(query.encode(), params or None).fetchall()


def _silently(_: Progress) -> None:
    """Tests want the report only."""
