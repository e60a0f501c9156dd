"""Metering's tables on real PostgreSQL: any cut of a log into batches, and a rebuild, give the same."""

from collections.abc import Callable, Iterator, Sequence
from unittest.mock import sentinel

import pytest
from eventsourcing.persistence import IntegrityError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow

from contracts.message import LogEntry
from services.metering.app import CONSUMERS_BY_PUBLISHER, make_tables
from services.metering.application import Metering
from services.metering.entries import PUBLISHER, READS
from services.metering.handlers import recording
from services.metering.outbox import MeteringOutbox
from services.metering.projections import TABLES, usage_tables
from services.metering.replay import replay
from shared.clock import Clock
from shared.inbox import Inbox
from shared.log import PublicLog
from shared.positions import PositionMovedError, Positions
from shared.store import ThinRecorder, postgres_env
from tests import infra
from tests.property.usage_entries import logs, splits

CONSUMER = CONSUMERS_BY_PUBLISHER[PUBLISHER]

type Rows = dict[str, list[DictRow]]


@pytest.fixture
def metering(database: Callable[..., infra.Database]) -> Iterator[Metering]:
    env = postgres_env(database("metering").dsn("metering"), "metering", create_tables=True)
    with Metering(usage_tables("metering"), env) as made:
        make_tables(made, PublicLog(made, MeteringOutbox(made)))
        yield made


def record(metering: Metering, batches: Sequence[Sequence[LogEntry]]) -> Rows:
    """Record the batches into empty tables, and tell what is in them then."""
    _execute(metering, "TRUNCATE metering.metering_events, metering.positions, metering.dead_letters")
    for table in TABLES:
        _execute(metering, f"TRUNCATE metering.{table}")
    apply(metering, batches)
    return rows(metering)


def rows(metering: Metering) -> Rows:
    return {table: sorted(_execute(metering, f"SELECT * FROM metering.{table}"), key=str) for table in TABLES}


def apply(metering: Metering, batches: Sequence[Sequence[LogEntry]]) -> None:
    Positions(metering).get(CONSUMER.durable)
    inbox = Inbox(CONSUMER, sentinel.client, metering, recording(metering, Clock()), READS)
    for batch in batches:
        inbox._apply_batch(batch)  # noqa: SLF001


def _execute(metering: Metering, query: str) -> list[DictRow]:
    assert isinstance(metering.recorder, ThinRecorder)
    with metering.recorder.datastore.get_connection() as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_split_gives_the_same_rows(metering: Metering, data: st.DataObject) -> None:
    entries = data.draw(logs())
    batches = data.draw(splits(entries))

    whole = record(metering, [entries] if entries else [])
    parts = record(metering, batches)

    assert parts == whole


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_rebuild_gives_the_same_rows(metering: Metering, data: st.DataObject) -> None:
    whole = record(metering, data.draw(logs().flatmap(splits)))
    dsn = _dsn(metering)

    assert replay.verify(dsn).differing == {}
    _execute(metering, "DELETE FROM metering.usage_hourly; DELETE FROM metering.sessions")
    if whole["sessions"]:
        assert "sessions" in replay.verify(dsn).differing
    replay.rebuild(dsn)
    assert replay.verify(dsn).differing == {}
    assert rows(metering) == whole


def _dsn(metering: Metering) -> str:
    assert isinstance(metering.recorder, ThinRecorder)
    with metering.recorder.datastore.get_connection() as connection:
        info = connection.info
        return make_conninfo(info.dsn, password=info.password)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=logs().filter(bool))
def test_a_repeat_changes_nothing(metering: Metering, entries: list[LogEntry]) -> None:
    once = record(metering, [entries])

    with pytest.raises(PositionMovedError):
        apply(metering, [entries])

    assert rows(metering) == once


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=logs().filter(bool))
def test_a_stretch_whose_position_was_lost_collides(metering: Metering, entries: list[LogEntry]) -> None:
    once = record(metering, [entries])
    _execute(metering, "TRUNCATE metering.positions")

    with pytest.raises(IntegrityError):
        apply(metering, [entries])

    assert rows(metering) == once
    assert _execute(metering, "SELECT position FROM metering.positions") == [{"position": 0}]
