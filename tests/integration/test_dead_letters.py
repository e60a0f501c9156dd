"""Poison in a real log: buried alone with its reason, listed, and redriven by the release that can read it.

Two replicas of metering and an edge as processes, on real NATS and PostgreSQL; the signer's log is the
test's. The older release refuses names of apps that the newer one takes.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import psycopg
import pytest
from typer.testing import CliRunner

from contracts.metering import QueryUsage, UsagePage
from contracts.signer import PaymentSigned
from services.cli.app import app
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import ask, connect
from tests import infra
from tests.integration.edge_world import World as EdgeWorld
from tests.integration.edge_world import running_edge
from tests.integration.metering_world import paid, payment
from tests.integration.publisher_stand_in import FakePublisher
from tests.integration.service_process import bus_user, service
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = tuple(bus_user(name) for name in ("metering", "signer", "accounts", "edge", "cli"))
READER = "metering-record-usage"
LONGER_NAMES = "import runpy; from services.metering import entries; entries.TEXT_BYTES = 1000; "
NEWER = ("-c", LONGER_NAMES + "runpy.run_module('services.metering.app', run_name='__main__')")
SECONDS = 90


@dataclass
class World:
    edge: EdgeWorld
    signer: FakePublisher
    nats: infra.Nats
    slot: Slot
    dsn: str
    directory: Path

    @asynccontextmanager
    async def metering(self, *program: str) -> AsyncIterator[None]:
        """Two replicas of a release."""
        settings = {
            "POSTGRES_DSN": self.dsn,
            "NATS_URL": self.nats.url("metering"),
            "CREATE_TABLES": "true",
        }
        async with AsyncExitStack() as stack:
            for name in ("metering", "metering-2"):
                log = self.directory / f"{name}.log"
                running = service("metering", self.slot.port(name), settings, log, program=program)
                await stack.enter_async_context(running)
            yield

    async def tell(self, *events: PaymentSigned) -> None:
        """Publish them, and wait until metering has gone past them."""
        await self.signer.publish(self.signer.append(*events))
        async with asyncio.timeout(SECONDS):
            while self.position() != self.signer.entries[-1].position:
                await asyncio.sleep(0.05)

    def position(self) -> object:
        with suppress(psycopg.errors.UndefinedTable), psycopg.connect(self.dsn) as connection:
            query = "SELECT position FROM metering.positions WHERE reader = %s"
            for row in connection.execute(query, (READER,)).fetchall():
                return row[0]
        return None

    async def totals(self) -> tuple[int, int, int]:
        page = await ask(self.signer._client, QueryUsage(), UsagePage)  # noqa: SLF001
        return page.rows[0].payments, page.rows[0].tickets, page.rows[0].cost_wei

    async def cli(self, *words: str, status: int = 0) -> list[dict[str, Any]]:
        settings = {"CLEARINGHOUSE_NATS_URL": self.nats.url("cli")}
        words = ("dead-letters", *words, "--json")
        result = await asyncio.to_thread(
            CliRunner().invoke, app, list(words), env=settings, catch_exceptions=False
        )
        assert result.exit_code == status, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    async def waiting(self, replica: str) -> str:
        """What the gauge says."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{self.slot.port(replica)}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        name = f'clearinghouse_dead_letters_waiting{{reader="{READER}"}} '
        return next((line.removeprefix(name) for line in lines if line.startswith(name)), "")

    async def replay_differs(self) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.metering.replay", "--verify",
            env={"PATH": os.environ["PATH"], "METERING_POSTGRES_DSN": self.dsn},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        return list(json.loads(out.splitlines()[-1])["differing"])


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        admin = await connect("admin", nats.url())
        stack.push_async_callback(admin.close)
        for stream in await admin.jetstream().streams_info():
            await admin.jetstream().delete_stream(str(stream.config.name))
        await bus.ensure(admin, ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2))
        made = database("accounts", "metering")
        edge = await stack.enter_async_context(running_edge(nats, made.dsn("accounts"), slot, directory))
        for name in ("metering", "signer", "quota"):
            await edge.stand_ins.leave(name)
        signer = FakePublisher(admin, "signer")
        await signer.serve()
        await FakePublisher(admin, "quota").serve()
        yield World(edge, signer, nats, slot, made.dsn("metering"), directory)


def poison(random: Random) -> PaymentSigned:
    return payment(1, random).model_copy(update={"app": "a" * 700})


def total(payments: list[PaymentSigned]) -> tuple[int, int, int]:
    return len(payments), sum(each.tickets for each in payments), sum(each.cost for each in payments)


async def test_poison_waits_for_the_release_that_reads_it_and_then_counts_once(world: World) -> None:
    random = Random(5)
    async with world.metering():
        await world.tell(*(payment(number % 3, random) for number in range(40)), poison(random))
        await world.tell(
            poison(random), *(payment(number % 3, random) for number in range(40)), poison(random)
        )
        good = [each for each in paid(world.signer.entries) if len(each.app) < 100]

        assert await world.totals() == total(good)
        listed = await world.cli("list", "--service", "metering")
        assert [letter["reader"] for letter in listed] == [READER] * 3
        assert all("text: 'aaa" in letter["reason"] for letter in listed)
        async with asyncio.timeout(SECONDS):
            while {await world.waiting("metering"), await world.waiting("metering-2")} != {"3.0"}:
                await asyncio.sleep(0.2)
        [stays] = await world.cli("redrive", listed[0]["letter_id"], status=1)
        assert (stays["state"], stays["tries"]) == ("waiting", 2)
        assert await world.totals() == total(good)

    async with world.metering(*NEWER):
        path = f"/v1/dead-letters/{listed[0]['letter_id']}"
        body = {"reason": "newer_release"}
        both = await asyncio.gather(*(world.edge.manage("POST", f"{path}/redrive", body) for _ in range(4)))
        redriven = await world.cli("redrive", "--reader", READER, "--actor", "on-call", "--reason", "mended")

        assert [answer.status for answer in both] == [200] * 4
        assert {answer.json["state"] for answer in both} == {"applied"}
        assert {answer.json["settled_why"] for answer in both} == {"newer_release"}
        assert [(each["state"], each["settled_by"]) for each in redriven] == [("applied", "on-call")] * 2
        assert await world.totals() == total(paid(world.signer.entries))
        await world.tell(payment(1, random))
        assert await world.totals() == total(paid(world.signer.entries))
        assert await world.cli("list", "--service", "metering") == []
        [shown] = await world.cli("show", listed[0]["letter_id"])
        assert json.loads(shown["entry"])["event"]["app"] == "a" * 700
    assert await world.replay_differs() == []


async def test_letters_are_listed_and_read_over_http_by_administrators_only(world: World) -> None:
    random = Random(6)
    async with world.metering():
        await world.tell(*(poison(random) for _ in range(3)))
        key = (await world.edge.new_key("acme"))["api_key"]

        first = await world.edge.manage("GET", "/v1/dead-letters?service=metering&limit=2")
        rest = await world.edge.manage(
            "GET", f"/v1/dead-letters?service=metering&limit=2&cursor={first.json['next']}"
        )
        letter_id = first.json["letters"][0]["letter_id"]
        one = await world.edge.manage("GET", f"/v1/dead-letters/{letter_id}")
        denied = await world.edge.call("GET", "/v1/dead-letters", key=key)
        missing = await world.edge.manage("GET", f"/v1/dead-letters/{READER}:1:999999")
        nobodys = await world.edge.manage("GET", "/v1/dead-letters/nobodys-reader:1:3")
        no_id = await world.edge.manage("POST", "/v1/dead-letters/what/redrive", {"reason": "mended"})
        no_cursor = await world.edge.manage("GET", "/v1/dead-letters?cursor=WyJ3aGF0Il0")

    found = [letter["position"] for page in (first, rest) for letter in page.json["letters"]]
    assert found == [each.position for each in world.signer.entries]
    assert rest.json["next"] is None
    assert one.json["entry"].startswith('{"epoch":1')
    assert first.json["letters"][0]["entry"] is None
    assert [answer.status for answer in (denied, missing, nobodys, no_id, no_cursor)] == [
        403, 404, 404, 422, 422,
    ]  # fmt: skip
