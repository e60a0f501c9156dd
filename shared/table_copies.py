"""Copies of a service's tables: filled beside them, compared byte by byte, swapped in."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composable, Composed, Identifier

EXAMPLES = 10

COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""
INDEXES = """
SELECT indkey::text || indisunique || indisprimary AS shape, relname
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = %s::regclass ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is a fold of the log; `untold` are columns that no event tells."""

    name: str
    key: tuple[str, ...]
    untold: tuple[str, ...] = ()


class Copies:
    """Empty tables of the same shape; temporary ones end with the transaction."""

    def __init__(
        self, connection: Connection[DictRow], schema: str, tables: Sequence[Table], *, temporary: bool
    ) -> None:
        self._schema = schema
        self._tables = tables
        self.names: Mapping[str, Identifier] = {
            table.name: Identifier(f"fresh_{table.name}")
            if temporary
            else Identifier(schema, f"{table.name}_replayed")
            for table in tables
        }
        for table in tables:
            self._make(connection, table.name, temporary=temporary)

    def differing(self, connection: Connection[DictRow]) -> dict[str, list[str]]:
        """The tables that differ from their copies, each with the keys of some rows that do."""
        return {
            table.name: self._examples(connection, table)
            for table in self._tables
            if len({_digest(connection, rows) for rows in self._both(connection, table)}) > 1
        }

    def lock(self, connection: Connection[DictRow]) -> None:
        """Wait until no writer is half way, and let none begin; readers go on."""
        for table in self._tables:
            named = self._named(table.name)
            connection.execute(SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(named))

    def swap(self, connection: Connection[DictRow]) -> None:
        """Put the copies in the tables' places, with the names of their indexes."""
        for table in self._tables:
            index_names = [row["relname"] for row in self._indexes(connection, self._named(table.name))]
            copied_names = [row["relname"] for row in self._indexes(connection, self.names[table.name])]
            connection.execute(SQL("DROP TABLE {}").format(self._named(table.name)))
            rename = SQL("ALTER TABLE {} RENAME TO {}")
            connection.execute(rename.format(self.names[table.name], Identifier(table.name)))
            for copied, wanted in zip(copied_names, index_names, strict=True):
                rename = SQL("ALTER INDEX {} RENAME TO {}")
                connection.execute(rename.format(self._named(copied), Identifier(wanted)))

    def _make(self, connection: Connection[DictRow], table: str, *, temporary: bool) -> None:
        copy = self.names[table]
        if not temporary:
            connection.execute(SQL("DROP TABLE IF EXISTS {}").format(copy))
        query = SQL("CREATE {} TABLE {} (LIKE {} INCLUDING ALL) {}").format(
            SQL("TEMPORARY" if temporary else ""),
            copy,
            self._named(table),
            SQL("ON COMMIT DROP" if temporary else ""),
        )
        connection.execute(query)

    def _both(self, connection: Connection[DictRow], table: Table) -> list[Composed]:
        """Two queries of all rows in order: of the copy, and of the table."""
        columns = connection.execute(COLUMNS, (self._named(table.name).as_string(connection),)).fetchall()
        told = [Identifier(row["attname"]) for row in columns if row["attname"] not in table.untold]
        key = _list([Identifier(name) for name in table.key])
        return [
            SQL("SELECT {} FROM {} ORDER BY {}").format(_list(told), source, key)
            for source in (self.names[table.name], self._named(table.name))
        ]

    def _examples(self, connection: Connection[DictRow], table: Table) -> list[str]:
        copied, stored = (
            SQL("SELECT {key}, md5(rows::text) FROM ({query}) AS rows").format(
                key=_list([Identifier(name) for name in table.key]), query=query
            )
            for query in self._both(connection, table)
        )
        query = SQL("(({a}) EXCEPT ({b})) UNION (({b}) EXCEPT ({a})) ORDER BY 1 LIMIT {limit}").format(
            a=copied, b=stored, limit=2 * EXAMPLES
        )
        keys = [
            " ".join(str(row[name]) for name in table.key) for row in connection.execute(query).fetchall()
        ]
        return sorted(set(keys))[:EXAMPLES]

    def _indexes(self, connection: Connection[DictRow], table: Identifier) -> list[DictRow]:
        return connection.execute(INDEXES, (table.as_string(connection),)).fetchall()

    def _named(self, name: str) -> Identifier:
        return Identifier(self._schema, name)


def _digest(connection: Connection[DictRow], query: Composed) -> str:
    digest = hashlib.sha256()
    cursor: Cursor[DictRow]
    with connection.cursor() as cursor, cursor.copy(SQL("COPY ({}) TO STDOUT").format(query)) as rows:
        for row in rows:
            digest.update(row)
    return digest.hexdigest()


def _list(names: Sequence[Composable]) -> Composed:
    return SQL(", ").join(names)
