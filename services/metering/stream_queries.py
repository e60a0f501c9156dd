"""Answers about streams: their time, their runs, and the payment sessions that belong to them."""

from typing import LiteralString

from eventsourcing.postgres import PostgresDatastore
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from contracts.metered_streams import (
    ListMeteredStreams,
    MeteredStream,
    MeteredStreamPage,
    MeteredStreamView,
    ReadMeteredStream,
    StreamRefusal,
    StreamRun,
    StreamSwap,
)
from services.metering import stream_story as story
from services.metering.domain.stream import moment_of
from services.metering.domain.usage import ToldBy
from services.metering.queries import TIMEOUT_MS, session_row
from services.metering.refusal import BadQuery
from services.metering.streaming import StreamNotFound

SESSIONS_SHOWN = 100
PAGE: LiteralString = """
SELECT * FROM {streams} WHERE account_id = %(account_id)s AND (NOT %(unattributed)s OR user_id = '')
    AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
    AND (%(after)s = '' OR (opened_at, stream_id) < (%(opened_at)s::timestamptz, %(after)s))
ORDER BY opened_at DESC, stream_id DESC LIMIT %(limit)s
"""
ONE: LiteralString = "SELECT * FROM {streams} WHERE account_id = %(account_id)s AND stream_id = %(stream_id)s"
SESSIONS: LiteralString = """
SELECT * FROM {sessions} WHERE account_id = %(account_id)s AND stream_id = %(stream_id)s
    AND stream_id <> '' AND told_by > %(told)s ORDER BY opened_at, session_id LIMIT %(limit)s
"""
REFUSALS: LiteralString = """
SELECT r.session_id, r.reason, r.status, r.times, r.first_at, r.last_at FROM {session_refusals} AS r
JOIN {sessions} AS s USING (account_id, session_id)
WHERE s.account_id = %(account_id)s AND s.stream_id = %(stream_id)s AND s.stream_id <> ''
ORDER BY r.last_at DESC, r.session_id, r.reason LIMIT %(limit)s
"""
SUMS: LiteralString = """
SELECT count(*) AS sessions, coalesce(sum(payments), 0) AS payments, coalesce(sum(tickets), 0) AS tickets,
    coalesce(sum(cost), 0) AS cost, max(paid_at) AS paid_at FROM {sessions}
WHERE account_id = %(account_id)s AND stream_id = %(stream_id)s AND stream_id <> '' AND told_by > %(told)s
"""


class StreamQueries:
    def __init__(self, datastore: PostgresDatastore) -> None:
        self._datastore = datastore
        names = ("streams", "sessions", "session_refusals")
        self._tables = {name: Identifier(datastore.schema, name) for name in names}

    def list_streams(self, asked: ListMeteredStreams) -> MeteredStreamPage:
        """The newest first; `after` is the id of the last one seen."""
        params = {**asked.model_dump(), "opened_at": None}
        if asked.after:
            params["opened_at"] = self._one(asked.account_id, asked.after, BadQuery)["opened_at"]
        rows = self._select(PAGE, params)
        return MeteredStreamPage(streams=[_stream(row) for row in rows])

    def read_stream(self, asked: ReadMeteredStream) -> MeteredStreamView:
        """Raises StreamNotFound."""
        row = self._one(asked.account_id, asked.stream_id, StreamNotFound)
        params = {**asked.model_dump(), "told": int(ToldBy.CLOSING), "limit": SESSIONS_SHOWN}
        found, [sums] = self._select(SESSIONS, params), self._select(SUMS, params)
        refusals = [StreamRefusal.model_validate(each) for each in self._select(REFUSALS, params)]
        runs, sessions = [_run(*run) for run in row["runs"]], [session_row(session) for session in found]
        return MeteredStreamView(
            stream=_stream(row),
            runs=runs,
            sessions=sessions,
            session_count=sums["sessions"],
            payments=int(sums["payments"]),
            tickets=int(sums["tickets"]),
            cost_wei=int(sums["cost"]),
            orchestrator_swaps=max(0, sums["sessions"] - 1),
            stopped=story.stopped(runs, refusals, sums["paid_at"]),
            swaps=[_swap(session) for session in found[1:]],
            refusals=refusals,
            gaps=story.gaps(runs),
            timeline=story.timeline(runs, sessions, refusals),
        )

    def _one(
        self, account_id: str, stream_id: str, missing: type[StreamNotFound] | type[BadQuery]
    ) -> DictRow:
        found = self._select(ONE, {"account_id": account_id, "stream_id": stream_id})
        if not found:
            raise missing(stream_id)
        return found[0]

    def _select(self, query: LiteralString, params: dict[str, object]) -> list[DictRow]:
        with self._datastore.get_connection() as connection, connection.transaction():
            connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
            return connection.execute(SQL(query).format(**self._tables), params).fetchall()


def _stream(row: DictRow) -> MeteredStream:
    told = {name: row[name] for name in MeteredStream.model_fields if name in row}
    return MeteredStream.model_validate({**told, "user_id": row["user_id"] or None})


def _swap(session: DictRow) -> StreamSwap:
    return StreamSwap(
        session_id=session["session_id"],
        orchestrator=session["orchestrator"],
        opened_at=session["opened_at"],
        minimum_wei=int(session["first_cost"]) if session["first_cost"] is not None else None,
    )


def _run(began: int, ended: int, state: str, told_by: str, because: str = "") -> StreamRun:
    """`because` is in the row where the state does not say it."""
    return StreamRun.model_validate(
        {
            "told_by": told_by,
            "state": state,
            "began_at": moment_of(began),
            "ended_at": None if state == "running" else moment_of(ended),
            "elapsed_ms": ended - began,
            "because": None if state == "running" else because or state,
        }
    )
