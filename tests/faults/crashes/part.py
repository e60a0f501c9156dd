"""Crash points in one process: `python -m tests.faults crashes --amount 10000 --seed 1`.

The real applications, handlers, inboxes and relays of signer, quota, metering, accounts and deposit
watcher on one real PostgreSQL. A seeded scheduler is their bus and their clients; it lets a process
die at each named point, or cuts its connection before a statement or after a commit, and builds it
anew from the store.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import psycopg
import pytest
import structlog

from shared import inbox
from tests import infra
from tests.faults.crashes.books import Books
from tests.faults.crashes.points import Crash
from tests.faults.crashes.scheduler import SERVICES, Scheduler
from tests.faults.crashes.store import let_go
from tests.faults.part import Findings
from tests.infra import Database

UNIT = "crash points"
AMOUNT = 10_000
CHUNK = 400  # crash points of one world; then everything is delivered, closed and compared

ROLES = tuple(kind.name for kind in SERVICES)


def run(seed: int, amount: int) -> Iterator[Findings]:
    """Try so many crash points, in worlds of some hundred; everything of the world is checked."""
    with infra.own_slot() as slot, infra.run_postgres(slot) as postgres:
        yield from run_on(postgres, seed, amount)


def run_on(postgres: infra.Postgres, seed: int, amount: int) -> Iterator[Findings]:
    tried = number = 0
    while tried < amount:
        with postgres.database(*ROLES) as database, without_pauses(), quietly():
            hurry(database)
            findings = asyncio.run(
                one_world(database, Random(f"{seed} {number}"), min(CHUNK, amount - tried))
            )
            let_go(database)
        tried, number = tried + findings.tried, number + 1
        yield findings


async def one_world(database: Database, random: Random, amount: int) -> Findings:
    """A world from its beginning to its end."""
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: _note(context, problems))
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        books = Books(database.dsn(), connection)
        scheduler = Scheduler(database, random, books)
        await scheduler.begin()
        while scheduler.tried.total() < amount and not books.violations:
            await scheduler.step()
        await scheduler.drain()
        await scheduler.end()
    counted = scheduler.counted + scheduler.edge.counted + books.counted + scheduler.tried
    return Findings(scheduler.tried.total(), Counter(counted), [*books.violations, *problems])


def _note(context: dict[str, Any], problems: list[str]) -> None:
    """Tasks of a process that died end with it; nothing else may end unheard."""
    if not isinstance(context.get("exception"), Crash):
        problems.append(f"{context.get('message')}: {context.get('exception')!r}")


def hurry(database: Database) -> None:
    """The server does not die here, so commits need not wait for its disk."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"ALTER ROLE {role} SET synchronous_commit = off".encode())


@contextmanager
def without_pauses() -> Iterator[None]:
    """Time is the scheduler's: who would wait before another try, tries at once."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inbox, "RETRY_SECONDS", (0.0,))
        patched.setattr("eventsourcing.utils.sleep", lambda _: None)
        yield


@contextmanager
def quietly() -> Iterator[None]:
    """Services complain of each cut connection; here that is their daily bread."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
