"""Publishes a service's log on its stream, in order, one relay at a time.

Publishing twice does no harm (message ids and the position chain see it); a wiped bus does none
either: readers fill what they miss from the log.
"""

import asyncio
from collections.abc import Awaitable

import structlog
from eventsourcing.persistence import PersistenceError
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import PubAck
from psycopg import Connection, connect
from psycopg import Error as PostgresError

from contracts.message import LogPage, ReadLog
from contracts.streams import stream_of
from shared import telemetry
from shared.log import PAGE, PublicLog

log = structlog.get_logger()

POLL_SECONDS = 0.02
IDLE_POLL_SECONDS = 0.1
RETRY_SECONDS = 0.5
ACK_TIMEOUT_SECONDS = 5


class Relay:
    def __init__(self, service: str, dsn: str, public_log: PublicLog, client: Client) -> None:
        self._service = service
        self._stream = stream_of(service)
        self._dsn = dsn
        self._log = public_log
        self._client = client
        self._jetstream = client.jetstream(publish_async_max_pending=2 * PAGE)

    async def run(self) -> None:
        """Relay for ever; a broken world is waited for."""
        while True:
            try:
                await self._lead()
            except (PostgresError, PersistenceError, NatsError, TimeoutError) as problem:
                log.warning("relay_waits", problem=f"{type(problem).__name__}: {problem}")
                await asyncio.sleep(RETRY_SECONDS)

    async def _lead(self) -> None:
        """Publish while this process holds the relay's advisory lock."""
        with await asyncio.to_thread(_open, self._dsn) as connection:
            while not await asyncio.to_thread(_try_lock, connection, self._service):
                await asyncio.sleep(RETRY_SECONDS)
            _, position = await asyncio.to_thread(self._log.marks)
            log.info("relay_leads", position=position)
            while True:
                await asyncio.to_thread(_still_open, connection)
                page = await asyncio.to_thread(self._log.read, ReadLog(after=position, limit=PAGE))
                if page.entries:
                    position = await self._publish(page)
                full = len(page.entries) == PAGE
                await asyncio.sleep(0 if full else POLL_SECONDS if page.entries else IDLE_POLL_SECONDS)

    async def _publish(self, page: LogPage) -> int:
        """Publish all, then wait for all acknowledgements, then remember how far we are."""
        acks: list[Awaitable[PubAck]] = []
        for entry in page.entries:
            identity = f"{self._service}:{entry.epoch}:{entry.position}"
            acks.append(
                await self._jetstream.publish_async(
                    entry.subject,
                    entry.model_dump_json().encode(),
                    stream=self._stream,
                    headers={"Nats-Msg-Id": identity},
                )
            )
        async with asyncio.timeout(ACK_TIMEOUT_SECONDS):
            await asyncio.gather(*acks)
        position = page.entries[-1].position
        await asyncio.to_thread(self._log.mark_relayed, position)
        telemetry.relayed_total.inc(len(page.entries))
        telemetry.relay_position.set(position)
        return position


def _open(dsn: str) -> Connection[tuple[object, ...]]:
    return connect(dsn, autocommit=True, connect_timeout=5)


def _try_lock(connection: Connection[tuple[object, ...]], service: str) -> bool:
    query = "SELECT pg_try_advisory_lock(hashtext(%s))"
    row = connection.execute(query, (f"relay of {service}",)).fetchone()
    return row is not None and bool(row[0])


def _still_open(connection: Connection[tuple[object, ...]]) -> None:
    """Raise if the connection that holds the lock is gone."""
    connection.execute("SELECT 1")
