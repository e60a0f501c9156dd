"""The services' stores with points to die at, and a PostgreSQL that cuts connections.

The event store of a service is told by its environment; here that names this module. Connections
outlive the crash of a process in it, as the server rolls back what was open either way.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresDatastore, PostgresFactory
from eventsourcing.utils import Environment, EnvType
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow

from shared.store import Effect, ThinRecorder, postgres_env
from tests.faults.crashes.points import Points
from tests.infra import Database


class CrashingDatastore(PostgresDatastore):
    """Cuts a connection before its statements, or after they were committed."""

    points: Points

    @property
    def pool(self) -> Any:
        """What the recorder puts there, kept for the next process."""
        return self.__dict__.get("kept") or self.__dict__["pool"]

    @pool.setter
    def pool(self, pool: Any) -> None:
        self.__dict__["kept"] = self.points.connections(pool)

    @contextmanager
    def get_connection(self) -> Iterator[Connection[DictRow]]:
        with super().get_connection() as connection:
            if self.points.fails("before the statement"):
                connection.close()
            yield connection
            if self.points.fails("after the commit"):
                connection.close()
                raise psycopg.OperationalError("the connection was cut")

    def close(self) -> None:
        """The connections stay, also when the process that used them is gone."""


class CrashingRecorder(ThinRecorder):
    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        assert isinstance(datastore, CrashingDatastore)
        self._points = datastore.points

    def insert_events(
        self, stored_events: Sequence[StoredEvent], *, effects: Sequence[Effect] = (), **kwargs: Any
    ) -> Sequence[int] | None:
        if not stored_events and not effects:
            return None
        self._points.reach("before the save")
        between = self._points.effect("between effects")
        woven = [each for effect in effects for each in (effect, between)]
        positions: Sequence[int] | None = super().insert_events(stored_events, effects=woven, **kwargs)
        self._points.reach("after the commit")
        return positions

    def _append(self, cursor: Cursor[DictRow], stored_events: Sequence[StoredEvent]) -> None:
        super()._append(cursor, stored_events)
        if cursor.connection.info.transaction_status == TransactionStatus.INTRANS:
            self._points.reach("before the commit")


class Factory(PostgresFactory):
    """Makes stores whose processes may die; `points` by database and schema."""

    points: ClassVar[dict[tuple[str, str], Points]] = {}

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self.datastore.__class__ = CrashingDatastore  # the library makes it by its own class
        datastore = cast("CrashingDatastore", self.datastore)
        datastore.points = self.points[str(self.env.get(self.POSTGRES_DBNAME)), datastore.schema]


def environment(database: Database, schema: str, points: Points) -> EnvType:
    """As a service's own, but for the points it may die at."""
    Factory.points[database.name, schema] = points
    return {
        **postgres_env(database.dsn(schema), schema, create_tables=True),
        "PERSISTENCE_MODULE": f"{__name__}:Factory",
        "APPLICATION_RECORDER_TOPIC": f"{__name__}:CrashingRecorder",
    }


def let_go(database: Database) -> None:
    """Close the connections to a database."""
    for key in [key for key in Factory.points if key[0] == database.name]:
        Factory.points.pop(key).close()
