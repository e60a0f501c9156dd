"""Discovery as a process, among orchestrators that behave, or are away."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from contracts.discovery import ORCHESTRATORS
from services.edge.discovery import ObservedOrchestrators
from shared.bucket import BucketReader
from tests import infra
from tests.integration.discovery_world import DISCOVERY_USERS, World, discovery_world, until
from tests.integration.edge_world import running_edge
from tests.integration.orchestrators import (
    LOCALHOST,
    info,
    orchestrator,
    orchestrators,
    runner,
)
from tests.integration.service_process import provision_discovery
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = DISCOVERY_USERS


@pytest.fixture
async def world(nats: infra.Nats, slot: Slot, directory: Path) -> AsyncIterator[World]:
    async with discovery_world(nats, slot, directory) as running:
        yield running


MODEL = "live-video-to-video/echo"


async def test_finds_what_orchestrators_offer_by_grpc_and_by_their_documents(world: World) -> None:
    async with orchestrators(2) as (one, two):
        one.offer(price=7, runner_price=5)
        two.document = None
        async with world.discovery(one.url + "/", two.url):
            await world.until_listed(one, two)

            assert world.listed("demo/echo") == [
                {
                    "address": one.url,
                    "score": 1,
                    "capabilities": ["demo/echo", MODEL],
                    "runners": [runner(one.url, capacity_used=0, capacity_available=0)],
                }
            ]
            assert world.addresses(MODEL) == [one.url, two.url]
            assert world.listed(MODEL)[1] == {"address": two.url, "score": 1, "capabilities": [MODEL]}


async def test_orchestrators_learn_who_would_pay_and_nothing_else(world: World) -> None:
    async with orchestrator() as one, world.discovery(one.url):
        asked = one.asked[0]

    assert (asked.address.hex(), asked.sig.hex()) == ("ab" * 20, "cd" * 65)
    assert asked.ignore_capacity_check
    assert not asked.HasField("capabilities")
    assert one.authorities[0] == one.url.removeprefix("https://")


async def test_an_orchestrator_without_tls_is_asked_without(world: World) -> None:
    async with orchestrator(is_tls=False) as one, world.discovery(one.url):
        assert one.url.startswith("http://")
        await world.until_listed(one)


async def test_a_price_comes_out_with_the_digits_that_came_in(world: World) -> None:
    async with orchestrator() as one:
        one.document = json.dumps([{"address": one.url, "runners": [runner(one.url, price="@")]}]).replace(
            '"@"', "1.0120000000000000000001e+16"
        )
        one.document = one.document.encode()
        async with world.discovery(one.url):
            await world.until_listed(one)

            assert b'"price":1.0120000000000000000001e+16,' in world.seen.find(["demo/echo"])


async def test_prices_above_the_ceilings_are_not_listed(world: World) -> None:
    ceilings = [{"pipeline": "live-video-to-video", "model_id": "fast", "price_per_unit": 3}]
    async with orchestrators(3) as (one, two, three):
        one.info = info(one.url, models={"fast": 4, "slow": 10})
        one.document = None
        two.info = info(two.url, models={"fast": 4, "slow": 11})
        two.document = None
        three.info = info(three.url, models={"fast": 3})
        three.document = [
            {
                "address": three.url,
                "runners": [
                    runner(three.url, name="dear", price=10.0001),
                    runner(three.url, name="fair", price=10),
                    runner(three.url, name="free", price=0),
                ],
            }
        ]
        prices = json.dumps({"capabilities_prices": ceilings})
        async with world.discovery(
            one.url, two.url, three.url, MAX_PRICE_WEI_PER_UNIT="10", MAX_PRICE_PER_CAPABILITY=prices
        ):
            await world.until_listed(one, three)

            assert world.addresses("live-video-to-video/fast") == [three.url]
            assert world.addresses("live-video-to-video/slow") == [one.url]
            [listed] = world.listed("demo/echo")
            assert [one["url"].split("/")[-2] for one in listed["runners"]] == ["fair"]


async def test_who_fails_is_dropped_with_his_runners_and_comes_back(world: World) -> None:
    async with orchestrators(2) as (one, two):
        offered = two.info
        async with world.discovery(one.url, two.url):
            await world.until_listed(one, two)

            two.info = type(offered)()  # its gRPC refuses now; its document still answers
            await world.until_listed(one)

            two.info = offered
            await world.until_listed(one, two)


async def test_when_nobody_answers_any_more_the_last_snapshot_stays(world: World) -> None:
    async with orchestrator() as one, world.discovery(one.url):
        await world.until_listed(one)

        one.info = type(one.info)()
        await until(lambda: bool(world.logged("sweep_found_nobody")))

        assert world.addresses() == [one.url]


async def test_private_addresses_are_refused_unless_a_setting_allows_them(world: World) -> None:
    async with orchestrator() as one:
        urls = (one.url, f"https://localhost:{one.port}")
        async with world.unready_discovery(*urls, ALLOW_PRIVATE_ADDRESSES="false"):
            await until(lambda: len(world.logged("orchestrator_failed")) >= len(urls))

        problems = [line["problem"] for line in world.logged("orchestrator_failed")]
        assert problems[0] == f"{LOCALHOST} is no public address: {LOCALHOST}"
        assert problems[1].startswith("localhost is no public address: ")
        assert one.asked == one.authorities == []


async def test_a_snapshot_survives_that_the_store_is_wiped(world: World) -> None:
    async with orchestrator() as one, world.discovery(one.url, POLL_SECONDS="3600"):
        await world.until_listed(one)

        await provision_discovery(world.admin)
        fresh = BucketReader(world.admin, ORCHESTRATORS)
        reading = asyncio.create_task(fresh.run())
        await until(lambda: fresh.ready)
        reading.cancel()

        assert json.loads(ObservedOrchestrators(fresh).find([]))[0]["address"] == one.url
        assert world.addresses() == [one.url]


async def test_a_new_process_leaves_the_bucket_alone_until_it_has_seen_somebody(world: World) -> None:
    async with orchestrator() as one:
        async with world.discovery(one.url):
            await world.until_listed(one)
        one.info = type(one.info)()

        async with world.unready_discovery(one.url):
            await until(lambda: bool(world.logged("sweep_found_nobody")))

        assert world.addresses() == [one.url]


async def test_the_edge_answers_503_until_there_is_a_snapshot_and_then_from_it(
    postgres: infra.Postgres, nats: infra.Nats, slot: Slot, directory: Path
) -> None:
    with postgres.database("accounts") as database:
        async with (
            running_edge(nats, database.dsn("accounts"), slot, directory, knows_orchestrators=False) as edge,
            orchestrator() as one,
        ):
            key = (await edge.new_key("acme"))["api_key"]
            early = await edge.call("GET", "/discover-orchestrators", key=key)
            assert (early.status, early.headers["Retry-After"]) == (503, "1")
            world = World(
                nats, edge.admin, ObservedOrchestrators(Nothing()), slot.port("discovery"), directory
            )

            async with world.discovery(one.url):
                await edge.until_status(200, key, "/discover-orchestrators")
                found = await edge.call("GET", "/discover-orchestrators?caps=demo/echo&app=x", key=key)
                none = await edge.call("GET", "/discover-orchestrators?caps=demo&caps=", key=key)
                async with aiohttp.ClientSession() as session:
                    url = f"http://{LOCALHOST}:{world.port}/metrics"
                    metrics = await (await session.get(url)).text()
            after = await edge.call("GET", "/discover-orchestrators", key=key)

    assert [entry["address"] for entry in found.json] == [one.url]
    assert found.text.endswith("]\n")
    assert (none.status, none.text) == (200, "[]\n")
    assert "discovery_listed_orchestrators 1.0" in metrics
    assert after.json == found.json  # while discovery is away the last snapshot stays


class Nothing:
    def get(self, _: str) -> None:
        return None
