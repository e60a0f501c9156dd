"""Makes metering's tables anew from its own log: `python -m services.metering.rebuild`.

`--verify` compares the tables with what the log says, byte by byte, at one moment; metering may run.
`--apply` swaps in new tables; metering waits for the last moment of it only.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator

from eventsourcing.persistence import StoredEvent
from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composable, Identifier

from services.metering.application import Metering
from services.metering.domain import UsageBatch
from services.metering.projections import TABLES, UsageTables, usage_tables
from services.metering.settings import RebuildSettings
from shared.store import ThinRecorder, postgres_env

SCHEMA = "metering"
PAGE = 200
ORDER = {
    "usage_hourly": "account_id, hour, user_id, job_type, app, recipient, fee_denominator",
    "sessions": "account_id, session_id",
}


class Rebuild:
    def __init__(self, metering: Metering) -> None:
        recorder = metering.recorder
        assert isinstance(recorder, ThinRecorder)
        self._mapper = metering.mapper
        self._datastore = recorder.datastore
        self._schema = recorder.datastore.schema
        self._events = Identifier(self._schema, recorder.events_table_name)

    def differing(self) -> list[str]:
        """The tables that are not what the log says; each batch is in both or in neither."""
        with self._datastore.get_connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SET LOCAL statement_timeout = 0")  # the role's is for the service
            fresh = {table: Identifier(f"fresh_{table}") for table in TABLES}
            for table in TABLES:
                self._copy_shape(connection, table, fresh[table], SQL("TEMPORARY"), SQL("ON COMMIT DROP"))
            self._replay(connection, UsageTables(*fresh.values()), after=0)
            return [
                table
                for table in TABLES
                if _digest(connection, fresh[table], table) != _digest(connection, self._named(table), table)
            ]

    def apply(self) -> None:
        """Build new tables beside the old ones, then swap them while no batch is written."""
        fresh = {table: self._named(f"{table}_rebuilt") for table in TABLES}
        tables, position, reached = UsageTables(*fresh.values()), 0, -1
        with self._datastore.get_connection() as connection:
            connection.execute("SET statement_timeout = 0")
            with connection.transaction():
                for table in TABLES:
                    connection.execute(SQL("DROP TABLE IF EXISTS {}").format(fresh[table]))
                    self._copy_shape(connection, table, fresh[table], SQL(""), SQL(""))
            while position != reached:
                reached = position
                with connection.transaction():
                    position = self._replay(connection, tables, after=reached)
            with connection.transaction():
                # Each batch moves its position first, so none is half way now, and none begins.
                positions = self._named("positions")
                connection.execute(SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(positions))
                self._replay(connection, tables, after=position)
                for table in TABLES:
                    connection.execute(SQL("DROP TABLE {}").format(self._named(table)))
                    name = Identifier(table)
                    connection.execute(SQL("ALTER TABLE {} RENAME TO {}").format(fresh[table], name))

    def _replay(self, connection: Connection[DictRow], tables: UsageTables, *, after: int) -> int:
        """Add what the log holds after a position; return the last one."""
        last = after
        with connection.cursor() as cursor:
            for position, recorded in self._batches(connection, after):
                tables.add(cursor, recorded.usage)
                last = position
        return last

    def _batches(
        self, connection: Connection[DictRow], after: int
    ) -> Iterator[tuple[int, UsageBatch.Recorded]]:
        query = SQL(
            "SELECT notification_id, originator_id, originator_version, topic, state FROM {}"
            " WHERE topic = %s AND notification_id > %s ORDER BY notification_id"
        ).format(self._events)
        with connection.cursor("batches") as cursor:
            cursor.itersize = PAGE
            for row in cursor.execute(query, (UsageBatch.Recorded.TOPIC, after)):
                stored = StoredEvent(
                    row["originator_id"], row["originator_version"], row["topic"], bytes(row["state"])
                )
                recorded = self._mapper.to_domain_event(stored)
                assert isinstance(recorded, UsageBatch.Recorded)
                yield row["notification_id"], recorded

    def _copy_shape(
        self,
        connection: Connection[DictRow],
        table: str,
        copy: Identifier,
        kind: Composable,
        on_commit: Composable,
    ) -> None:
        query = SQL("CREATE {} TABLE {} (LIKE {} INCLUDING ALL) {}")
        connection.execute(query.format(kind, copy, self._named(table), on_commit))

    def _named(self, table: str) -> Identifier:
        return Identifier(self._schema, table)


def _digest(connection: Connection[DictRow], table: Identifier, kind: str) -> str:
    digest = hashlib.sha256()
    order = SQL(", ").join(Identifier(column) for column in ORDER[kind].split(", "))
    query = SQL("COPY (SELECT * FROM {} ORDER BY {}) TO STDOUT").format(table, order)
    with connection.cursor() as cursor, cursor.copy(query) as rows:
        for row in rows:
            digest.update(row)
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.metering.rebuild")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--verify", action="store_true", help="compare, change nothing")
    action.add_argument("--apply", action="store_true", help="swap in tables made from the log")
    options = parser.parse_args()
    dsn = RebuildSettings().postgres_dsn.get_secret_value()
    metering = Metering(usage_tables(SCHEMA), postgres_env(dsn, SCHEMA, create_tables=False))
    try:
        rebuild = Rebuild(metering)
        if options.apply:
            rebuild.apply()
        differing = rebuild.differing()
    finally:
        metering.close()
    sys.stdout.write(json.dumps({"differing": differing}) + "\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
