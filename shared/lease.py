"""One process at a time does what must not be done by two; a second waits for the lease.

A holder that dies loses it with its connection, at once. One that hangs says nothing for a few
seconds, then PostgreSQL ends its session; when it wakes up, it finds the lease lost.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from psycopg import Connection, connect
from psycopg import Error as PostgresError

log = structlog.get_logger()

RETRY_SECONDS = 0.5
CHECK_SECONDS = 1.0
SILENCE_SECONDS = 5  # after which a holder counts as hung; far more than CHECK_SECONDS
SURE_SECONDS = 3.5  # how long after a check nobody else can hold it


class LeaseLostError(Exception):
    """Another process took over while our connection was gone."""


class Lease:
    """An advisory lock of PostgreSQL, held by a connection of its own."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._connection: Connection[tuple[object, ...]] | None = None
        self._checked_at = 0.0
        self.held = False

    @property
    def sure(self) -> bool:
        """Whether it is ours now: false as soon as a process that hung wakes up."""
        return self.held and time.monotonic() - self._checked_at < SURE_SECONDS

    async def take(self) -> None:
        """Return once it is ours; a store that is away is waited for."""
        log.info("lease_waits", lease=self._name)
        while True:
            try:
                if await asyncio.to_thread(self._try_take):
                    self.held = True
                    log.info("lease_taken", lease=self._name)
                    return
            except PostgresError as problem:
                log.warning("lease_waits", lease=self._name, problem=repr(problem))
            await asyncio.sleep(RETRY_SECONDS)

    async def keep(self) -> None:
        """Hold it for ever; LeaseLostError should end the process."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                held = await asyncio.to_thread(self._still_held)
            except PostgresError as problem:
                log.warning("lease_unsure", lease=self._name, problem=repr(problem))
            else:
                if not held:
                    raise LeaseLostError(self._name)

    def release(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _try_take(self) -> bool:
        asked_at = time.monotonic()
        if self._connection is None or self._connection.closed:
            options = f"-c idle_session_timeout={SILENCE_SECONDS}s -c statement_timeout={SILENCE_SECONDS}s"
            self._connection = connect(self._dsn, autocommit=True, connect_timeout=5, options=options)
        query = "SELECT pg_try_advisory_lock(hashtext(%s))"
        row = self._connection.execute(query, (f"lease of {self._name}",)).fetchone()
        taken = row is not None and bool(row[0])
        if taken:
            self._checked_at = asked_at
        return taken

    def _still_held(self) -> bool:
        if self._connection is None or self._connection.closed:
            return self._try_take()
        asked_at = time.monotonic()
        self._connection.execute("SELECT 1")
        self._checked_at = asked_at
        return True


async def lead(lease: Lease, *tasks: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do what one process does for all, whenever the lease is ours; without it stop, and wait."""
    while True:
        await lease.take()
        try:
            async with asyncio.TaskGroup() as group:
                for task in (lease.keep, *tasks):
                    group.create_task(task())
        except* LeaseLostError as lost:
            log.warning("lease_lost", lease=str(lost.exceptions[0]))
