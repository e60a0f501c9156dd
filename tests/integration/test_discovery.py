"""Discovery as a process, among orchestrators that behave and others that do not."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.discovery import ORCHESTRATORS
from contracts.signer import OrchestratorInfoSigned, SignOrchestratorInfo
from services.edge.discovery import ObservedOrchestrators, OrchestratorsUnknownError
from shared.bucket import BucketReader
from shared.bus import connect
from tests import infra
from tests.integration.edge_world import running_edge
from tests.integration.orchestrators import (
    LOCALHOST,
    StandIn,
    info,
    listening,
    orchestrator,
    orchestrators,
    runner,
    server_tls,
)
from tests.integration.service_process import bus_user, provision_discovery, service
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("discovery"), bus_user("accounts"), bus_user("edge"))
SIGNED = OrchestratorInfoSigned(address="0x" + "Ab" * 20, signature="0x" + "cd" * 65)
MODEL = "live-video-to-video/echo"
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


@pytest.fixture
async def world(nats: infra.Nats, slot: Slot, directory: Path) -> AsyncIterator[World]:
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


# Those who misbehave. Beside each there is one who does not, and who must be listed all the same.


async def slow(_: StandIn) -> bytes:
    await asyncio.sleep(600)
    return b""


async def garbage(_: StandIn) -> bytes:
    return b"\xff" * 1000


async def too_much(_: StandIn) -> bytes:
    return b"\0" * 2_000_000


@pytest.mark.parametrize("answer", [slow, garbage, too_much])
async def test_an_answer_by_grpc_that_makes_no_sense_leaves_its_orchestrator_out(
    world: World, answer: Callable[[StandIn], Awaitable[bytes]]
) -> None:
    async with orchestrators(2) as (bad, good):
        bad.answer_info = answer
        async with world.discovery(bad.url, good.url):
            await world.until_listed(good)

            await until(lambda: bool(world.logged("orchestrator_failed")))
            assert {line["orchestrator"] for line in world.logged("orchestrator_failed")} == {bad.url}


async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(600)


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while not writer.is_closing():
            writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 5_000)  # settings, for HTTP/2
            await writer.drain()
            await asyncio.sleep(0)  # a loss is told between turns of the loop, and a drain need not be one


@pytest.mark.parametrize("is_tls", [True, False])
@pytest.mark.parametrize("behave", [hang, reset, babble])
async def test_a_server_that_is_no_orchestrator_is_left_out(
    world: World, behave: Callable[..., Awaitable[None]], *, is_tls: bool
) -> None:
    tls = server_tls() if is_tls else None
    async with (
        orchestrator() as good,
        listening(behave, tls=tls) as port,
        world.discovery(f"https://{LOCALHOST}:{port}", good.url),
    ):
        await world.until_listed(good)


async def test_a_host_that_is_not_there_is_left_out(world: World) -> None:
    async with orchestrator() as good:
        urls = [f"https://{LOCALHOST}:1", "https://does-not-exist.invalid:8935", "https://" + "a" * 64]
        async with world.discovery(*urls, good.url):
            await world.until_listed(good)


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.1)
    return response


async def flood(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" " * 65_536)
    return response


async def zipped(_: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(b"[]"), headers={"Content-Encoding": "gzip"})


async def broken(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(600)
    return web.Response()


@pytest.mark.parametrize("answer", [drip, flood, zipped, broken, silent])
async def test_without_a_usable_document_an_orchestrator_has_no_runners(
    world: World, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
    async with orchestrators(2) as (bad, good):
        bad.answer_document = answer
        async with world.discovery(bad.url, good.url):
            await world.until_listed(bad, good)

            assert world.addresses("demo/echo") == [good.url]
            assert {line["orchestrator"] for line in world.logged("runners_unknown")} == {bad.url}


@pytest.mark.parametrize(
    "document",
    [
        b"no json",
        b"[" * 1_000_000,
        json.dumps([{"address": "https://x.example", "runners": [runner("u")]}]).encode() + b" " * 1_100_000,
        b'[{"address": "%s", "runners": [{"price_info": {"price": NaN}}]}]',
        [{"address": "https://x.example", "runners": [{"capacity": "many"}]}],
        [{"address": 5}],
        {"runners": []},
    ],
    ids=["text", "deep", "long", "nan", "types", "address", "object"],
)
async def test_a_document_that_makes_no_sense_leaves_its_orchestrator_without_runners(
    world: World, document: Any
) -> None:
    async with orchestrators(2) as (bad, good):
        bad.document = document
        async with world.discovery(bad.url, good.url):
            await world.until_listed(bad, good)

            assert world.addresses("demo/echo") == [good.url]


async def test_a_redirect_leads_nowhere(world: World) -> None:
    async with orchestrators(2) as (bad, hidden):

        async def redirect(_: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"{hidden.url}/discovery"})

        bad.answer_document = redirect
        async with world.discovery(bad.url):
            await world.until_listed(bad)

    assert world.logged("runners_unknown")[0]["problem"] == "status 307"
    assert hidden.authorities == []


async def test_ten_thousand_runners_are_cut_and_crowd_out_nobody(world: World) -> None:
    async with orchestrators(2) as (bad, good):
        many = [{"url": f"u{n}", "app": "x", "price_info": {"price": 1}} for n in range(10_000)]
        good_runner = runner(bad.url, name="first")
        bad.document = [{"address": bad.url, "runners": [good_runner, *many]}]
        async with world.discovery(bad.url, good.url):
            await world.until_listed(bad, good)

            assert len(world.listed("demo/echo")) == 2
            await until(lambda: bool(world.logged("runners_refused")))
            assert world.logged("runners_refused")[0]["bad_currency"] == 255


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
                nats, edge.admin, ObservedOrchestrators(_Nothing()), slot.port("discovery"), directory
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


class _Nothing:
    def get(self, _: str) -> None:
        return None
