"""Discovery as a process, and what an edge then knows; the signer that it asks is a stand-in."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.discovery import ORCHESTRATORS
from contracts.signer import OrchestratorInfoSigned, SignOrchestratorInfo
from services.edge.discovery import ObservedOrchestrators, OrchestratorsUnknownError
from shared.bucket import BucketReader
from shared.bus import connect
from tests import infra
from tests.integration.orchestrators import (
    StandIn,
)
from tests.integration.service_process import bus_user, provision_discovery, service
from tilt.slot import Slot

DISCOVERY_USERS = (bus_user("discovery"), bus_user("accounts"), bus_user("edge"))
SIGNED = OrchestratorInfoSigned(address="0x" + "Ab" * 20, signature="0x" + "cd" * 65)
PATIENCE_SECONDS = 60
# Long enough for a machine under load, and those who never answer are left waiting all of it.
SECONDS = {"POLL_SECONDS": "0.3", "SWEEP_SECONDS": "8", "ANSWER_SECONDS": "5"}


@dataclass
class World:
    nats: infra.Nats
    admin: Client
    seen: ObservedOrchestrators  # as the edge sees it
    port: int
    directory: Path

    @asynccontextmanager
    async def discovery(self, *urls: str, **settings: str) -> AsyncIterator[None]:
        """The process, once it is ready: with a snapshot."""
        told = {
            "NATS_URL": self.nats.url("discovery"),
            "ORCHESTRATORS": ",".join(urls),
            "ALLOW_PRIVATE_ADDRESSES": "true",
            "LOG_LEVEL": "debug",
            **SECONDS,
            **settings,
        }
        async with service("discovery", self.port, told, self.log_path, ready_seconds=PATIENCE_SECONDS):
            yield

    @asynccontextmanager
    async def unready_discovery(self, *urls: str, **settings: str) -> AsyncIterator[None]:
        """The process, which never gets ready."""

        async def run() -> None:
            async with self.discovery(*urls, **settings):
                pytest.fail("it is ready")

        running = asyncio.create_task(run())
        yield
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    @property
    def log_path(self) -> Path:
        return self.directory / "discovery.log"

    def logged(self, event: str) -> list[dict[str, Any]]:
        if not self.log_path.exists():
            return []
        lines = [json.loads(line) for line in self.log_path.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    def listed(self, *capabilities: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads(self.seen.find(capabilities))
        except OrchestratorsUnknownError:
            return []
        return found

    def addresses(self, *capabilities: str) -> list[str]:
        return [one["address"] for one in self.listed(*capabilities)]

    async def until_listed(self, *stand_ins: StandIn) -> None:
        expected = [stand_in.url for stand_in in stand_ins]
        await until(lambda: self.addresses() == expected, lambda: f"{self.addresses()} != {expected}")


async def until(condition: Callable[[], bool], what: Callable[[], str] = lambda: "") -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(what())


@asynccontextmanager
async def discovery_world(nats: infra.Nats, slot: Slot, directory: Path) -> AsyncIterator[World]:
    admin = await connect("admin", nats.url())
    await provision_discovery(admin)

    async def sign(message: Msg) -> None:
        await message.respond(SIGNED.model_dump_json().encode())

    signer = await admin.subscribe(SignOrchestratorInfo.subject, cb=sign)
    reader = BucketReader(admin, ORCHESTRATORS)
    reading = asyncio.create_task(reader.run())
    world = World(nats, admin, ObservedOrchestrators(reader), slot.port("discovery"), directory)
    yield world
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await signer.unsubscribe()
    await admin.close()
    assert not world.logged("orchestrator_not_understood")
