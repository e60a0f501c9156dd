"""Metering's store of pushed usage on real PostgreSQL, for tests of what is pushed and asked of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.sql import Identifier

from contracts.metering import MeterRow, QueryMeter
from services.metering.app import make_tables, pushed
from services.metering.application import Metering
from services.metering.as_of import AsOf
from services.metering.closing import Closing
from services.metering.closings import TABLE, Closings
from services.metering.domain.counting import Value
from services.metering.domain.meters import Meter
from services.metering.meter_queries import MeterQueries
from services.metering.meters import MeterBook
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.metering.replay import replay
from services.metering.usage_events import Arrival, Outcome, UsageEvents, Window
from shared.log import PublicLog
from shared.store import ThinRecorder, postgres_env

NOW = datetime(2031, 5, 17, 12, 30, tzinfo=UTC)
WINDOW = Window(timedelta(days=35), timedelta(seconds=300))
RECORDED, REPEATED = "recorded", "repeated"


@dataclass
class Store:
    """Metering's store, and the use cases of one process."""

    dsn: str
    metering: Metering
    usage_events: UsageEvents
    meters: MeterBook

    def record(self, *arrivals: Arrival, now: datetime = NOW) -> list[Outcome]:
        return self.usage_events.record(arrivals, now)

    def statuses(self, *arrivals: Arrival, now: datetime = NOW) -> list[str]:
        return [outcome.status for outcome in self.record(*arrivals, now=now)]

    def define(
        self, name: str, aggregation: str, value: str = "", *, now: datetime = NOW, **told: Any
    ) -> None:
        meter = Meter.of(name, "used", aggregation, value, told.get("group_by", []), told.get("filter", {}))
        self.meters.define(meter, actor="admin:1", now=now)

    def close(self, account_id: str, until: datetime, now: datetime = NOW) -> None:
        closing = Closing(self.metering, Closings(Identifier("metering", TABLE)))
        closing.close(account_id, until, actor="admin:1", reason="billed", now=now)

    def ask(self, meter: str, **asked: Any) -> list[MeterRow]:
        assert isinstance(self.metering.recorder, ThinRecorder)
        queries = MeterQueries(self.metering.recorder.datastore, AsOf("metering", self.metering.mapper))
        return queries.query(QueryMeter.model_validate({"meter": meter, **asked})).rows

    def total(self, meter: str, **asked: Any) -> str | None:
        [row] = self.ask(meter, **asked)
        return row.value

    def rows(self, table: str, where: str = "true") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            query = f"SELECT * FROM metering.{table} AS t WHERE {where} ORDER BY t::text"
            return connection.execute(query.encode()).fetchall()

    def amounts(self, meter: str) -> dict[Any, tuple[int, int, str]]:
        """Records, late ones and the amount, by hour and the hour it is of."""
        return {
            (row[2].hour, row[3].hour): (row[6], row[7], str(row[8]))
            for row in self.rows("meter_hourly", f"meter = '{meter}'")
        }

    def values(self, meter: str) -> dict[str, int]:
        return {row[6]: row[7] for row in self.rows("meter_values", f"meter = '{meter}'")}

    def differing(self) -> dict[str, Any]:
        return dict(replay.verify(self.dsn, lambda _: None).differing)


@contextmanager
def opened(dsn: str) -> Iterator[Store]:
    metering = Metering(usage_tables("metering"), postgres_env(dsn, "metering", create_tables=True))
    make_tables(metering, PublicLog(metering, MeteringOutbox(metering)))
    parts: dict[str, Any] = pushed(metering, WINDOW)
    try:
        yield Store(dsn, metering, parts["usage_events"], parts["meters"])
    finally:
        metering.close()


def arrival(event_id: str, at: datetime | None = NOW, **told: Any) -> Arrival:
    data: dict[str, Value] = {name: told.pop(name) for name in ("n", "of") if name in told}
    defaults: dict[str, Any] = {
        "account_id": "acme",
        "source": "app",
        "event_type": "used",
        "user_id": "ann",
        "own_only": False,
        "corrects": None,
        "data": data,
    }
    return Arrival(**{**defaults, "event_id": event_id, "at": at, **told})


def correction(event_id: str, corrects: str, **told: Any) -> Arrival:
    return arrival(event_id, None, corrects=corrects, **{"user_id": "", **told})


def void(event_id: str, corrects: str, **told: Any) -> Arrival:
    return correction(event_id, corrects, data=None, **told)
