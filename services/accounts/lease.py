"""One process at a time serves accounts: the bucket has one writer.

A second process waits for the lease, so a new release may start beside the old one.
"""

import asyncio

import structlog
from psycopg import Connection, connect
from psycopg import Error as PostgresError

log = structlog.get_logger()

RETRY_SECONDS = 0.5
CHECK_SECONDS = 1.0


class LeaseLostError(Exception):
    """Another process took over while our connection was gone."""


class Lease:
    """An advisory lock of PostgreSQL, held by a connection of its own."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._connection: Connection[tuple[object, ...]] | None = None

    async def take(self) -> None:
        while not await asyncio.to_thread(self._try_take):
            log.info("lease_waits", lease=self._name)
            await asyncio.sleep(RETRY_SECONDS)

    async def keep(self) -> None:
        """Hold it for ever; LeaseLostError ends the process."""
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
            self._connection = connect(self._dsn, autocommit=True, connect_timeout=5)
        row = self._connection.execute(
            "SELECT pg_try_advisory_lock(hashtext(%s))", (f"lease of {self._name}",)
        ).fetchone()
        return row is not None and bool(row[0])

    def _still_held(self) -> bool:
        if self._connection is None or self._connection.closed:
            return self._try_take()
        self._connection.execute("SELECT 1")
        return True
