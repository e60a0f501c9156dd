"""The log as outsiders read it from the running system: over HTTP, as a reader on the bus, by the command."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import nats
import psycopg
import pytest
from aiohttp import web
from nats.js.errors import NotFoundError

from contracts.streams import PUBLISHERS, stream_of
from tests.acceptance.checks import settled
from tests.acceptance.system import Account, Answer, System, until
from tests.acceptance.traffic import traffic
from tests.acceptance.wire import Payer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
CONSUMER = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 40
PAYMENTS = ["PaymentSigned"]


async def read(system: System, *, key: str = "", **query: Any) -> Answer:
    return await system.call("GET", f"/v1/events?{urlencode(query, doseq=True)}", key=key)


async def read_all(
    system: System, *, key: str = "", seconds: float = SECONDS, **query: Any
) -> list[dict[str, Any]]:
    """All events up to the end, page by page; asks again where it is told to."""
    found: list[dict[str, Any]] = []
    after = query.pop("after", "")
    async with asyncio.timeout(seconds):
        while True:
            answer = await read(system, key=key, after=after, **query)
            if answer.status == 503:
                assert answer.headers["Retry-After"] == "1"
                await asyncio.sleep(0.2)
                continue
            assert answer.status == 200, answer
            page = answer.json
            found += page["events"]
            after = page["next"]
            if page["at_end"]:
                return found


def ids(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in events]


async def payments_on_disk(system: System) -> list[int]:
    """The positions of all payments in the signer's log, read past all of its code."""

    def select() -> list[int]:
        with psycopg.connect(system.world.dsn()) as connection:
            rows = connection.execute(
                "SELECT notification_id FROM signer.signer_events"
                " WHERE topic = 'signer.payment_signed' ORDER BY 1"
            ).fetchall()
            return [row[0] for row in rows]

    return await asyncio.to_thread(select)


async def pay(system: System, times: int = 1, account: Account | None = None) -> Account:
    payer = Payer(system, account or await system.open_account())
    for _ in range(times):
        await payer.pay(await payer.challenge())
    return payer.account


async def test_an_account_reads_its_own_and_an_administrator_the_same_of_it(system: System) -> None:
    account, other = await pay(system, 2), await pay(system)
    totals = await settled(system, account)

    own = await read_all(system, key=account.api_key)
    as_administrator = await read_all(system, account=account.account_id)
    everything = await read_all(system, types=PAYMENTS)

    signed = [event for event in own if event["type"] == "PaymentSigned"]
    assert {event["account_id"] for event in own} == {account.account_id}
    assert {"AccountOpened", "ApiKeyIssued", "SessionOpened", "PaymentSigned"} <= {
        event["type"] for event in own
    }
    assert (len(signed), sum(int(event["data"]["cost"]) for event in signed)) == (2, totals.cost)
    assert {event["correlation"] for event in signed} == {
        row["session_id"] for row in await system.sessions(account)
    }
    # What is idle closes meanwhile.
    assert set(ids(own)) <= set(ids(as_administrator))
    assert {account.account_id, other.account_id} <= {event["account_id"] for event in everything}


async def test_a_user_and_a_foreign_account_read_nothing(system: System) -> None:
    account, other = await pay(system), await system.open_account()
    issued = await system.call("POST", f"/v1/accounts/{account.account_id}/keys", body={"user_id": "ann"})

    users = await read(system, key=issued.json["api_key"])
    foreign = await read(system, key=other.api_key, account=account.account_id)

    assert (users.status, foreign.status) == (403, 404)


async def test_usage_says_which_payments_it_covers(system: System) -> None:
    account = await pay(system)
    await settled(system, account)
    [signed] = await read_all(system, key=account.api_key, types=PAYMENTS)

    usage = await read_all(system, types=["UsageRecorded"])

    assert [
        event
        for event in usage
        if event["data"]["from_position"] <= signed["position"] <= event["data"]["to_position"]
        and event["causation"] == f"signer:{signed['epoch']}:{event['data']['to_position']}"
    ]


async def test_whoever_waits_hears_of_a_payment_as_it_is_made(system: System) -> None:
    account = await system.open_account()
    now = (await read(system, key=account.api_key, after="now")).json
    assert now["events"] == []

    waiting = asyncio.create_task(
        read(system, key=account.api_key, after=now["next"], types=PAYMENTS, wait=5)
    )
    await pay(system, account=account)

    assert [event["type"] for event in (await waiting).json["events"]] == PAYMENTS


async def test_whoever_waits_is_answered_when_the_edge_is_told_to_stop(system: System) -> None:
    account = await system.open_account()
    now = (await read(system, key=account.api_key, after="now")).json["next"]

    async def stopped_while_one_waits() -> Answer:
        waiting = asyncio.create_task(read(system, key=account.api_key, after=now, types=PAYMENTS, wait=25))
        await asyncio.sleep(1)  # it has begun to wait
        stopped = system.signal("edge", signal.SIGTERM)
        answer = await waiting
        await system.until_restarted("edge", stopped)
        return answer

    answer = await stopped_while_one_waits()

    assert (answer.status, answer.json["events"], answer.json["at_end"]) == (200, [], True)
    again = await until(
        "the edge answers", lambda: read(system, key=account.api_key, after=now), seconds=SECONDS
    )
    assert again.status in {200, 503}


@pytest.mark.parametrize("victim", ["signer", "quota", "metering"])
async def test_nothing_is_passed_over_while_a_publisher_is_killed(system: System, victim: str) -> None:
    account = await system.open_account()
    async with traffic(system, account):
        reading = asyncio.create_task(read_all(system, types=PAYMENTS, limit=40))
        killed = system.kill(victim)
        during = await reading
        await system.until_restarted(victim, killed)
        following = asyncio.create_task(read_all(system, types=PAYMENTS, limit=40))
        again = system.kill(victim)
        await following
        await system.until_restarted(victim, again)
    await settled(system, account, seconds=30)
    on_disk = await payments_on_disk(system)

    at_last = [event["position"] for event in await read_all(system, types=PAYMENTS, limit=40)]

    assert at_last == on_disk
    assert [event["position"] for event in during] == on_disk[: len(during)]


async def test_as_cloud_events_payments_are_create_signed_tickets(system: System) -> None:
    account = await pay(system)
    await settled(system, account)

    answer = await read(system, key=account.api_key, types=PAYMENTS, format="cloudevents")

    [event] = answer.json
    assert answer.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert answer.headers["Clearinghouse-At-End"] == "true"
    assert (event["type"], event["subject"]) == ("create_signed_ticket", f"{account.account_id}:")
    assert event["data"]["billable_secs"] == 10.0
    assert event["data"]["pipeline"] == "live"
    assert event["data"]["computed_fee"] == str(10 * system.world.options.price_per_unit)


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

    mine = [one for one in follower.heard if one in set(await paid())]
    assert mine == await paid()
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
