"""Which events of other signers became usage: their keys, for ever. A fold of metering's log."""

from collections.abc import Sequence
from uuid import UUID

from eventsourcing.postgres import PostgresDatastore
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from services.metering.domain.signed_tickets import keys_of
from services.metering.domain.usage import Usage
from shared.table_copies import Table

TABLE = "signed_tickets"
CREATE_SIGNED_TICKETS = """
CREATE TABLE IF NOT EXISTS {schema}.signed_tickets (key uuid PRIMARY KEY);
"""
SIGNED_TICKETS = Table(TABLE, ("key",))


class TicketKeys:
    """Writes the table of this name; a rebuild has one of its own."""

    def __init__(self, table: Identifier) -> None:
        self._add = SQL("INSERT INTO {} SELECT unnest(%s::uuid[])").format(table)

    def add(self, cursor: Cursor[DictRow], usage: Usage) -> None:
        """Raises psycopg's UniqueViolation if one of them is there."""
        keys = sorted(keys_of(usage))  # as all writers have them: none waits for another in a circle
        if keys:
            cursor.execute(self._add, (keys,), prepare=True)


class KnownTickets:
    """Reads which events are recorded."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        self._datastore = datastore
        self.keys = TicketKeys(Identifier(datastore.schema, TABLE))
        table = Identifier(datastore.schema, TABLE)
        self._known = SQL("SELECT key FROM {} WHERE key = ANY(%s::uuid[])").format(table)

    def create_table(self) -> None:
        with self._datastore.get_connection() as connection:
            connection.execute(SQL(CREATE_SIGNED_TICKETS).format(schema=Identifier(self._datastore.schema)))

    def among(self, keys: Sequence[UUID]) -> set[UUID]:
        with self._datastore.get_connection() as connection:
            rows = connection.execute(self._known, (list(keys),), prepare=True).fetchall()
        return {row["key"] for row in rows}
