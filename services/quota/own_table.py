"""A table of quota's own beside its log: read at once, changed with the events."""

from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import ApplicationRecorder
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from shared.store import Effect, ThinRecorder


class OwnTable:
    """Where there is no database, as in tests of decisions, effects are made and do not run."""

    def __init__(self, recorder: ApplicationRecorder) -> None:
        self._recorder = recorder

    @property
    def _store(self) -> ThinRecorder:
        assert isinstance(self._recorder, ThinRecorder)
        return self._recorder

    @property
    def _schema(self) -> Identifier:
        if isinstance(self._recorder, ThinRecorder):
            return Identifier(self._recorder.datastore.schema)
        return Identifier("quota")

    def _sql(self, text: str) -> Any:
        return SQL(text).format(schema=self._schema)

    def _effect(self, text: str, params: Sequence[object]) -> Effect:
        """A change to the table, in the transaction of what it follows from."""
        query = self._sql(text)

        def effect(cursor: Cursor[DictRow]) -> None:
            cursor.execute(query, params)

        return effect

    def _create(self, tables: str) -> None:
        with self._store.datastore.get_connection() as connection:
            connection.execute(self._sql(tables))
