"""Answers about usage and sessions, page by page."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from eventsourcing.postgres import PostgresDatastore
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from contracts.metering import (
    GroupKey,
    ListSessions,
    QueryUsage,
    SessionPage,
    SessionRow,
    UsagePage,
    UsageRow,
)
from services.metering.domain.usage import EPOCH, ToldBy, whole_wei
from services.metering.refusal import BadQuery, moment, plain
from shared.money import CERTAIN

TIMEOUT_MS = 2000  # the caller does not wait longer

COLUMNS: dict[GroupKey, LiteralString] = {
    "account": "account_id",
    "user": "user_id",
    "job_type": "job_type",
    "app": "app",
    "recipient": "recipient",
    "hour": "hour",
    "key": "key_id",
    "capability": "capability",
}

# First by denominator of the fee, because only fractions of one denominator add up in SQL.
USAGE = """
SELECT {keys} sum(payments) AS payments, sum(tickets) AS tickets, sum(cost) AS cost,
    div(sum(ev), {certain}) AS ev, array_agg(fee) AS fees, array_agg(fee_denominator) AS denominators
FROM (
    SELECT {keys} fee_denominator, sum(payments) AS payments, sum(tickets) AS tickets,
        sum(cost) AS cost, sum(ev_numerator) AS ev, sum(fee_numerator) AS fee
    FROM {table} WHERE {conditions} GROUP BY {keys} fee_denominator
) AS sums {rest}
"""

SESSIONS = """
SELECT * FROM {table} WHERE {conditions} ORDER BY opened_at DESC, session_id DESC LIMIT {limit}
"""


class UsageQueries:
    def __init__(self, datastore: PostgresDatastore) -> None:
        self._datastore = datastore
        self._usage = Identifier(datastore.schema, "usage_hourly")
        self._sessions = Identifier(datastore.schema, "sessions")

    def query_usage(self, asked: QueryUsage) -> UsagePage:
        """Sums by group, in the order of the group; without groups one row, also if it is empty."""
        _check(asked)
        conditions: list[Composable | None] = [
            SQL("payments > 0"),
            _at_least("hour", ">=", asked.from_at),
            _at_least("hour", "<", asked.to_at),
            _equals("account_id", asked.account_id),
            _equals("user_id", asked.user_id),
            _after(asked),
            *(_filtered(key, text) for key, text in asked.filters.items()),
        ]
        keys = SQL("").join(SQL("{}, ").format(Identifier(COLUMNS[key])) for key in asked.group_by)
        rows = self._select(
            SQL(USAGE).format(
                keys=keys,
                certain=Literal(CERTAIN),
                table=self._usage,
                conditions=_all(conditions),
                rest=_order(asked),
            )
        )
        return UsagePage(rows=[_usage_row(row, asked.group_by) for row in rows])

    def list_sessions(self, asked: ListSessions) -> SessionPage:
        """Sessions, the newest first; `after` is the id of the last one seen."""
        conditions: list[Composable | None] = [
            SQL("told_by > {}").format(Literal(int(ToldBy.CLOSING))),
            _equals("account_id", asked.account_id),
            _equals("user_id", asked.user_id),
        ]
        if asked.after:
            conditions.append(self._before(asked))
        rows = self._select(
            SQL(SESSIONS).format(
                table=self._sessions, conditions=_all(conditions), limit=Literal(asked.limit)
            )
        )
        return SessionPage(sessions=[session_row(row) for row in rows])

    def _before(self, asked: ListSessions) -> Composed:
        of_account = _all([_equals("account_id", asked.account_id), _equals("session_id", asked.after)])
        found = self._select(
            SQL("SELECT opened_at FROM {} WHERE {} LIMIT 1").format(self._sessions, of_account)
        )
        if not found:
            raise BadQuery(f"no session {asked.after}")
        place = (Literal(found[0]["opened_at"]), Literal(asked.after))
        return SQL("(opened_at, session_id) < ({}, {})").format(*place)

    def _select(self, query: Composed) -> list[DictRow]:
        with self._datastore.get_connection() as connection, connection.transaction():
            connection.execute(SQL("SET LOCAL statement_timeout = {}").format(Literal(TIMEOUT_MS)))
            return connection.execute(query).fetchall()


def _check(asked: QueryUsage) -> None:
    for name, at in (("from_at", asked.from_at), ("to_at", asked.to_at)):
        if at is not None and (at.tzinfo is None or (at - EPOCH) % timedelta(hours=1)):
            raise BadQuery(f"{name} is not a whole hour with a time zone")
    if len(set(asked.group_by)) != len(asked.group_by):
        raise BadQuery("group_by names a key twice")
    if asked.after and len(asked.after) != len(asked.group_by):
        raise BadQuery("after is not a group of this query")


def _after(asked: QueryUsage) -> Composed | None:
    if not asked.after:
        return None
    columns = SQL(", ").join(Identifier(COLUMNS[key]) for key in asked.group_by)
    place = zip(asked.group_by, asked.after, strict=True)
    values = SQL(", ").join(Literal(moment(text) if key == "hour" else plain(text)) for key, text in place)
    return SQL("({}) > ({})").format(columns, values)


def _order(asked: QueryUsage) -> Composable:
    if not asked.group_by:
        return SQL("")
    columns = SQL(", ").join(Identifier(COLUMNS[key]) for key in asked.group_by)
    return SQL("GROUP BY {} ORDER BY {} LIMIT {}").format(columns, columns, Literal(asked.limit))


def _at_least(column: LiteralString, relation: LiteralString, at: datetime | None) -> Composed | None:
    return None if at is None else SQL("{} " + relation + " {}").format(Identifier(column), Literal(at))


def _equals(column: LiteralString, text: str | None) -> Composed | None:
    return None if text is None else SQL("{} = {}").format(Identifier(column), Literal(plain(text)))


def _filtered(key: GroupKey, text: str) -> Composed:
    value = Literal(moment(text) if key == "hour" else plain(text))
    return SQL("{} = {}").format(Identifier(COLUMNS[key]), value)


def _all(conditions: Sequence[Composable | None]) -> Composable:
    return SQL(" AND ").join([SQL("true"), *(each for each in conditions if each is not None)])


def _usage_row(row: DictRow, group_by: Sequence[GroupKey]) -> UsageRow:
    fees = zip(row["fees"] or (), row["denominators"] or (), strict=True)
    return UsageRow(
        group={key: _group(row[COLUMNS[key]]) for key in group_by},
        payments=int(row["payments"] or 0),
        tickets=int(row["tickets"] or 0),
        cost_wei=int(row["cost"] or 0),
        ev_wei=int(row["ev"] or 0),
        fee_wei=whole_wei((int(fee), denominator) for fee, denominator in fees),
    )


def _group(value: str | datetime) -> str | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value or None


def session_row(row: DictRow) -> SessionRow:
    texts = {name: row[name] for name in ("session_id", "account_id", "app", "job_type", "orchestrator")}
    return SessionRow(
        **texts,
        user_id=row["user_id"] or None,
        stream_id=row["stream_id"] or None,
        opened_at=row["opened_at"].astimezone(UTC),
        last_at=row["last_at"].astimezone(UTC),
        payments=row["payments"],
        tickets=row["tickets"],
        cost_wei=int(row["cost"]),
        closed=row["closed"],
    )
