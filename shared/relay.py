"""Publishes a service's log on its stream, in order, one relay at a time.

Publishing twice does no harm (message ids and the position chain see it); a wiped bus does none
either: readers fill what they miss from the log.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from nats.aio.client import Client
from nats.errors import Error as NatsError
from psycopg import Connection, connect
from psycopg import Error as PostgresError
from pydantic_core import to_json

from contracts.message import CHECKSUM_HEADER, checksum
from contracts.streams import stream_of
from shared import logging, telemetry
from shared.bus import connect as connect_bus
from shared.bus import make_broker
from shared.log import PAGE, Outbox, PublicLog
from shared.service import serve, store_answers
from shared.settings import StoreSettings
from shared.store import EventSourced, NamedLog, postgres_env

log = structlog.get_logger()

POLL_SECONDS = 0.05  # while entries come; longer saves work, pages are then fuller
IDLE_POLL_SECONDS = 0.1
RETRY_SECONDS = 0.5
ACK_TIMEOUT_SECONDS = 5

type Lock = Connection[tuple[object, ...]]


class Relay:
    def __init__(self, service: str, dsn: str, public_log: PublicLog, client: Client) -> None:
        self._service = service
        self._stream = stream_of(service)
        self._dsn = dsn
        self._log = public_log
        self._client = client
        self._jetstream = client.jetstream()

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
        with await asyncio.to_thread(_open, self._dsn, self._service) as connection:
            while not await asyncio.to_thread(_try_lock, connection, self._service):
                await asyncio.sleep(RETRY_SECONDS)
            _, position = await asyncio.to_thread(self._log.marks)
            log.info("relay_leads", position=position)
            while True:
                entries = await asyncio.to_thread(self._read, connection, position)
                if entries:
                    await self._publish(entries)
                    position = entries[-1]["position"]
                full = len(entries) == PAGE
                await asyncio.sleep(0 if full else POLL_SECONDS if entries else IDLE_POLL_SECONDS)

    def _read(self, connection: Lock, position: int) -> list[dict[str, Any]]:
        """The next entries; raises if the connection that holds the lock is gone.

        On the way it stores how far we are, so a new leader begins where this one was.
        """
        query = "UPDATE log SET relayed = %s WHERE relayed <> %s"
        connection.execute(query, (position, position), prepare=True)
        row = connection.execute("SELECT epoch FROM log", prepare=True).fetchone()
        assert row is not None
        return self._log.tail(position, int(str(row[0])))

    async def _publish(self, entries: Sequence[dict[str, Any]]) -> None:
        """Publish all in order; the stream acknowledges the last.

        If one before it was not taken, its successors' `previous_position` tells every reader.
        """
        *first, last = entries
        for entry in first:
            data = to_json(entry)
            await self._client.publish(entry["subject"], data, headers=self._headers(entry, data))
        data = to_json(last)
        await self._jetstream.publish(
            last["subject"],
            data,
            timeout=ACK_TIMEOUT_SECONDS,
            stream=self._stream,
            headers=self._headers(last, data),
        )
        telemetry.relayed_total.inc(len(entries))
        telemetry.relay_position.set(last["position"])

    def _headers(self, entry: dict[str, Any], data: bytes) -> dict[str, str]:
        message_id = f"{self._service}:{entry['epoch']}:{entry['position']}"
        return {"Nats-Msg-Id": message_id, CHECKSUM_HEADER: checksum(data)}


async def serve_relay(
    service: str, settings: StoreSettings, outbox: Callable[[EventSourced], Outbox]
) -> None:
    """Run a service's relay as a process of its own."""
    logging.configure(service, settings.log_level)
    url, dsn = settings.nats_url.get_secret_value(), settings.postgres_dsn.get_secret_value()
    application = NamedLog(service, postgres_env(dsn, service, create_tables=settings.create_tables))
    public_log = PublicLog(application, outbox(application))
    if settings.create_tables:
        public_log.create_tables()
    client = await connect_bus(service, url)
    server = serve(
        brokers=[make_broker(service, url)],
        client=client,
        host=settings.http_host,
        port=settings.http_port,
        tasks=[Relay(service, dsn, public_log, client).run],
        checks=[partial(store_answers, public_log.marks)],
        on_stop=application.close,
    )
    await server.serve()


def _open(dsn: str, schema: str) -> Lock:
    # A leader that hangs loses the lock: PostgreSQL ends a session that says nothing for so long.
    options = f"-c search_path={schema} -c statement_timeout=5s -c idle_session_timeout=5s"
    return connect(dsn, autocommit=True, connect_timeout=5, options=options)


def _try_lock(connection: Lock, service: str) -> bool:
    query = "SELECT pg_try_advisory_lock(hashtext(%s))"
    row = connection.execute(query, (f"relay of {service}",)).fetchone()
    return row is not None and bool(row[0])
