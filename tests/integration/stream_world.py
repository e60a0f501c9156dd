"""Metering as a process, with stand-ins for whose logs it follows, on real PostgreSQL and NATS."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contracts.metered_streams import (
    ListMeteredStreams,
    MeteredStream,
    MeteredStreamPage,
    MeteredStreamView,
    ReadMeteredStream,
)
from contracts.streams import stream_of
from contracts.webhooks_in import DeliveriesRecorded, Delivery, RecordDeliveries
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask, connect
from tests import infra
from tests.integration.publisher_stand_in import FakePublisher
from tests.integration.service_process import bus_user, wait_until_ready
from tilt.slot import Slot

STREAM_USERS = (bus_user("metering"), bus_user("edge"), bus_user("quota"), bus_user("signer"))
NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)
SECONDS = 30


@dataclass
class World:
    edge: Client
    quota: FakePublisher
    signer: FakePublisher
    dsn: str
    environment: Mapping[str, str]
    port: int
    directory: Path

    @asynccontextmanager
    async def metering(self, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run metering so that a test can have it killed at a step."""
        log = self.directory / "metering.log"
        module = ("tests.faults.kills.stepped", "services.metering.app")
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *module,
                env={**self.environment, **settings},
                stdout=output,
                stderr=output,
            )
        try:
            async with asyncio.timeout(SECONDS):
                await wait_until_ready(self.port, process, log)
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait_for(process.wait(), 15)

    def die(self, when: str) -> None:
        (self.directory / "kill").write_text(f"1 {when}")

    async def record(self, *deliveries: Delivery) -> tuple[int, int]:
        """How many were recorded, and how many had come before."""
        answer = await ask(
            self.edge, RecordDeliveries(deliveries=list(deliveries)), DeliveriesRecorded, timeout=4
        )
        return answer.recorded, answer.repeated

    async def read(self, stream_id: str = "stream-1") -> MeteredStreamView:
        asked = ReadMeteredStream(account_id="acme", stream_id=stream_id)
        return await ask(self.edge, asked, MeteredStreamView)

    async def listed(self, **asked: Any) -> list[MeteredStream]:
        command = ListMeteredStreams(account_id="acme", **asked)
        return (await ask(self.edge, command, MeteredStreamPage)).streams

    async def until(self, check: Callable[[MeteredStreamView], bool]) -> MeteredStreamView:
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(CommandRefusedError, ServiceUnavailableError):
                    if check(view := await self.read()):
                        return view
                await asyncio.sleep(0.05)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement.encode())

    def hours(self) -> list[tuple[object, ...]]:
        query = "SELECT user_id, app, hour AT TIME ZONE 'UTC', ms FROM metering.stream_hourly WHERE ms <> 0"
        return sorted(self.rows(query), key=str)

    async def replay(self, *options: str) -> list[str]:
        """Names the tables that differ."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.metering.replay",
            *options,
            env={"PATH": os.environ["PATH"], "METERING_POSTGRES_DSN": self.dsn},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return list(json.loads(out.splitlines()[-1])["differing"])


@asynccontextmanager
async def stream_world(
    database: infra.Database, nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        admin = await connect("admin", nats.url())
        stack.push_async_callback(admin.close)
        for publisher in ("quota", "metering", "signer"):
            with suppress(NotFoundError):
                await admin.jetstream().delete_stream(stream_of(publisher))
        settings = ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2)
        await bus.ensure(admin, settings)
        edge, quota = await connect("edge", nats.url("edge")), await connect("quota", nats.url("quota"))
        signer = await connect("signer", nats.url("signer"))
        for client in (edge, quota, signer):
            stack.push_async_callback(client.close)
        publisher_of_streams = FakePublisher(quota, "quota")
        await publisher_of_streams.serve()
        signers_log = FakePublisher(signer, "signer")
        await signers_log.serve()
        dsn, port = database.dsn("metering"), slot.port("metering")
        environment = {
            "PATH": os.environ["PATH"],
            "KILL_FILE": str(directory / "kill"),
            "KILL_STEPS": "deliveries",
            "METERING_POSTGRES_DSN": dsn,
            "METERING_NATS_URL": nats.url("metering"),
            "METERING_HTTP_PORT": str(port),
            "METERING_CREATE_TABLES": "true",
        }
        yield World(edge, publisher_of_streams, signers_log, dsn, environment, port, directory)


def delivery(event: str, at: timedelta = timedelta(), **told: Any) -> Delivery:
    moment = NOON_MS + at // timedelta(milliseconds=1)
    content = {
        "account_id": "acme",
        "hook_id": "h00kIdOf12Lt",
        "webhook_id": "webhook-1",
        "event_id": f"{event}-{moment}",
        "event": f"stream.{event}",
        "stream_id": "stream-1",
        "created_at_ms": moment,
        "attempt_at_ms": moment + 300,
        "received_at": NOON + at + timedelta(milliseconds=700),
        "body": '{"a": "body"}',
    }
    return Delivery.model_validate({**content, **told})


STARTED, IDLE = delivery("started", timedelta(minutes=-1)), delivery("idle", timedelta(minutes=2))
