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

from contracts.message import CHECKSUM_HEADER, LogEntry, checksum
from contracts.streams import stream_of
from shared import logging, telemetry
from shared.bus import connect as connect_bus
from shared.bus import make_broker
from shared.history import Incarnation
from shared.log import PAGE, Outbox, PublicLog
from shared.service import serve, store_answers
from shared.settings import StoreSettings
from shared.store import EventSourced, NamedLog, postgres_env
from shared.stream_tail import StreamTail

log = structlog.get_logger()

POLL_SECONDS = 0.05  # while entries come; longer saves work, pages are then fuller
IDLE_POLL_SECONDS = 0.1
RETRY_SECONDS = 0.1  # nobody may write on a server that was restarted until the relay has looked at it
LOCK_POLL_SECONDS = 0.5
ACK_TIMEOUT_SECONDS = 5

type Lock = Connection[tuple[object, ...]]

# Stores once what these entries of a lost history say, however often it is told.
type Recover = Callable[[Sequence[LogEntry]], None]


class LogMovedError(Exception):
    """The log is not where we left it: it was restored under us, or began a new epoch."""


class Relay:
    def __init__(
        self,
        service: str,
        dsn: str,
        public_log: PublicLog,
        client: Client,
        *,
        recover: Recover | None = None,
        standby_is_synchronous: bool = False,
    ) -> None:
        self._service = service
        self._recover = recover
        self._standby_is_synchronous = standby_is_synchronous
        self._tail = StreamTail(service, client, public_log)
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
            except LogMovedError as problem:
                log.warning("relay_begins_anew", problem=str(problem))
            except (PostgresError, PersistenceError, NatsError, TimeoutError) as problem:
                log.warning("relay_waits", problem=f"{type(problem).__name__}: {problem}")
                await asyncio.sleep(RETRY_SECONDS)

    async def _lead(self) -> None:
        """Publish while this process holds the relay's advisory lock."""
        with await asyncio.to_thread(_open, self._dsn, self._service) as connection:
            while not await asyncio.to_thread(_try_lock, connection, self._service):
                await asyncio.sleep(LOCK_POLL_SECONDS)
            await self._check_history()
            await self._recover_lost()
            epoch, position = await asyncio.to_thread(self._log.marks)
            log.info("relay_leads", epoch=epoch, position=position)
            relayed = position
            while True:
                entries = await asyncio.to_thread(self._read, connection, (epoch, relayed), position)
                relayed = position
                if entries:
                    await self._publish(entries)
                    position = entries[-1]["position"]
                full = len(entries) == PAGE
                await asyncio.sleep(0 if full else POLL_SECONDS if entries else IDLE_POLL_SECONDS)

    async def _check_history(self) -> None:
        """Let writers write on this server, in a new epoch if it may have lost committed entries."""
        history = self._log.history
        incarnation = await asyncio.to_thread(history.incarnation)
        lost = await self._tail.last_lost()
        reason = await asyncio.to_thread(self._why_new_epoch, incarnation, lost)
        if reason is None and incarnation.checked == incarnation.current:
            return
        last = (lost.epoch, lost.position) if lost is not None else None
        await asyncio.to_thread(history.sign, incarnation, reason, last)
        log.info("server_checked", log=self._service, reason=reason)

    def _why_new_epoch(self, incarnation: Incarnation, lost: LogEntry | None) -> str | None:
        if lost is not None and not self._is_known_lost(lost):
            return "the stream is ahead of the log"
        if incarnation.promoted and self._standby_is_synchronous:
            return None
        return "the database moved" if incarnation.moved else None

    def _is_known_lost(self, entry: LogEntry) -> bool:
        return any(
            epoch.lost_epoch == entry.epoch and (epoch.lost_position or 0) >= entry.position
            for epoch in self._log.history.epochs()
        )

    async def _recover_lost(self) -> None:
        """Store what the stream still has of what the log lost; again, if that was interrupted."""
        history = self._log.history
        pending = [epoch for epoch in await asyncio.to_thread(history.epochs) if epoch.recovered_at is None]
        if not pending:
            return
        if self._recover is not None:
            async for entries in self._tail.lost(min(epoch.relayed for epoch in pending)):
                await asyncio.to_thread(self._recover, entries)
        await asyncio.to_thread(history.note_recovered, pending)

    def _read(self, connection: Lock, expected: tuple[int, int], position: int) -> list[dict[str, Any]]:
        """The next entries; raises if the connection that holds the lock is gone, or the log moved.

        On the way it stores how far we are, so a new leader begins where this one was.
        """
        row = connection.execute("SELECT epoch, relayed FROM log", prepare=True).fetchone()
        if row != expected:
            raise LogMovedError(f"epoch and position were {expected}, now they are {row}")
        if position != expected[1]:
            connection.execute("UPDATE log SET relayed = %s", (position,), prepare=True)
        return self._log.tail(position)

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
    service: str,
    settings: StoreSettings,
    outbox: Callable[[EventSourced], Outbox],
    *,
    recovering: Callable[[EventSourced], Recover],
    standby_is_synchronous: bool,
) -> None:
    """Run a service's relay as a process of its own."""
    logging.configure(service, settings.log_level)
    url, dsn = settings.nats_url.get_secret_value(), settings.postgres_dsn.get_secret_value()
    application = NamedLog(service, postgres_env(dsn, service, create_tables=settings.create_tables))
    public_log = PublicLog(application, outbox(application))
    if settings.create_tables:
        public_log.create_tables()
    client = await connect_bus(service, url)
    relay = Relay(
        service,
        dsn,
        public_log,
        client,
        recover=recovering(application),
        standby_is_synchronous=standby_is_synchronous,
    )
    server = serve(
        brokers=[make_broker(service, url)],
        client=client,
        host=settings.http_host,
        port=settings.http_port,
        tasks=[relay.run],
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
