"""How long the streams that run have their places: a table, moved on by heartbeats."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from services.quota.own_table import OwnTable
from shared.store import Effect

CREATE_STREAMS_TABLE = """
CREATE TABLE IF NOT EXISTS {schema}.streams (
    account_id text NOT NULL, stream_id text COLLATE "C" NOT NULL, user_id text, key_id text, token_id text,
    app text NOT NULL, job_type text NOT NULL, begun_at timestamptz NOT NULL,
    lease_seconds integer, lease_ends_at timestamptz, PRIMARY KEY (account_id, stream_id));
CREATE INDEX IF NOT EXISTS streams_lease_ends_at ON {schema}.streams (lease_ends_at);
"""
LEASE_SECONDS = 60  # of streams whose heartbeats a rebuild does not know


@dataclass(frozen=True, slots=True)
class StreamRow:
    account_id: str
    stream_id: str
    user_id: str | None
    key_id: str | None
    token_id: str | None
    app: str
    job_type: str
    begun_at: datetime
    lease_ends_at: datetime | None


class Expired(NamedTuple):
    account_id: str
    stream_id: str
    alive_at: datetime | None  # when its lease began; None: only a rebuild knows of it


COLUMNS = tuple(StreamRow.__dataclass_fields__)


class StreamLeases(OwnTable):
    """Reads the table, and makes the effects that change it with the events."""

    def create_tables(self) -> None:
        self._create(CREATE_STREAMS_TABLE)

    def put(self, row: StreamRow, lease_seconds: int) -> Effect:
        """Have a stream's row; one that is there keeps what it says, and its lease begins anew."""
        values = [getattr(row, name) for name in COLUMNS]
        return self._effect(
            "INSERT INTO {schema}.streams VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (account_id, stream_id) DO UPDATE"
            " SET lease_seconds = excluded.lease_seconds, lease_ends_at = excluded.lease_ends_at",
            [*values[:-1], lease_seconds, values[-1]],
        )

    def drop(self, account_id: str, stream_id: str) -> Effect:
        return self._effect(
            "DELETE FROM {schema}.streams WHERE (account_id, stream_id) = (%s, %s)", (account_id, stream_id)
        )

    def beat(self, account_id: str, stream_id: str, user_id: str | None, now: datetime) -> StreamRow | None:
        """Begin the lease of a stream anew; None if there is none that runs."""
        query = self._sql(
            "UPDATE {schema}.streams"
            " SET lease_ends_at = %s + make_interval(secs => coalesce(lease_seconds, %s))"
            " WHERE (account_id, stream_id) = (%s, %s) AND (%s::text IS NULL OR user_id = %s) RETURNING *"
        )
        params = (now, LEASE_SECONDS, account_id, stream_id, user_id, user_id)
        return next(iter(self._rows(query, params)), None)

    def running(self, account_id: str, after: str, limit: int) -> list[StreamRow]:
        query = self._sql(
            "SELECT * FROM {schema}.streams WHERE account_id = %s AND stream_id > %s"
            " ORDER BY stream_id LIMIT %s"
        )
        return self._rows(query, (account_id, after, limit))

    def expired(self, now: datetime, limit: int) -> list[Expired]:
        """Streams without a heartbeat for the time of their lease; those of a rebuild get one first."""
        adopt = self._sql("UPDATE {schema}.streams SET lease_ends_at = %s WHERE lease_ends_at IS NULL")
        query = self._sql(
            "SELECT account_id, stream_id, lease_ends_at - make_interval(secs => lease_seconds) AS alive_at"
            " FROM {schema}.streams WHERE lease_ends_at < %s ORDER BY lease_ends_at LIMIT %s"
        )
        with self._store.datastore.get_connection() as connection:
            connection.execute(adopt, (now + timedelta(seconds=LEASE_SECONDS),))
            return [Expired(**row) for row in connection.execute(query, (now, limit))]

    def _rows(self, query: Any, params: Sequence[object]) -> list[StreamRow]:
        with self._store.datastore.get_connection() as connection:
            found = connection.execute(query, params).fetchall()
        return [StreamRow(**{name: row[name] for name in COLUMNS}) for row in found]
