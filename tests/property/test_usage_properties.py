"""However a log is cut into batches, the usage is the same, and exact."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from fractions import Fraction
from math import floor

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from contracts.message import LogEntry
from services.metering.domain.usage import (
    Hour,
    SessionFacts,
    Sums,
    ToldBy,
    Usage,
    add,
    moment,
    rollup,
    session_changes,
    whole_wei,
)
from services.metering.entries import read_usage
from tests.property.usage_entries import logs, of_payments, splits

type Session = tuple[ToldBy, SessionFacts, datetime, datetime, int, int, int, bool]
CERTAIN = 2**256 - 1


def usages(batches: Iterable[Sequence[LogEntry]]) -> list[Usage]:
    """What is stored for the batches, read back from its bytes."""
    return [from_json(to_json(read_usage(batch)[1])) for batch in batches]


def hours(told: Iterable[Usage]) -> dict[Hour, Sums]:
    total: dict[Hour, Sums] = {}
    for usage in told:
        for by, sums in rollup(usage).items():
            total[by] = add(total[by], sums) if by in total else sums
    return total


def sessions(told: Iterable[Usage]) -> dict[tuple[str, str], Session]:
    """The sessions table in Python; PostgreSQL's is compared in tests/integration."""
    rows: dict[tuple[str, str], Session] = {}
    for usage in told:
        for key, change in session_changes(usage).items():
            first, last = moment(change.first_at), moment(change.last_at)
            counts = change.payments, change.tickets, change.cost
            new = (change.told_by, change.facts, first, last, *counts, change.closed)
            rows[key] = _merge(rows[key], new) if key in rows else new
    return rows


def _merge(old: Session, new: Session) -> Session:
    told_by, facts = (new if new[0] > old[0] else old)[:2]
    closed = new[7] if new[4] or new[7] else old[7]
    counts = (old[4] + new[4], old[5] + new[5], old[6] + new[6])
    return (told_by, facts, min(old[2], new[2]), max(old[3], new[3]), *counts, closed)


@given(st.data())
def test_any_split_gives_the_same_hours_and_sessions(data: st.DataObject) -> None:
    entries = data.draw(logs())
    batches = data.draw(splits(entries))

    whole, parts = usages([entries] if entries else []), usages(batches)

    assert hours(parts) == hours(whole)
    assert sessions(parts) == sessions(whole)
    assert hours(usages(batches)) == hours(parts)


@given(logs())
def test_sums_are_exact(entries: list[LogEntry]) -> None:
    sums = hours(usages([entries] if entries else [])).items()

    paid = of_payments(entries)
    assert sum(total.payments for _, total in sums) == len(paid)
    assert sum(total.tickets for _, total in sums) == sum(event["tickets"] for event in paid)
    assert sum(total.cost for _, total in sums) == sum(int(event["cost"]) for event in paid)
    assert sum(total.ev_numerator for _, total in sums) == sum(
        event["tickets"] * int(event["face_value"]) * int(event["win_prob"], 16) for event in paid
    )
    assert sum(Fraction(total.fee_numerator, by.fee_denominator) for by, total in sums) == sum(
        Fraction(event["units"] * event["price_per_unit"], event["pixels_per_unit"]) for event in paid
    )
    assert sum(total.units for _, total in sums) == sum(event["units"] for event in paid)
    assert sum(total.sessions for _, total in sums) == sum("orchestrator" in entry.event for entry in entries)


@given(logs())
def test_an_hour_holds_its_own_payments_only(entries: list[LogEntry]) -> None:
    told = hours(usages([entries] if entries else []))

    by_hour = {floor(entry.at.timestamp()) // 3600 for entry in entries if "tickets" in entry.event}
    assert {by.hour for by, sums in told.items() if sums.payments} == by_hour


@given(st.lists(st.tuples(st.integers(0, 2**400), st.integers(1, 2**80)), max_size=20))
def test_floors_are_right(terms: list[tuple[int, int]]) -> None:
    assert whole_wei(terms) == sum((Fraction(*term) for term in terms), Fraction()) // 1


@given(st.lists(st.integers(1, 2**64), min_size=1, max_size=6))
def test_floors_are_right_where_parts_make_a_whole(denominators: list[int]) -> None:
    halves = [(1, denominator) for denominator in denominators]
    others = [(denominator - 1, denominator) for denominator in denominators]

    assert whole_wei([*halves, *others]) == len(denominators)
    assert whole_wei([*halves, *others[:-1]]) == (
        sum((Fraction(*term) for term in [*halves, *others[:-1]]), Fraction()) // 1
    )
