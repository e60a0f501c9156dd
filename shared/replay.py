"""Replays a service's log against what the service keeps beside it: tables and snapshots.

Verifying compares at one moment, and changes nothing; the service may run. Rebuilding makes new
tables beside the old ones and swaps them; the service waits for the last moment of it only.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

import psycopg
from eventsourcing.persistence import Mapper
from psycopg import Connection, connect
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL, Identifier
from pydantic import ValidationError

from shared.folding import Events, Snapshots
from shared.meter import Failed, Meter, Progress, Replayed, print_line
from shared.settings import DatabaseSettings
from shared.store import JsonTranscoder
from shared.table_copies import Copies, Table

ROUNDS_MAX = 20  # of catching up with a busy log, before its writers have to wait
# The role's time-outs are for the service's own short statements.
CONNECTION_OPTIONS = (
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=60s -c timezone=UTC"
)


class Filling(Protocol):
    """Fills tables from a log; asked again, it goes on where it stopped."""

    def go_on(self, connection: Connection[DictRow]) -> bool:
        """Bring the tables to the end of the log; tell whether there was anything to add."""
        ...


# Makes the filling of tables with these names.
type Fill = Callable[[Events, Mapping[str, Identifier]], Filling]


def no_tables(_events: Events, _names: Mapping[str, Identifier]) -> Filling:
    raise NotImplementedError("there are no tables to fill")


class Replay:
    """One service's.

    `create` makes what is missing of the tables, in `{schema}`; `mapper` reads its events as it
    writes them.
    """

    def __init__(
        self,
        service: str,
        *,
        tables: Sequence[Table] = (),
        create: str = "",
        fill: Fill = no_tables,
        mapper: Mapper[UUID] | None = None,
    ) -> None:
        self.service = service
        self._tables = tables
        self._create = create
        self._fill = fill
        self._mapper = mapper or Mapper(JsonTranscoder())

    def verify(self, dsn: str, tell: Callable[[Progress], None] = print_line) -> Replayed:
        """Compare tables and snapshots with what the log says; each commit is in both or in neither."""
        meter = Meter(self.service, tell)
        events = Events(self.service, self._mapper, meter)
        differing: dict[str, list[str]] = {}
        with _connect(dsn) as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            count = events.count(connection)
            if self._tables:
                meter.begin("tables", count)
                copies = Copies(connection, self.service, self._tables, temporary=True)
                self._fill(events, copies.names).go_on(connection)
                meter.end()
                differing |= copies.differing(connection)
            wrong, state = self._wrong_snapshots(connection, events, count)
        return self._report(meter, "verify", differing | _named(wrong), state)

    def rebuild(self, dsn: str, tell: Callable[[Progress], None] = print_line) -> Replayed:
        """Swap in tables made from the log, and drop the snapshots it contradicts."""
        meter = Meter(self.service, tell)
        events = Events(self.service, self._mapper, meter)
        with _connect(dsn) as connection:
            count = events.count(connection)
            if self._tables:
                meter.begin("tables", count)
                self._swap(connection, events)
                meter.end()
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                wrong, state = self._wrong_snapshots(connection, events, count)
            if wrong:
                events.drop_snapshots(connection, wrong)
        return self._report(meter, "rebuild", _named(wrong), state)

    def _wrong_snapshots(
        self, connection: Connection[DictRow], events: Events, count: int
    ) -> tuple[list[tuple[UUID, int]], str]:
        """Fold everything, unless the tables told all there is; with the digest of all states."""
        if self._tables and not events.has_snapshots(connection):
            return [], ""
        events.meter.begin("snapshots", count)
        snapshots = Snapshots(events)
        wrong = list(snapshots.differing(connection))
        events.meter.end()
        return wrong, snapshots.state.hexdigest()

    def _swap(self, connection: Connection[DictRow], events: Events) -> None:
        with connection.transaction():
            connection.execute(SQL(self._create).format(schema=Identifier(self.service)))
            copies = Copies(connection, self.service, self._tables, temporary=False)
        filling = self._fill(events, copies.names)
        for _ in range(ROUNDS_MAX):
            with connection.transaction():
                if not filling.go_on(connection):
                    break
        with connection.transaction():
            copies.lock(connection)
            filling.go_on(connection)
            copies.swap(connection)

    def _report(self, meter: Meter, action: str, differing: dict[str, list[str]], state: str) -> Replayed:
        seconds = meter.seconds
        return Replayed(
            service=self.service,
            action="verify" if action == "verify" else "rebuild",
            events=meter.total,
            seconds=round(seconds, 3),
            events_per_second=int(meter.total / seconds),
            differing=differing,
            state=state,
        )


def main(replay: Replay) -> int:
    """The command line of `python -m services.<service>.replay`: JSON lines, the report last.

    0: all is as the log says, or made so; 1: something differs; 2: the store did not play along.
    """
    parser = argparse.ArgumentParser(prog=f"python -m services.{replay.service}.replay")
    parser.add_argument("--verify", action="store_true", help="compare, change nothing")
    verify = parser.parse_args().verify
    prefix = f"{replay.service.upper()}_"
    try:
        dsn = DatabaseSettings(_env_prefix=prefix).postgres_dsn.get_secret_value()
    except ValidationError:
        print_line(Failed(service=replay.service, problem=f"{prefix}POSTGRES_DSN is not set"))
        return 2
    try:
        report = replay.verify(dsn) if verify else replay.rebuild(dsn)
    except psycopg.Error as problem:
        print_line(Failed(service=replay.service, problem=f"{type(problem).__name__}: {problem}"))
        return 2
    print_line(report)
    return 1 if verify and report.differing else 0


def _named(snapshots: Sequence[tuple[UUID, int]]) -> dict[str, list[str]]:
    return {"snapshots": [f"{unique} {version}" for unique, version in snapshots]} if snapshots else {}


def _connect(dsn: str) -> Connection[DictRow]:
    return connect(dsn, autocommit=True, connect_timeout=5, options=CONNECTION_OPTIONS, row_factory=dict_row)
