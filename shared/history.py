"""A log's epochs: which of its entries a restore may have replaced, and how that is noticed.

A database that was restored, or failed over to a standby, may have lost what it had committed last.
Positions then come a second time, for other entries. So the log begins a new epoch, and nothing is
stored before that is decided: a server's every start is another incarnation, in which each writer
is refused until the relay has compared the log with the stream and has put its name to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from uuid import UUID
from weakref import WeakSet

import structlog
from eventsourcing.persistence import PersistenceError, StoredEvent
from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier, Literal

from shared.store import Effect, EpochChangedError, ThinRecorder

log = structlog.get_logger()

FIRST_EPOCH = 1
EPOCHS_SINCE = 1_735_689_600  # 2025-01-01 UTC: epochs are seconds since then, so none comes twice
LOST_STORED = "what was stored last is gone"

CREATE_HISTORY_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.log (single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch integer NOT NULL DEFAULT 1, relayed bigint NOT NULL DEFAULT 0);
INSERT INTO {schema}.log DEFAULT VALUES ON CONFLICT DO NOTHING;
ALTER TABLE {schema}.log ADD COLUMN IF NOT EXISTS incarnation text;
CREATE TABLE IF NOT EXISTS {schema}.epochs (epoch integer PRIMARY KEY, began_after bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(), reason text NOT NULL, relayed bigint NOT NULL,
    lost_epoch integer, lost_position bigint, recovered_at timestamptz);
INSERT INTO {schema}.epochs (epoch, began_after, reason, relayed, recovered_at)
    SELECT 1, 0, 'the first', 0, now() ON CONFLICT DO NOTHING;
INSERT INTO {schema}.epochs (epoch, began_after, reason, relayed, recovered_at)
    SELECT epoch, (SELECT coalesce(max(notification_id), 0) FROM {events}), 'before epochs were kept',
        relayed, now()
    FROM {schema}.log WHERE epoch > 1 ON CONFLICT DO NOTHING;
"""

BEGIN_EPOCH = """
INSERT INTO {schema}.epochs (epoch, began_after, reason, relayed, lost_epoch, lost_position)
SELECT coalesce(%s, greatest(epoch + 1, extract(epoch FROM clock_timestamp())::bigint - {since}))::integer,
    (SELECT coalesce(max(notification_id), 0) FROM {events}), %s, relayed, %s, %s
FROM {schema}.log
"""

# The server's identity and timeline, which copy of our tables this is, and when the server started.
# The timeline is that of the WAL: after a promotion the control file still tells the old one.
INCARNATION = """
(SELECT system_identifier FROM pg_control_system()) || ':' ||
left(pg_walfile_name(pg_current_wal_lsn()), 8) || ':' || {log}::regclass::oid || ':' ||
extract(epoch FROM pg_postmaster_start_time())
"""


class StoreUncheckedError(PersistenceError):
    """The server was started again, and the relay has not yet seen whether it lost something."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """A stretch of the log; `relayed` is a position that was surely published before it began."""

    epoch: int
    began_after: int
    at: datetime
    reason: str
    relayed: int
    lost_epoch: int | None  # the last entry known to be lost, by its own epoch and position
    lost_position: int | None
    recovered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Incarnation:
    """Which server this is, and which one the log was last checked on."""

    current: str
    checked: str | None

    @property
    def moved(self) -> bool:
        """Another server, timeline or copy of the tables: it may have lost committed entries."""
        return self.checked is not None and self.checked.split(":")[:3] != self.current.split(":")[:3]

    @property
    def promoted(self) -> bool:
        """The same database on another timeline: a standby took over, or a recovery went back."""
        if self.checked is None:
            return False
        before, now = self.checked.split(":"), self.current.split(":")
        return before[1] != now[1] and (before[0], before[2]) == (now[0], now[2])


class History:
    """The epochs of one service's log; as the recorder's guard it refuses to write past a restore."""

    def __init__(self, recorder: ThinRecorder) -> None:
        self._datastore = recorder.datastore
        self._schema = recorder.datastore.schema
        self._events = Identifier(self._schema, recorder.events_table_name)
        self._events_name = recorder.events_table_name
        self._checked: WeakSet[Connection[DictRow]] = WeakSet()
        self._epoch: int | None = None
        self._incarnation: str | None = None  # of the server that we wrote to last
        self._stored: tuple[UUID, int] | None = None  # what this process stored last
        self._lock = Lock()
        names = {"schema": Identifier(self._schema), "events": self._events}
        incarnation = SQL(INCARNATION).format(log=Literal(f"{self._schema}.log"))
        self._create = SQL(CREATE_HISTORY_TABLES).format(**names)
        self._read = SQL("SELECT epoch, incarnation AS checked, {} AS current FROM {}.log").format(
            incarnation, names["schema"]
        )
        self._sign = SQL("UPDATE {}.log SET incarnation = %s").format(names["schema"])
        self._list = SQL("SELECT * FROM {}.epochs ORDER BY epoch").format(names["schema"])
        self._find = SQL("SELECT 1 FROM {} WHERE originator_id = %s AND originator_version = %s").format(
            self._events
        )
        recorder.guard = self

    def create_tables(self) -> None:
        with self._datastore.get_connection() as connection:
            connection.execute(self._create)

    # As the recorder's guard

    def check(self, connection: Connection[DictRow]) -> None:
        """Raise StoreUncheckedError or EpochChangedError if this connection may not write yet."""
        if connection in self._checked:
            return
        with self._lock:  # who comes second has to see what the first found out
            self._check_server(connection)
        self._checked.add(connection)

    def _check_server(self, connection: Connection[DictRow]) -> None:
        row = connection.execute(self._read).fetchone()
        assert row is not None
        if row["checked"] not in {None, row["current"]}:
            raise StoreUncheckedError(f"{self._schema}: the relay has not checked this server yet")
        before = (self._epoch, self._incarnation)
        self._epoch, self._incarnation = row["epoch"], row["current"]
        if before[0] not in {None, row["epoch"]}:
            self._stored = None  # what became of it is known now
            raise EpochChangedError(f"{self._schema}: epoch {row['epoch']} began, {before[0]} is over")
        if self._stored is not None and connection.execute(self._find, self._stored).fetchone() is None:
            with connection.transaction(), connection.cursor() as cursor:
                self.begin_epoch(LOST_STORED)(cursor)
            self._stored = None
            raise EpochChangedError(f"{self._schema}: {LOST_STORED}")
        if before[1] not in {None, row["current"]}:
            # What we stored is there; what others stored, and we have in memory, may be gone.
            raise EpochChangedError(f"{self._schema}: the server was started again")

    def note(self, stored: StoredEvent) -> None:
        """Remember what was stored last: whoever finds it missing knows that the log went back."""
        assert isinstance(stored.originator_id, UUID)
        self._stored = (stored.originator_id, stored.originator_version)

    # Reading

    def epoch(self) -> int:
        """The epoch this process decides in; a newer one makes its next save on a new connection fail."""
        if self._epoch is None:
            self._epoch, _ = self.marks()
        return self._epoch

    def refresh(self) -> bool:
        """Look for a newer epoch; tell whether there is one, and what is in memory is to be dropped."""
        known, (self._epoch, _) = self._epoch, self.marks()
        is_new = known not in {None, self._epoch}
        if is_new:
            self._stored = None  # what became of it is known now
        return is_new

    def marks(self) -> tuple[int, int]:
        """The log's epoch, and the position that was relayed last."""
        query = SQL("SELECT epoch, relayed FROM {}.log").format(Identifier(self._schema))
        with self._datastore.get_connection() as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row["epoch"]), int(row["relayed"])

    def epochs(self) -> list[Epoch]:
        """All, in order; there is always a first."""
        with self._datastore.get_connection() as connection:
            return [Epoch(**row) for row in connection.execute(self._list, prepare=True).fetchall()]

    def recovered_epoch(self) -> int:
        """The newest epoch that what the stream still had was brought back in."""
        return max(row.epoch for row in self.epochs() if row.recovered_at is not None)

    def incarnation(self) -> Incarnation:
        with self._datastore.get_connection() as connection:
            row = connection.execute(self._read).fetchone()
        assert row is not None
        return Incarnation(row["current"], row["checked"])

    # Changing

    def begin_epoch(self, reason: str, lost: tuple[int, int] | None = None) -> Effect:
        """The effect that begins a new epoch after the log's last entry.

        It holds the lock that writers take, so no entry slips in between. `lost` is the last entry
        known to be gone, by epoch and position.
        """
        return begin_epoch(self._schema, reason, lost, events=self._events_name)

    def sign(self, incarnation: Incarnation, reason: str | None, lost: tuple[int, int] | None) -> None:
        """Let writers write on this server; with a reason, in a new epoch."""
        with (
            self._datastore.get_connection() as connection,
            connection.transaction(),
            connection.cursor() as cursor,
        ):
            if reason is not None:
                self.begin_epoch(reason, lost)(cursor)
            cursor.execute(self._sign, (incarnation.current,))

    def note_recovered(self, epochs: Sequence[Epoch]) -> None:
        """What the stream still held of these epochs' losses is stored."""
        query = SQL("UPDATE {}.epochs SET recovered_at = clock_timestamp() WHERE epoch = ANY(%s)").format(
            Identifier(self._schema)
        )
        with self._datastore.get_connection() as connection:
            connection.execute(query, ([epoch.epoch for epoch in epochs],))


def next_epoch(epoch: int, now: datetime) -> int:
    """The number of an epoch that begins now: by time, so that no lost history has used it."""
    return max(epoch + 1, int(now.timestamp()) - EPOCHS_SINCE)


def begin_epoch(
    schema: str,
    reason: str,
    lost: tuple[int, int] | None = None,
    *,
    epoch: int | None = None,
    events: str | None = None,
) -> Effect:
    """The effect that begins a new epoch of a service's log after its last entry."""
    events = events or f"{schema}_events"
    lock = SQL("SELECT pg_advisory_xact_lock(hashtext({}))").format(Literal(f"{schema}.{events}"))
    insert = SQL(BEGIN_EPOCH).format(
        schema=Identifier(schema), events=Identifier(schema, events), since=Literal(EPOCHS_SINCE)
    )
    update = SQL("UPDATE {0}.log SET epoch = (SELECT max(epoch) FROM {0}.epochs)").format(Identifier(schema))

    def effect(cursor: Cursor[DictRow]) -> None:
        cursor.execute(lock)
        cursor.execute(insert, (epoch, reason, *(lost or (None, None))))
        cursor.execute(update)
        log.warning("epoch_began", log=schema, reason=reason)

    return effect
