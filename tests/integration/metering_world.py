"""Metering as a process behind a signer's log, on real PostgreSQL and NATS."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psycopg
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contracts.message import LogEntry
from contracts.metering import QueryUsage, UsagePage
from contracts.signer import PaymentSigned, SessionOpened
from contracts.streams import stream_of
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import ask, connect
from tests import infra
from tests.integration.publisher_stand_in import FakePublisher
from tests.integration.service_process import bus_user, service
from tilt.slot import Slot

METERING_USERS = (bus_user("metering"), bus_user("signer"), bus_user("edge"))
CERTAIN = 2**256 - 1


@dataclass
class World:
    signer: FakePublisher
    edge: Client
    admin: Client
    dsn: str
    settings: ProvisionerSettings
    start: Callable[[], Awaitable[int]]
    kill: Callable[[], Awaitable[None]]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    async def applied(self) -> None:
        """Wait until metering has applied the whole log."""
        async with asyncio.timeout(30):
            while self._position() != self.signer.entries[-1].position:
                await asyncio.sleep(0.02)

    def _position(self) -> object:
        with suppress(psycopg.errors.UndefinedTable):
            for row in self.rows(
                "SELECT position FROM metering.positions WHERE reader = 'metering-record-usage'"
            ):
                return row[0]
        return None

    async def usage(self, query: QueryUsage) -> UsagePage:
        return await ask(self.edge, query, UsagePage)

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
        differing = list(json.loads(out.splitlines()[-1])["differing"])
        assert process.returncode == (1 if differing else 0)
        return differing


@asynccontextmanager
async def metering_world(dsn: str, nats: infra.Nats, slot: Slot, directory: Path) -> AsyncIterator[World]:
    admin = await connect("admin", nats.url())
    for publisher in ("signer", "metering"):
        with suppress(NotFoundError):
            await admin.jetstream().delete_stream(stream_of(publisher))
    provisioning = ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2)
    await bus.ensure(admin, provisioning)
    signer_client, edge = await connect("signer", nats.url("signer")), await connect("edge", nats.url("edge"))
    signer = FakePublisher(signer_client, "signer")
    await signer.serve()
    settings = {"POSTGRES_DSN": dsn, "NATS_URL": nats.url("metering"), "CREATE_TABLES": "true"}
    running: list[tuple[object, int]] = []

    async def start() -> int:
        context = service("metering", slot.port("metering"), settings, directory / "metering.log")
        pid = await context.__aenter__()
        running.append((context, pid))
        return pid

    async def kill() -> None:
        context, pid = running.pop()
        os.kill(pid, signal.SIGKILL)
        await context.__aexit__(None, None, None)  # type: ignore[attr-defined]

    await start()
    yield World(signer, edge, admin, dsn, provisioning, start, kill)
    for context, _ in running:
        await context.__aexit__(None, None, None)  # type: ignore[attr-defined]
    for client in (signer_client, edge, admin):
        await client.close()


def opening(session: int, *, account: str = "acme") -> SessionOpened:
    return SessionOpened(
        account_id=account,
        session_id=f"{session:032x}",
        user_id="ann" if session % 2 else None,
        key_id="key",
        stream_id=f"stream-{session}",
        app="daydream",
        job_type="lv2v",
        orchestrator="0xo",
    )


def payment(session: int, random: Random, *, account: str = "acme") -> PaymentSigned:
    return PaymentSigned(
        account_id=account,
        session_id=f"{session:032x}",
        user_id="ann" if session % 2 else None,
        app="daydream",
        job_type="lv2v",
        recipient=f"0x{session % 3:040x}",
        payer="0xp",
        tickets=random.randint(1, 5),
        cost=random.randrange(10**19),
        face_value=random.randrange(10**18),
        win_prob=hex(random.randrange(CERTAIN)),
        units=random.randrange(10**9),
        price_per_unit=random.randrange(1, 10**6),
        pixels_per_unit=random.choice([1, 3, 7, 10**6]),
        creation_round=9,
    )


def paid(entries: Sequence[LogEntry]) -> list[PaymentSigned]:
    found = [entry for entry in entries if entry.subject == PaymentSigned.subject]
    return [PaymentSigned.model_validate(entry.event) for entry in found]
