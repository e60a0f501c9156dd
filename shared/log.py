"""A service's notification log as others may read it: public events, with the position chain."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from eventsourcing.persistence import Notification
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier
from pydantic_core import to_json

from contracts.message import Event, LogEntry, LogEpoch, LogPage, ReadLog
from shared.history import Epoch, History
from shared.refusal import Refused
from shared.store import EventSourced, ThinRecorder

PAGE = 500
PAGE_BYTES = 3 * 1024 * 1024  # a message of NATS takes 4 MB


class LogEpochChanged(Refused):
    """The reader is in a history that the log no longer has: it has to find its own way back."""

    code = "log_epoch_changed"


class Outbox(Protocol):
    """Turns stored events into public ones; the only place where a service does so."""

    @property
    def topics(self) -> Sequence[str]: ...

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        """The public event of a stored one, and when it happened."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """An outbox that keeps what it read of the log."""

    def forget(self) -> None:
        """Drop it: the log went back."""
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
        self.history = History(recorder)
        self._public_starts: dict[int, int] = {}  # by epoch: the last public position before it
        self._epoch: int | None = None  # that the outbox remembers things of

    def create_tables(self) -> None:
        self.history.create_tables()

    def read(self, asked: ReadLog) -> LogPage:
        """Entries after any position, at most `limit` and PAGE_BYTES, and where the log ends.

        Raises LogEpochChanged for a reader whose epoch ended before its position.
        """
        previous = self._last_public(upto=asked.after)
        found = self.tail(previous, asked.limit)
        entries = [LogEntry.model_validate(entry) for entry in fitting(found)]
        last = entries[-1].position if entries else previous
        ends = len(entries) == len(found) < asked.limit
        head = last if ends else self._last_public(upto=None)
        epochs = [LogEpoch(epoch=row.epoch, began_after=self._starts(row)) for row in self.history.epochs()]
        if asked.epoch is not None:
            _check_epoch(epochs, asked.epoch, asked.after)
        now = epochs[-1]
        return LogPage(
            epoch=now.epoch, head=head, entries=entries, began_after=now.began_after, epochs=epochs
        )

    def tail(self, position: int, limit: int = PAGE) -> list[dict[str, Any]]:
        """What follows the public entry at this position (or 0), each a LogEntry's fields."""
        entries: list[dict[str, Any]] = []
        notifications = self._recorder.select_notifications(
            position, limit, topics=self._topics, inclusive_of_start=False
        )
        if not notifications:
            return entries
        # Read after the entries: an epoch is there before the first of its entries is.
        epochs = self._epochs()
        for notification in notifications:
            event, at = self._outbox.to_public(notification)
            entries.append(
                {
                    "epoch": epoch_at(epochs, notification.id),
                    "position": notification.id,
                    "previous_position": position,
                    "subject": event.subject,
                    "at": at,
                    "event": event.model_dump(mode="json"),
                }
            )
            position = notification.id
        return entries

    def missing(self, entries: Sequence[LogEntry]) -> list[LogEntry]:
        """Which of these public entries the log has not got, or has got another one in the place of.

        Told by epoch and time, not by content: an older release may have published fewer fields.
        """
        if not entries:
            return []
        positions = [entry.position for entry in entries]
        first, last = min(positions), max(positions)
        found = self._recorder.select_notifications(
            first, last - first + 1, stop=last, topics=self._topics, inclusive_of_start=True
        )
        epochs = self._epochs()
        at = {notification.id: self._outbox.to_public(notification)[1] for notification in found}
        return [
            entry
            for entry in entries
            if at.get(entry.position) != entry.at or epoch_at(epochs, entry.position) != entry.epoch
        ]

    def head(self) -> int:
        """The last public position there is."""
        return self._last_public(upto=None)

    def marks(self) -> tuple[int, int]:
        """The log's epoch, and the position that was relayed last."""
        return self.history.marks()

    def _epochs(self) -> list[Epoch]:
        """All epochs; at a new one the outbox forgets the history before it."""
        epochs = self.history.epochs()
        if self._epoch not in {None, epochs[-1].epoch} and isinstance(self._outbox, Remembering):
            self._outbox.forget()
        self._epoch = epochs[-1].epoch
        return epochs

    def _starts(self, epoch: Epoch) -> int:
        """The last public position before an epoch; what lies before it never changes again."""
        if epoch.epoch not in self._public_starts:
            self._public_starts[epoch.epoch] = self._last_public(upto=epoch.began_after)
        return self._public_starts[epoch.epoch]

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


def fitting(entries: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The first ones, as far as one answer takes them; one at least."""
    size = 0
    for number, entry in enumerate(entries):
        size += len(to_json(entry))
        if number and size > PAGE_BYTES:
            return entries[:number]
    return entries


def epoch_at(epochs: Sequence[Epoch], position: int) -> int:
    """The epoch of the entry at a position."""
    if len(epochs) == 1:
        return epochs[0].epoch
    return epochs[bisect_right(epochs, position - 1, key=lambda epoch: epoch.began_after) - 1].epoch


def _check_epoch(epochs: Sequence[LogEpoch], epoch: int, after: int) -> None:
    if epoch not in {known.epoch for known in epochs}:
        raise LogEpochChanged(f"epoch {epoch} is not of this log; it is in epoch {epochs[-1].epoch}")
    ended = next((later.began_after for later in epochs if later.epoch > epoch), None)
    if ended is not None and after > ended:
        text = f"epoch {epoch} ended after position {ended}; the log is in epoch {epochs[-1].epoch}"
        raise LogEpochChanged(text)
