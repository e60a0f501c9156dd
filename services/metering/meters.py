"""The use cases of meters: define, retire, list; and counting with those that there are at a commit."""

import threading
from collections.abc import Iterable
from datetime import datetime

from eventsourcing.application import AggregateNotFoundError
from eventsourcing.persistence import IntegrityError, PersistenceError
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier, Literal

from services.metering.application import Metering
from services.metering.domain.meters import (
    UNSPECIFIED,
    Counting,
    Known,
    Meter,
    MeterNotFound,
    Meters,
)
from services.metering.meter_tables import MeterTables
from services.metering.outbox import public_of
from services.metering.streaming import decided_again
from shared.store import Effect

LOCK = "metering.meters"


class MetersChangedError(IntegrityError):
    """A meter was defined or retired meanwhile: decide again."""


class MeterBook:
    """Changes one at a time: the aggregate in the cache is shared by the handlers' threads."""

    def __init__(self, metering: Metering, tables: MeterTables) -> None:
        self._metering = metering
        self._tables = tables
        self._turn = threading.Lock()
        self._version = SQL(
            "SELECT coalesce(max(originator_version), 0) AS version FROM {} WHERE originator_id = %s"
        ).format(Identifier(metering.name, f"{metering.name}_events"))

    @decided_again
    def define(self, meter: Meter, *, actor: str, reason: str = UNSPECIFIED, now: datetime) -> Known:
        """Raise MeterRefusal; the same again changes nothing."""
        with self._turn:
            meters = self._read() or Meters(timestamp=now)
            meters.define(meter, actor=actor, reason=reason, now=now)
            self._save(meters, [meter.name], now)
            return meters.known[meter.name]

    @decided_again
    def retire(self, name: str, *, actor: str, reason: str = UNSPECIFIED, now: datetime) -> Known:
        """Raise MeterNotFound."""
        with self._turn:
            meters = self._read()
            if meters is None:
                raise MeterNotFound(name)
            meters.retire(name, actor=actor, reason=reason, now=now)
            self._save(meters, [name], now)
            return meters.known[name]

    def known(self) -> list[Known]:
        """All that were ever defined, by name."""
        with self._turn:
            meters = self._read()
            return [known for _, known in sorted(meters.known.items())] if meters is not None else []

    def counting(self) -> Counting:
        """The meters that count now."""
        with self._turn:
            return Counting(self._read())

    def unchanged(self, counting: Counting) -> Effect:
        """Make the effect that lets nothing be stored which was counted with other meters.

        It holds the lock that defining and retiring take alone: so whatever names a version of the
        meters is in the log after that version, and before the next.
        """

        def effect(cursor: Cursor[DictRow]) -> None:
            cursor.execute(_lock("pg_advisory_xact_lock_shared"))
            row = cursor.execute(self._version, (Meters.create_id(),), prepare=True).fetchone()
            if row is None or row["version"] != counting.version:
                raise MetersChangedError(f"meters are not of version {counting.version} any more")

        return effect

    def _read(self) -> Meters | None:
        self._metering.catch_up([Meters.create_id()])
        try:
            meters: Meters = self._metering.repository.get(Meters.create_id())
        except AggregateNotFoundError:
            return None
        return meters

    def _save(self, meters: Meters, names: Iterable[str], now: datetime) -> None:
        if not meters.pending_events:
            return

        def effect(cursor: Cursor[DictRow]) -> None:
            cursor.execute(_lock("pg_advisory_xact_lock"))
            self._tables.put_meters(cursor, meters, names)

        told = [public_of(each) for each in meters.pending_events]
        try:
            self._metering.save(meters, effects=[effect, self._metering.audit.record(told, now)])
        except PersistenceError:
            self._metering.forget(meters.id)
            raise


def _lock(function: str) -> Composed:
    return SQL("SELECT {}(hashtext({}))").format(Identifier(function), Literal(LOCK))
