"""A service's notification log as others may read it: public events, with the position chain."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from eventsourcing.persistence import Notification
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier

from contracts.message import Event, LogEntry, LogPage, ReadLog
from shared.store import Effect, EventSourced, ThinRecorder

PAGE = 500

CREATE_LOG_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.log (single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch integer NOT NULL DEFAULT 1, relayed bigint NOT NULL DEFAULT 0);
INSERT INTO {schema}.log DEFAULT VALUES ON CONFLICT DO NOTHING;
"""


class Outbox(Protocol):
    """Turns stored events into public ones; the only place where a service does so."""

    @property
    def topics(self) -> Sequence[str]: ...

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        """The public event of a stored one, and when it happened."""
        ...


class PublicLog:
    """Public entries in the order of the log.

    Which stored events are public depends on their topic alone, so that each entry's
    `previous_position` is the same whoever computes it and whenever.
    """

    def __init__(self, application: EventSourced, outbox: Outbox) -> None:
        recorder = application.recorder
        assert isinstance(recorder, ThinRecorder)
        self._recorder = recorder
        self._outbox = outbox
        self._topics = list(outbox.topics)
        self._table = Identifier(recorder.datastore.schema, recorder.events_table_name)
        self._log = Identifier(recorder.datastore.schema, "log")

    def create_tables(self) -> None:
        schema = Identifier(self._recorder.datastore.schema)
        with self._recorder.datastore.get_connection() as connection:
            connection.execute(SQL(CREATE_LOG_TABLES).format(schema=schema))

    def read(self, asked: ReadLog) -> LogPage:
        """Entries after any position, at most `limit`, and where the log ends."""
        epoch, _ = self.marks()
        previous = self._last_public(upto=asked.after)
        entries = [LogEntry.model_validate(entry) for entry in self.tail(previous, epoch, asked.limit)]
        last = entries[-1].position if entries else previous
        head = last if len(entries) < asked.limit else self._last_public(upto=None)
        return LogPage(epoch=epoch, head=head, entries=entries)

    def tail(self, position: int, epoch: int, limit: int = PAGE) -> list[dict[str, Any]]:
        """What follows the public entry at this position (or 0), each a LogEntry's fields."""
        entries = []
        notifications = self._recorder.select_notifications(
            position, limit, topics=self._topics, inclusive_of_start=False
        )
        for notification in notifications:
            event, at = self._outbox.to_public(notification)
            entries.append(
                {
                    "epoch": epoch,
                    "position": notification.id,
                    "previous_position": position,
                    "subject": event.subject,
                    "at": at,
                    "event": event.model_dump(mode="json"),
                }
            )
            position = notification.id
        return entries

    def marks(self) -> tuple[int, int]:
        """The log's epoch, and the position that was relayed last."""
        row = self._one(SQL("SELECT epoch, relayed FROM {}").format(self._log))
        return int(row["epoch"]), int(row["relayed"])

    def _last_public(self, *, upto: int | None) -> int:
        query = SQL(
            "SELECT coalesce(max(notification_id), 0) AS last FROM {}"
            " WHERE topic = ANY(%s) AND notification_id <= %s"
        ).format(self._table)
        return int(self._one(query, (self._topics, 2**62 if upto is None else upto))["last"])

    def _one(self, query: Composed, params: Sequence[object] = ()) -> DictRow:
        with self._recorder.datastore.get_connection() as connection:
            row: DictRow | None = connection.execute(query, params).fetchone()
            assert row is not None
            return row


def raise_epoch(schema: str) -> Effect:
    """The effect that begins a new epoch: the log went back in time, so positions may recur."""
    query = SQL("UPDATE {} SET epoch = epoch + 1").format(Identifier(schema, "log"))

    def effect(cursor: Cursor[DictRow]) -> None:
        cursor.execute(query)

    return effect
