"""One process at a time does what must not be done by two; a second waits for the lease.

A holder that dies loses it with its connection, at once. One that hangs says nothing for a few
seconds, then PostgreSQL ends its session; when it wakes up, it finds the lease lost.
"""

import asyncio

import structlog
from psycopg import Connection, connect
from psycopg import Error as PostgresError

log = structlog.get_logger()

RETRY_SECONDS = 0.5
CHECK_SECONDS = 1.0
SILENCE_SECONDS = 5  # after which a holder counts as hung; far more than CHECK_SECONDS


class LeaseLostError(Exception):
    """Another process took over while our connection was gone."""


class Lease:
    """An advisory lock of PostgreSQL, held by a connection of its own."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._connection: Connection[tuple[object, ...]] | None = None
        self.held = False

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
        if self._connection is None or self._connection.closed:
            options = f"-c idle_session_timeout={SILENCE_SECONDS}s -c statement_timeout={SILENCE_SECONDS}s"
            self._connection = connect(self._dsn, autocommit=True, connect_timeout=5, options=options)
        query = "SELECT pg_try_advisory_lock(hashtext(%s))"
        row = self._connection.execute(query, (f"lease of {self._name}",)).fetchone()
        return row is not None and bool(row[0])

    def _still_held(self) -> bool:
        if self._connection is None or self._connection.closed:
            return self._try_take()
        self._connection.execute("SELECT 1")
        return True
