"""Orchestrators that misbehave: discovery leaves them out.

Beside each there is one who does not, and who must be listed all the same.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests import infra
from tests.integration.discovery_world import DISCOVERY_USERS, World, discovery_world, until
from tests.integration.orchestrators import (
    LOCALHOST,
    StandIn,
    listening,
    orchestrator,
    orchestrators,
    runner,
    server_tls,
)
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = DISCOVERY_USERS


@pytest.fixture
async def world(nats: infra.Nats, slot: Slot, directory: Path) -> AsyncIterator[World]:
    async with discovery_world(nats, slot, directory) as running:
        yield running


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
