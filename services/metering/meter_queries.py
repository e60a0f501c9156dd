"""Answers about one meter: by windows of a time zone and by group, page by page."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from eventsourcing.postgres import PostgresDatastore
from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from contracts.metering import MeterPage, MeterRow, QueryMeter
from services.metering.as_of import AsOf
from services.metering.counted import BUILT_IN, Distinct, Meter, Sum, defined, floor_text, plain_text
from services.metering.domain.usage import EPOCH
from services.metering.refusal import BadQuery
from services.metering.usage_windows import YEARS, Windows, months_of, windows, zone_of

TIMEOUT_MS = 2000  # the caller does not wait longer
HOUR = timedelta(hours=1)
# What is known as of a moment is read more than once, and has to be the same. Sums of a whole house
# fit into that memory; compiling them costs more than it gains, and one query has one core.
BEGIN = f"""
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = {TIMEOUT_MS};
SET LOCAL work_mem = '16MB'; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0
"""

# First by denominator, because only fractions of one denominator add up in SQL, and by closed hour.
SUMS = """
SELECT {names} sum(numerator) AS total, array_agg(numerator) AS numerators,
    array_agg(denominator) AS denominators, coalesce(sum(late), 0) AS late, array_agg(closed_hour) AS of_hours
FROM (
    SELECT {columns} {denominator} AS denominator,
        CASE WHEN of_hour <> hour THEN of_hour END AS closed_hour,
        sum({numerator}) AS numerator, sum({late}) AS late, sum({counts}) AS counts
    FROM {source} WHERE {conditions} GROUP BY {places} denominator, closed_hour
) AS sums {rest}
"""
# First by value, because a correction may take one back in another hour than it was told in.
VALUES = """
SELECT {names} {value} AS total, 0 AS late, array_agg(of_hours) AS of_hours
FROM (
    SELECT {columns} value, to_jsonb(array_agg(DISTINCT of_hour) FILTER (WHERE of_hour <> hour)) AS of_hours
    FROM {source} WHERE {conditions} GROUP BY {places} value HAVING sum(records) > 0
) AS sums {rest}
"""
EXTENT = "SELECT min(hour) AS first, max(hour) AS last FROM {table} WHERE {conditions}"
DEFINED = "SELECT * FROM {} WHERE name = %s"


class MeterQueries:
    def __init__(self, datastore: PostgresDatastore, as_of: AsOf) -> None:
        self._datastore = datastore
        self._as_of = as_of

    def query(self, asked: QueryMeter) -> MeterPage:
        """Rows in the order of window and group; with neither one row, also if there is nothing.

        Raises BadQuery.
        """
        with self._datastore.get_connection() as connection, connection.transaction():
            connection.execute(BEGIN)
            meter = self._meter(connection, asked.meter)
            _check(asked, meter)
            rows = self._rows(connection, asked, meter)
        return MeterPage(meter=asked.meter, rows=rows)

    def _rows(self, connection: Connection[DictRow], asked: QueryMeter, meter: Meter) -> list[MeterRow]:
        source: Composable = self._table(meter)
        if asked.as_of is not None:
            source = self._as_of.source(connection, asked.meter, meter.table, asked.as_of)
        found = self._windows(connection, asked, meter, source)
        if asked.window and found is None:
            return []
        query = _Query(asked, meter, found)
        rows = connection.execute(query.composed(source)).fetchall()
        return [query.row(row) for row in rows]

    def _windows(
        self, connection: Connection[DictRow], asked: QueryMeter, meter: Meter, source: Composable
    ) -> Windows | None:
        """None where there are none."""
        zone_of(asked.time_zone)
        if asked.window is None:
            return None
        from_at, to_at = asked.from_at, asked.to_at
        if from_at is None or to_at is None:
            query = SQL(EXTENT).format(table=source, conditions=_all(_narrow(asked, meter)))
            extent = connection.execute(query).fetchone()
            if extent is None or extent["first"] is None:
                return None
            from_at = from_at or extent["first"]
            to_at = to_at or extent["last"] + HOUR
        if asked.after:
            from_at = max(from_at, _time(asked.after[0]))
        if from_at >= to_at:
            return None
        return windows(from_at.astimezone(UTC), to_at.astimezone(UTC), asked.window, asked.time_zone)

    def _meter(self, connection: Connection[DictRow], name: str) -> Meter:
        built_in = BUILT_IN.get(name)
        if built_in is not None:
            return built_in
        if "\0" not in name:
            table = Identifier(self._datastore.schema, "meters")
            found = connection.execute(SQL(DEFINED).format(table), (name,)).fetchone()
            if found is not None:
                return defined(found)
        raise BadQuery(f"meter: there is no {name!r:.140}; built in are {', '.join(BUILT_IN)}")

    def _table(self, meter: Meter) -> Identifier:
        return Identifier(self._datastore.schema, meter.table)


class _Query:
    """The query of what was asked, and its rows read."""

    def __init__(self, asked: QueryMeter, meter: Meter, found: Windows | None) -> None:
        self._asked = asked
        self._meter = meter
        self._windows = found
        self._zone = zone_of(asked.time_zone)
        columns = [meter.keys[name] for name in asked.group_by]
        if found is not None:
            columns.insert(0, self._window_column(found))
        self._columns = columns
        self._names = [Identifier(f"key_{number}") for number in range(len(columns))]

    def composed(self, source: Composable) -> Composed:
        meter = self._meter
        parts = {
            "source": source,
            "names": SQL("").join(SQL("{}, ").format(name) for name in self._names),
            "columns": SQL("").join(
                SQL("{} AS {}, ").format(column, name)
                for column, name in zip(self._columns, self._names, strict=True)
            ),
            "places": SQL("").join(
                SQL("{}, ").format(Literal(place)) for place in range(1, len(self._names) + 1)
            ),
            "conditions": _all([*_narrow(self._asked, meter), *self._page()]),
        }
        if isinstance(meter, Distinct):
            value = SQL("max(value::numeric)" if meter.is_max else "count(*)")
            return SQL(VALUES).format(**parts, value=value, rest=self._rest(None))
        return SQL(SUMS).format(
            **parts,
            numerator=SQL(meter.numerator),
            denominator=SQL(meter.denominator),
            late=SQL(meter.late),
            counts=SQL(meter.counts),
            rest=self._rest(SQL("HAVING sum(counts) <> 0 OR sum(numerator) <> 0")),
        )

    def row(self, row: DictRow) -> MeterRow:
        start, end = self._asked.from_at, self._asked.to_at
        keys = [row[f"key_{number}"] for number in range(len(self._names))]
        if self._windows is not None:
            start = keys.pop(0).astimezone(UTC)
            end = self._windows.end_of(start)
        return MeterRow(
            window_start=start.astimezone(UTC) if start else None,
            window_end=end.astimezone(UTC) if end else None,
            group={name: key or None for name, key in zip(self._asked.group_by, keys, strict=True)},
            value=self._value(row),
            late=-(-int(row["late"]) // (self._meter.late_of if isinstance(self._meter, Sum) else 1)),
            of=months_of(_closed_hours(row["of_hours"]), self._zone),
        )

    def _value(self, row: DictRow) -> str | None:
        meter = self._meter
        if isinstance(meter, Distinct):
            return None if row["total"] is None else plain_text(row["total"])
        if meter.places is None:
            return plain_text(row["total"] or 0)
        terms = zip(row["numerators"] or (), row["denominators"] or (), strict=True)
        return floor_text([(int(number), int(denominator)) for number, denominator in terms], meter.places)

    def _window_column(self, found: Windows) -> Composable:
        if self._asked.window == "hour":
            return Identifier("hour")
        starts = SQL("{}::timestamptz[]").format(Literal(found.starts))
        return SQL("({0})[width_bucket(hour, {0})]").format(starts)

    def _page(self) -> list[Composable]:
        """Only what comes after the row seen last."""
        after = self._asked.after
        if not after:
            return []
        values = [Literal(_text(text)) for text in after]
        place = SQL("({}) > ({})")
        if not self._asked.window:
            return [place.format(_list(self._columns), _list(values))]
        values[0] = Literal(_time(after[0]))
        return [SQL("hour >= {}").format(values[0]), place.format(_list(self._columns), _list(values))]

    def _rest(self, having: Composable | None) -> Composable:
        if not self._names:
            return SQL("")
        names = _list(self._names)
        return SQL("GROUP BY {} {} ORDER BY {} LIMIT {}").format(
            names, having or SQL(""), names, Literal(self._asked.limit)
        )


def _narrow(asked: QueryMeter, meter: Meter) -> list[Composable]:
    """The conditions that say what is asked about."""
    filters = {**asked.filters, **({"account": asked.account_id} if asked.account_id is not None else {})}
    conditions = [meter.where]
    conditions += [
        SQL("{} = {}").format(meter.keys[name], Literal(_text(text))) for name, text in filters.items()
    ]
    if asked.from_at is not None:
        conditions.append(SQL("hour >= {}").format(Literal(asked.from_at)))
    if asked.to_at is not None:
        conditions.append(SQL("hour < {}").format(Literal(asked.to_at)))
    conditions.append(_says_something(meter))
    return conditions


def _says_something(meter: Meter) -> Composable:
    """Rows of what was taken back again stay, and say nothing."""
    if isinstance(meter, Distinct):
        return SQL("records <> 0")
    # A record that was replaced in a closed hour leaves an amount, and no record more or less.
    return SQL("({} <> 0 OR {} <> 0)").format(SQL(meter.counts), SQL(meter.numerator))


def _check(asked: QueryMeter, meter: Meter) -> None:
    for name, at in (("from_at", asked.from_at), ("to_at", asked.to_at), ("as_of", asked.as_of)):
        if at is not None and at.year not in YEARS:
            raise BadQuery(f"{name} lies outside of the years {YEARS.start} to {YEARS.stop - 1}")
        if at is not None and name != "as_of" and (at - EPOCH) % HOUR:
            raise BadQuery(f"{name} is not a whole hour")
    for what, names in (("group_by", asked.group_by), ("filters", list(asked.filters))):
        if unknown := set(names) - {*meter.keys}:
            known = ", ".join(meter.keys)
            raise BadQuery(f"{what}: {asked.meter} has no {min(unknown)!r:.70}; it has {known}")
    if len(set(asked.group_by)) != len(asked.group_by):
        raise BadQuery("group_by names a key twice")
    if asked.after and len(asked.after) != len(asked.group_by) + bool(asked.window):
        raise BadQuery("after is not a row of this query")


def _closed_hours(found: Sequence[datetime | Sequence[str] | None] | None) -> set[datetime]:
    """Hours of a row: each one, or a list of them in JSON."""
    hours: set[datetime] = set()
    for each in found or ():
        if isinstance(each, datetime):
            hours.add(each)
        elif each is not None:
            hours.update(map(datetime.fromisoformat, each))
    return hours


def _text(text: str) -> str:
    if "\0" in text:
        raise BadQuery("text with a zero byte")
    return text


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as problem:
        raise BadQuery("after has no time where one is due") from problem
    if at.tzinfo is None or at.year not in YEARS:
        raise BadQuery("after has a time without a time zone, or far away")
    return at.astimezone(UTC)


def _all(conditions: Sequence[Composable]) -> Composable:
    return SQL(" AND ").join(conditions)


def _list(parts: Sequence[Composable]) -> Composable:
    return SQL(", ").join(parts)
