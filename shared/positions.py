"""How far a service has applied other services' logs, kept in its own store beside the effects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from contracts.message import LogEntry
from shared.store import Effect, EventSourced, ThinRecorder

CREATE_INBOX_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.positions (
    reader text PRIMARY KEY, epoch integer NOT NULL, position bigint NOT NULL);
CREATE TABLE IF NOT EXISTS {schema}.dead_letters (
    reader text NOT NULL, epoch integer NOT NULL, position bigint NOT NULL,
    reason text NOT NULL, entry json NOT NULL, buried_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (reader, epoch, position));
ALTER TABLE {schema}.dead_letters ADD COLUMN IF NOT EXISTS subject text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS happened_at timestamptz,
    ADD COLUMN IF NOT EXISTS state text NOT NULL DEFAULT 'waiting',
    ADD COLUMN IF NOT EXISTS tries integer NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS tried_at timestamptz, ADD COLUMN IF NOT EXISTS settled_at timestamptz,
    ADD COLUMN IF NOT EXISTS settled_by text, ADD COLUMN IF NOT EXISTS settled_why text;
CREATE INDEX IF NOT EXISTS dead_letters_waiting ON {schema}.dead_letters (reader, epoch, position)
    WHERE state = 'waiting';
CREATE TABLE IF NOT EXISTS {schema}.last_set (
    reader text, what text, epoch integer NOT NULL, position bigint NOT NULL, PRIMARY KEY (reader, what));
CREATE TABLE IF NOT EXISTS {schema}.past_positions (
    reader text NOT NULL, epoch integer NOT NULL, position bigint NOT NULL, PRIMARY KEY (reader, epoch));
CREATE TABLE IF NOT EXISTS {schema}.recovered_positions (
    reader text, epoch integer, position bigint, PRIMARY KEY (reader, epoch, position));
"""


REASON_CHARACTERS_MAX = 2_000


class PositionMovedError(Exception):
    """Another process of this service applied these entries: read our position again."""


class OvertakenError(Exception):
    """A later entry was applied that set the same anew."""


@dataclass(frozen=True, slots=True)
class Position:
    epoch: int
    position: int


class Positions:
    """How far a service has applied each publisher's log, in its own store."""

    def __init__(self, application: EventSourced) -> None:
        recorder = application.recorder
        assert isinstance(recorder, ThinRecorder)
        self._datastore = recorder.datastore
        self._schema = Identifier(recorder.datastore.schema)
        self._past = Identifier(recorder.datastore.schema, "past_positions")
        self._recovered = Identifier(recorder.datastore.schema, "recovered_positions")

    def create_tables(self) -> None:
        with self._datastore.get_connection() as connection:
            connection.execute(SQL(CREATE_INBOX_TABLES).format(schema=self._schema))

    def get(self, reader: str) -> Position:
        table = Identifier(self._datastore.schema, "positions")
        with self._datastore.get_connection() as connection:
            connection.execute(
                SQL("INSERT INTO {} VALUES (%s, 1, 0) ON CONFLICT DO NOTHING").format(table), (reader,)
            )
            query = SQL("SELECT epoch, position FROM {} WHERE reader = %s").format(table)
            row = connection.execute(query, (reader,)).fetchone()
        assert row is not None
        return Position(row["epoch"], row["position"])

    def advance(self, reader: str, old: Position, new: Position) -> Effect:
        """The effect that moves the position; it undoes the transaction if somebody else did."""
        query = SQL(
            "UPDATE {} SET epoch = %s, position = %s WHERE reader = %s AND epoch = %s AND position = %s"
        ).format(Identifier(self._datastore.schema, "positions"))

        def effect(cursor: Cursor[DictRow]) -> None:
            params = (new.epoch, new.position, reader, old.epoch, old.position)
            if cursor.execute(query, params).rowcount != 1:
                raise PositionMovedError(reader)

        return effect

    def past(self, reader: str) -> dict[int, int]:
        """How far a reader got in the epochs that it has left."""
        query = SQL("SELECT epoch, position FROM {} WHERE reader = %s").format(self._past)
        with self._datastore.get_connection() as connection:
            rows = connection.execute(query, (reader,)).fetchall()
        return {row["epoch"]: row["position"] for row in rows}

    def leave(self, reader: str, left: Position) -> Effect:
        """The effect that remembers how far a reader got in an epoch."""
        query = SQL("INSERT INTO {} VALUES (%s, %s, %s) ON CONFLICT DO NOTHING").format(self._past)

        def effect(cursor: Cursor[DictRow]) -> None:
            cursor.execute(query, (reader, left.epoch, left.position))

        return effect

    def was_recovered(self, reader: str, lost: Position) -> bool:
        """Whether a reader has applied this lost entry when it was told again; it may be once more."""
        query = SQL("SELECT 1 FROM {} WHERE (reader, epoch, position) = (%s, %s, %s)").format(self._recovered)
        with self._datastore.get_connection() as connection:
            row = connection.execute(query, (reader, lost.epoch, lost.position)).fetchone()
        return row is not None

    def recover(self, reader: str, lost: Sequence[Position]) -> Effect:
        """The effect that remembers lost entries which were told again, and are applied now."""
        query = SQL("INSERT INTO {} SELECT %s, * FROM unnest(%s::integer[], %s::bigint[])").format(
            self._recovered
        )
        columns = [position.epoch for position in lost], [position.position for position in lost]

        def effect(cursor: Cursor[DictRow]) -> None:
            cursor.execute(query, (reader, *columns))

        return effect

    def note_set(self, reader: str, set_by: Mapping[str, Position], *, must_be_last: bool) -> Effect:
        """The effect that remembers which entry set what last; it raises OvertakenError if it `must_be_last`.

        Of such entries the last one counts, so one that was buried must not undo what came after it.
        """
        query = SQL(
            "INSERT INTO {} AS known VALUES (%s, %s, %s, %s) ON CONFLICT (reader, what) DO UPDATE"
            " SET epoch = excluded.epoch, position = excluded.position"
            " WHERE (known.epoch, known.position) < (excluded.epoch, excluded.position)"
        ).format(Identifier(self._datastore.schema, "last_set"))

        def effect(cursor: Cursor[DictRow]) -> None:
            for what, place in sorted(set_by.items(), key=itemgetter(0)):
                cursor.execute(query, (reader, what, place.epoch, place.position))
                if must_be_last and not cursor.rowcount:
                    raise OvertakenError(what)

        return effect

    def bury(self, reader: str, entry: LogEntry, reason: str) -> Effect:
        """The effect that keeps an entry which cannot be applied, with the reason."""
        query = SQL(
            "INSERT INTO {} (reader, epoch, position, reason, entry, subject, happened_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        ).format(Identifier(self._datastore.schema, "dead_letters"))
        place = reader, entry.epoch, entry.position

        def effect(cursor: Cursor[DictRow]) -> None:
            text = entry.model_dump_json()
            cursor.execute(query, (*place, printable(reason), text, entry.subject, entry.at))

        return effect


def printable(reason: str) -> str:
    """As PostgreSQL keeps it, whose text has no zero byte; and no longer than anybody reads."""
    return reason.replace("\0", "\\0")[:REASON_CHARACTERS_MAX]
