"""Documents of an orchestrator that are of no use: it has no runners then, and the other has his.

One discovery for all, among two orchestrators; one of them answers with what a test gives it.
"""

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from tests import infra
from tests.integration.discovery_world import DISCOVERY_USERS, World, discovery_world, until
from tests.integration.orchestrators import StandIn, orchestrators, runner
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = DISCOVERY_USERS


@dataclass
class Pair:
    world: World
    bad: StandIn
    good: StandIn

    async def until_runners_of(self, *stand_ins: StandIn) -> None:
        expected = [stand_in.url for stand_in in stand_ins]
        await until(lambda: self.world.addresses("demo/echo") == expected, lambda: f"never {expected}")

    def unknown(self) -> list[str]:
        """Whose runners were not known, each time."""
        return [line["orchestrator"] for line in self.world.logged("runners_unknown")]


@pytest.fixture(scope="module")
async def running(nats: infra.Nats, slot: Slot) -> AsyncIterator[Pair]:
    directory = slot.directory / "discovery-documents"
    directory.mkdir()
    async with (
        discovery_world(nats, slot, directory) as world,
        orchestrators(2) as (bad, good),
        world.discovery(bad.url, good.url),
    ):
        yield Pair(world, bad, good)


@pytest.fixture
async def pair(running: Pair) -> Pair:
    """With the runners of both."""
    running.bad.answer_document = None
    running.bad.offer()
    await running.until_runners_of(running.bad, running.good)
    return running


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
    pair: Pair, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
    before = len(pair.unknown())

    pair.bad.answer_document = answer
    await pair.until_runners_of(pair.good)

    assert pair.world.addresses() == [pair.bad.url, pair.good.url]
    assert {*pair.unknown()[before:]} == {pair.bad.url}


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
    pair: Pair, document: Any
) -> None:
    pair.bad.document = document
    await pair.until_runners_of(pair.good)

    assert pair.world.addresses() == [pair.bad.url, pair.good.url]
