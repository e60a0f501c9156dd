"""Tables with one row for an aggregate: filled again from its state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any, cast

from eventsourcing.domain import Aggregate
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier, Placeholder

from shared.folding import ByAggregate, DomainEvent, Events, Fold

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class AggregateFold:
    """The aggregate itself."""

    def __init__(self) -> None:
        self.aggregate: Aggregate | None = None

    def apply(self, event: DomainEvent) -> None:
        self.aggregate = cast("Any", event).mutate(self.aggregate)


type RowOf = Callable[[Any], "DataclassInstance"]


def filling_rows(
    row_of: Mapping[type[Aggregate], tuple[str, RowOf]],
) -> Callable[[Events, Mapping[str, Identifier]], ByAggregate]:
    """Fill each table with the rows of its aggregates, in the columns of their fields, the key first.

    `row_of` tells by an aggregate's type the table and what makes its row; the others have none.
    """

    def fill(events: Events, names: Mapping[str, Identifier]) -> ByAggregate:
        def write(cursor: Cursor[DictRow], folds: Sequence[Fold]) -> None:
            rows: dict[str, list[DataclassInstance]] = {}
            for fold in folds:
                aggregate = cast("AggregateFold", fold).aggregate
                if aggregate is not None and type(aggregate) in row_of:
                    table, row = row_of[type(aggregate)]
                    rows.setdefault(table, []).append(row(aggregate))
            for table, told in rows.items():
                _write(cursor, names[table], told)

        return ByAggregate(events, lambda _: AggregateFold(), write)

    return fill


def _write(cursor: Cursor[DictRow], table: Identifier, rows: Sequence["DataclassInstance"]) -> None:
    columns = [Identifier(field.name) for field in fields(rows[0])]
    values = [astuple(row) for row in rows]
    delete = SQL("DELETE FROM {} WHERE {} = ANY(%s)").format(table, columns[0])
    cursor.execute(delete, ([row[0] for row in values],))
    insert = SQL("INSERT INTO {} ({}) VALUES ({})").format(
        table, SQL(", ").join(columns), SQL(", ").join([Placeholder()] * len(columns))
    )
    cursor.executemany(insert, values)
