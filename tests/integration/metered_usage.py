"""Metering's log and tables on real PostgreSQL, for tests of what is asked of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import connect
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL

from contracts.message import Event, LogEntry
from contracts.metering import MeterRow, QueryMeter, QueryUsage
from contracts.signer import PaymentSigned, SessionOpened
from services.metering.app import make_tables
from services.metering.application import Metering
from services.metering.as_of import AsOf
from services.metering.closing import Closing
from services.metering.domain.usage import Span, Usage, UsageBatch
from services.metering.entries import read_usage
from services.metering.meter_queries import MeterQueries
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.metering.queries import UsageQueries
from services.metering.replay import replay
from services.metering.stream_tables import StreamStore
from services.metering.streaming import Streaming
from shared.log import PublicLog
from shared.store import Effect, ThinRecorder, postgres_env
from tests import infra

type Sources = Callable[..., infra.Database]

CERTAIN = 2**256 - 1
NOON = datetime(2026, 10, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHO = {"actor": "billing", "reason": "invoiced"}


def payment(**changed: Any) -> PaymentSigned:
    told = {
        "account_id": "acme",
        "session_id": "s1",
        "user_id": "ann",
        "app": "daydream",
        "job_type": "lv2v",
        "recipient": "0xr",
        "payer": "0xp",
        "tickets": 3,
        "cost": 101,
        "face_value": 10**15,
        "win_prob": hex(CERTAIN // 1000),
        "units": 27_648_000,
        "price_per_unit": 5,
        "pixels_per_unit": 3,
        "creation_round": 9,
        "key_id": "key-1",
        "capability": "llm/a",
    }
    return PaymentSigned.model_validate({**told, **changed})


def opening(**changed: Any) -> SessionOpened:
    told = {
        "account_id": "acme",
        "session_id": "s1",
        "user_id": "ann",
        "key_id": "key-1",
        "stream_id": None,
        "app": "daydream",
        "job_type": "lv2v",
        "orchestrator": "0xo",
        "capability": "llm/a",
    }
    return SessionOpened.model_validate({**told, **changed})


@dataclass
class Metered:
    """Metering without a bus. What is recorded comes from a signer's log that grows here."""

    metering: Metering
    dsn: str
    entries: list[LogEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert isinstance(self.metering.recorder, ThinRecorder)
        datastore = self.metering.recorder.datastore
        store = StreamStore(datastore)
        self.meters = MeterQueries(datastore, AsOf("metering", self.metering.mapper))
        self.usage = UsageQueries(datastore)
        self.closing = Closing(self.metering, store.closings)
        self.streaming = Streaming(self.metering, store, grace=timedelta(hours=12), raw_days=0)

    def create_tables(self) -> None:
        make_tables(self.metering, PublicLog(self.metering, MeteringOutbox(self.metering)))

    def record(self, *told: tuple[datetime, Event], now: datetime) -> None:
        """Record what the signer told, each at its time, as one batch."""
        self.metering.record(*self._read(*told), now, lambda _: None)

    def record_last(self, told: tuple[datetime, Event], *, now: datetime, then: Effect) -> None:
        """Record it, and do something else after it was booked and before it is stored."""
        span, usage = self._read(told)
        batch = UsageBatch.record(span, usage, now)
        booked = usage_tables("metering").effects(span, usage, now)
        self.metering.save(batch, effects=[*booked, then])

    def _read(self, *told: tuple[datetime, Event]) -> tuple[Span, Usage]:
        first = len(self.entries)
        for at, event in told:
            position = len(self.entries) + 1
            self.entries.append(
                LogEntry(
                    epoch=1,
                    position=position,
                    previous_position=position - 1,
                    subject=event.subject,
                    at=at,
                    event=event.model_dump(mode="json"),
                )
            )
        return read_usage(self.entries[first:])

    def run_stream(
        self, began: datetime, ended: datetime, *, now: datetime, account: str = "acme", stream: str = "talk"
    ) -> None:
        """A stream began and ended, and both are told now."""
        place = f"{began} {stream}"
        self.streaming.follow(
            [
                (
                    account,
                    stream,
                    lambda known: known.begin(place, at=began, user_id="ann", app="demo", now=now),
                ),
                (
                    account,
                    stream,
                    lambda known: known.end(f"{place} end", at=ended, because="ended", now=now),
                ),
            ],
            now,
            lambda _: None,
        )

    def close(self, account: str, until: datetime, now: datetime) -> datetime:
        return self.closing.close(account, until, **WHO, now=now)

    def ask(self, meter: str, **asked: Any) -> list[MeterRow]:
        return self.meters.query(QueryMeter.model_validate({"meter": meter, **asked})).rows

    def every(self, meter: str, **asked: Any) -> list[MeterRow]:
        """All rows, page by page of two."""
        rows: list[MeterRow] = []
        after: list[str] = []
        while page := self.ask(meter, **asked, limit=2, after=after):
            rows += page
            last = page[-1]
            after = [last.window_start.isoformat()] if asked.get("window") and last.window_start else []
            after += [last.group[key] or "" for key in asked.get("group_by", [])]
        return rows

    def total(self, meter: str, **asked: Any) -> str | None:
        [row] = self.ask(meter, **asked)
        return row.value

    def sums(self, **asked: Any) -> list[tuple[int, int]]:
        rows = self.usage.query_usage(QueryUsage.model_validate(asked)).rows
        return [(row.payments, row.cost_wei) for row in rows]

    def rows(self, query: str, params: Sequence[object] = ()) -> list[DictRow]:
        with connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            cursor = connection.execute(SQL(query), params)
            return cursor.fetchall() if cursor.description else []

    def differing(self) -> dict[str, list[str]]:
        return replay.verify(self.dsn, lambda _: None).differing

    def rebuild(self) -> None:
        replay.rebuild(self.dsn, lambda _: None)


@contextmanager
def metered(database: infra.Database) -> Iterator[Metered]:
    dsn = database.dsn("metering")
    env = postgres_env(dsn, "metering", create_tables=True)
    with Metering(usage_tables("metering"), env) as metering:
        made = Metered(metering, make_conninfo(dsn))
        made.create_tables()
        yield made
