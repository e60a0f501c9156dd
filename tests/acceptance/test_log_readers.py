"""The log of the running system for a reader on the bus, and by the `clearinghouse log` command."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
import pytest
from aiohttp import web
from nats.js.errors import NotFoundError

from contracts.streams import PUBLISHERS, stream_of
from tests.acceptance.log_reading import PAYMENTS, SECONDS, ids, pay, payments_on_disk, read_all
from tests.acceptance.system import System, until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
CONSUMER = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Follower:
    """The reader of docs/events.md, its very text, as a process of its own."""

    def __init__(self, system: System, directory: Path) -> None:
        [text] = CONSUMER.findall((ROOT / "docs/events.md").read_text())
        self._text = text
        self._directory = directory
        self._url = system.world.nats_url("reader-billing")
        self.lines: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", self._text, cwd=self._directory,
            env={"PATH": os.environ["PATH"], "NATS_URL": self._url}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        listening = asyncio.create_task(self._listen(process.stdout))
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await listening

    async def _listen(self, output: asyncio.StreamReader) -> None:
        async for line in output:
            self.lines.append(line.decode())

    @property
    def heard(self) -> list[str]:
        return [line.split(" ", 1)[0] for line in self.lines if line.startswith("signer:")]

    async def until_heard(self, wanted: Sequence[str]) -> None:
        async def all_of_them() -> bool:
            return set(wanted) <= set(self.heard)

        await until("the reader has heard of all payments", all_of_them, seconds=SECONDS)


async def wipe(system: System) -> None:
    """All that JetStream has of the services' logs, as if its disk were gone."""
    client = await nats.connect(system.world.nats_url("admin"))
    try:
        for publisher in PUBLISHERS:
            try:
                await client.jetstream().delete_stream(stream_of(publisher))
            except NotFoundError:
                continue
    finally:
        await client.close()


async def test_the_reader_of_the_documentation_loses_nothing_when_the_bus_is_wiped(
    system: System, directory: Path
) -> None:
    account = await pay(system)

    async def paid() -> list[str]:
        return ids(await read_all(system, key=account.api_key, types=PAYMENTS))

    follower = Follower(system, directory)
    async with follower.running():
        await follower.until_heard(await paid())
        await wipe(system)
        await pay(system, 2, account)
        await follower.until_heard(await paid())
    await wipe(system)
    await pay(system, 2, account)
    async with follower.running():
        await pay(system, account=account)
        await follower.until_heard(await paid())

    told = await paid()
    mine = [one for one in follower.heard if one in told]
    assert mine == told
    assert len(mine) == 6


async def command(system: System, *words: str, **settings: str) -> tuple[int, str]:
    """Run `clearinghouse log` to its end; return its status and what it printed."""
    process = await _started(system, *words, **settings)
    output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    return process.returncode or 0, output.decode()


async def _started(system: System, *words: str, **settings: str) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], "CLEARINGHOUSE_NATS_URL": system.world.nats_url("cli")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "log", *words,
        env={**environment, **settings}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_the_command_shows_what_is_told_from_now_on(system: System) -> None:
    account = await system.open_account()
    process = await _started(
        system, "tail", "--json", "--types", "PaymentSigned", "--account", account.account_id
    )
    assert process.stdout is not None
    line = asyncio.create_task(process.stdout.readline())

    async def shown() -> bool:  # it takes a moment to begin
        await pay(system, account=account)
        await asyncio.wait([line], timeout=1)
        return line.done()

    await until("a payment is shown", shown, seconds=SECONDS)
    process.kill()
    await process.communicate()

    event = json.loads(await line)
    assert (event["type"], event["account_id"]) == ("PaymentSigned", account.account_id)


async def test_an_export_has_every_payment_once_however_often_it_is_cut_off(
    system: System, directory: Path
) -> None:
    account, file = await pay(system, 2), directory / "log.jsonl"
    killed = await _started(system, "export", "--to", str(file))
    await until("it has begun", lambda: asyncio.to_thread(file.exists), seconds=SECONDS)
    killed.kill()
    await killed.communicate()
    await pay(system, account=account)

    status, _ = await command(system, "export", "--to", str(file), "--json")
    again, printed = await command(system, "export", "--to", str(file), "--json")

    lines = (await asyncio.to_thread(file.read_text)).splitlines()
    positions = [event["position"] for event in map(json.loads, lines) if event["type"] == "PaymentSigned"]
    assert (status, again) == (0, 0)
    assert positions == await payments_on_disk(system)
    assert json.loads(printed)["next"]


async def test_payments_are_forwarded_though_the_command_is_killed(system: System, directory: Path) -> None:
    account = await pay(system)
    taken: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer of-a-meter"
        taken.extend(json.loads(await request.read()))
        return web.Response(status=204)

    async def all_of_them() -> bool:
        paid = ids(await read_all(system, key=account.api_key, types=PAYMENTS))
        return set(paid) <= {event["id"] for event in taken}

    async with _receiver(take) as url:
        words = ("forward", "--to", url, "--position", str(directory / "position"))
        for _ in range(2):
            process = await _started(
                system, *words, CLEARINGHOUSE_FORWARD_HEADER="Authorization: Bearer of-a-meter"
            )
            await until("all payments are forwarded", all_of_them, seconds=SECONDS)
            process.kill()
            await process.communicate()
            await pay(system, account=account)

    mine = [event for event in taken if event["subject"] == f"{account.account_id}:"]
    assert {event["type"] for event in mine} == {"create_signed_ticket"}
    assert len({event["id"] for event in mine}) >= 2


@asynccontextmanager
async def _receiver(take: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
