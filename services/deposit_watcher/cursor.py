"""How far the chain's logs were read, kept with what was found in them."""

from dataclasses import dataclass

from eventsourcing.postgres import PostgresDatastore
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from shared.store import Effect

CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS {table} (
    contract text PRIMARY KEY, block bigint NOT NULL, block_hash text NOT NULL);
"""


class CursorMovedError(Exception):
    """Another process read these blocks."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The last block that was read; the hash is for noticing a reorg."""

    block: int
    block_hash: str


class LogCursor:
    """One mark per contract: another chain or broker starts anew."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        self._datastore = datastore
        self._table = Identifier(datastore.schema, "cursor")

    def create_tables(self) -> None:
        with self._datastore.get_connection() as connection:
            connection.execute(SQL(CREATE_TABLES).format(table=self._table))

    def get(self, contract: str, start: Mark) -> Mark:
        """Where reading goes on, from `start` the first time."""
        insert = SQL("INSERT INTO {} VALUES (%s, %s, %s) ON CONFLICT DO NOTHING").format(self._table)
        query = SQL("SELECT block, block_hash FROM {} WHERE contract = %s").format(self._table)
        with self._datastore.get_connection() as connection:
            connection.execute(insert, (contract, start.block, start.block_hash))
            row = connection.execute(query, (contract,)).fetchone()
        assert row is not None
        return Mark(row["block"], row["block_hash"])

    def advance(self, contract: str, old: Mark, new: Mark) -> Effect:
        """The effect that moves the mark; it undoes the transaction if somebody else did."""
        query = SQL("UPDATE {} SET block = %s, block_hash = %s WHERE contract = %s AND block = %s")

        def effect(cursor: Cursor[DictRow]) -> None:
            params = (new.block, new.block_hash, contract, old.block)
            if cursor.execute(query.format(self._table), params).rowcount != 1:
                raise CursorMovedError(f"{contract} is not at {old.block}")

        return effect
