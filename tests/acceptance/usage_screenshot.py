"""Takes docs/usage-page.png: `python -m tests.acceptance.usage_screenshot`, some five minutes.

A world of its own, in which an account with opaque ids paid on some days of this month and in some
hours of today: for the past its signer is started again with its clock put back. Two sessions of the
official SDK run while the picture is taken.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from livepeer_gateway.selection import reserve_session
from livepeer_gateway.token import parse_token
from playwright.async_api import Browser

from tests import infra
from tests.acceptance.browser import launched, signed_in
from tests.acceptance.system import OPTIONS, Account, Answer, System, until
from tests.acceptance.wire import SIGNER, Paid, Payer, request
from tests.unit.edge.studio_client import body_of, signed, to_bytes
from tilt.run import start
from tilt.supervisor import Supervisor
from tilt.world import World

PICTURE = Path(__file__).parents[2] / "docs" / "usage-page.png"
ACCOUNT = "acct-7f3a91"
USERS = ("u-4c1e", "u-9b20", "u-d07f", "u-31aa", "")
APPS = ("demo/echo", "demo/pixels", "demo/once")
WEIGHTS_OF_USERS, WEIGHTS_OF_APPS = (9, 5, 3, 2, 1), (6, 3, 1)
REFUSED_USER = "u-e55d"
DAYS_BACK, HOURS_BACK = range(13, 0, -1), range(8, 0, -1)
RUN_SECONDS = 40
OK, CREATED, PAYMENT_REQUIRED = 200, 201, 402
SATURDAY = 5
SECONDS = 30.0
HOUR = timedelta(hours=1)
# A second costs some $0.0012 at the world's rate.
TERMS = replace(
    OPTIONS, ticket_ev_wei=4 * 10**11, face_value_wei=10**15, price_per_unit=4 * 10**11, idle_seconds=20
)


class PastSigner:
    """The world's signer, whose clock can be put back by starting it again."""

    def __init__(self, world: World, supervisor: Supervisor, environment: dict[str, str]) -> None:
        self._world = world
        self._supervisor = supervisor
        self._environment = environment

    async def put_back(self, by: timedelta, system: System) -> None:
        self._environment["SIGNER_CLOCK_OFFSET_SECONDS"] = str(-by.total_seconds())
        old = system.kill("signer")
        await system.until_restarted("signer", old)
        url = self._world.health_url("signer") + "/readyz"

        async def ready() -> bool:
            return (await system.send("GET", url)).status == 200

        await until("the signer is ready again", ready, seconds=SECONDS)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[System, PastSigner]]:
    with infra.own_slot() as slot:
        world = World(slot, TERMS)
        world.prepare()
        async with Supervisor(slot.directory) as supervisor:
            environment: dict[str, str] = {}
            with_past_signer(world, environment)
            await start(world, supervisor)
            connector = aiohttp.TCPConnector(ssl=False)  # orchestrators sign their own certificates
            async with aiohttp.ClientSession(connector=connector) as http:
                yield System(world, supervisor, http), PastSigner(world, supervisor, environment)


def with_past_signer(world: World, environment: dict[str, str]) -> None:
    """Have the world's signer read its environment from a dictionary that changes."""
    made = world.services

    def services() -> list[Any]:
        processes = made()
        for number, process in enumerate(processes):
            if process.name == "signer":
                environment.update(process.env or {})
                processes[number] = replace(process, env=environment)
        return processes

    world.services = services  # type: ignore[method-assign] # of this one world


async def open_account(system: System) -> Account:
    body = {"account_id": ACCOUNT, "spend_limit_wei": str(4 * 10**15)}
    assert (await system.call("POST", "/v1/accounts", body=body)).status == CREATED
    account = await system.issue_key(ACCOUNT)
    path = f"/v1/accounts/{ACCOUNT}"
    limits = {"spend_per_month_micro_usd": 12_000_000, "spend_per_day_micro_usd": 1_500_000, "streams_max": 8}
    for where, what in (
        (f"{path}/limits", limits),
        (f"{path}/users/{REFUSED_USER}/limits", {"spend_per_day_micro_usd": 12_400}),
        (f"{path}/keys/{account.key_id}/limits", {"spend_per_hour_wei": str(8 * 10**14)}),
        (f"{path}/time-zone", {"time_zone": "Europe/Berlin"}),
    ):
        answer = await system.call("PUT", where, body={**what, "reason": "agreed"})
        assert answer.status == OK, answer
    return account


class Customer:
    def __init__(self, system: System, account: Account) -> None:
        self.system = system
        self.account = account
        self.payer = Payer(system, account)
        self.chance = random.Random(7)

    async def pay(self, user: str, app: str, stream: str = "") -> Answer:
        """One payment of ten seconds, in a session of its own."""
        challenge = await self.payer.challenge()
        headers = self.account.headers
        named = {"Clearinghouse-User": user, "Clearinghouse-Stream": stream}
        headers |= {name: value for name, value in named.items() if value}
        return await self.system.send("POST", SIGNER, data=request(challenge, app=app), headers=headers)

    async def paid(self, user: str, app: str, stream: str = "") -> None:
        """Pay, however often a signer that has just started says that it cannot yet."""

        async def is_paid() -> bool:
            return (await self.pay(user, app, stream)).status == OK

        await until("a payment is signed", is_paid, seconds=SECONDS)

    async def pay_often(self, times: int) -> None:
        for _ in range(times):
            [user] = self.chance.choices(USERS, WEIGHTS_OF_USERS)
            [app] = self.chance.choices(APPS, WEIGHTS_OF_APPS)
            await self.paid(user, app)

    async def past(self, signer: PastSigner) -> None:
        """Pay on days of this month, and then in hours of today."""
        local = datetime.now(UTC) + HOUR  # of Berlin, in winter; an hour more or less is no harm
        days = [timedelta(days=back) for back in DAYS_BACK if back < local.day]
        hours = [HOUR * back for back in HOURS_BACK if back < local.hour]
        for back in days:
            weekend = (local - back).weekday() >= SATURDAY
            await signer.put_back(back, self.system)
            await self.pay_often(self.chance.randrange(2, 6) if weekend else self.chance.randrange(8, 17))
        for back in hours:
            await signer.put_back(back, self.system)
            await self.pay_often(self.chance.randrange(2, 9))
        await signer.put_back(timedelta(), self.system)

    async def streams(self) -> None:
        """Streams that Livepeer Studio told of, with payments; and one whose user reached a limit."""
        hook = (await self.system.call("POST", f"/v1/accounts/{ACCOUNT}/hooks")).json
        now = time.time_ns() // 1_000_000
        told = (
            ("st-2f61c0", "u-4c1e", 94, 41),
            ("st-8d03b7", "u-9b20", 63, 25),
            ("st-c41e9a", "u-d07f", 38, 12),
        )
        for stream, user, began, ended in told:
            await self.paid(user, "demo/echo", stream)
            for event, minutes in (("stream.started", began), ("stream.idle", ended)):
                await self._deliver(hook, event, stream, user, now - minutes * 60_000)
        await self._reach_a_limit()

    async def _reach_a_limit(self) -> None:
        """Pay once more for a stream than its user may."""
        begun = {"stream_id": "st-5b9e12", "user_id": REFUSED_USER, "app": "demo/echo"}
        answer = await self.system.call("POST", "/v1/streams", key=self.account.api_key, body=begun)
        assert answer.status == CREATED, answer
        challenge = await self.payer.challenge()
        named = {"Clearinghouse-User": REFUSED_USER, "Clearinghouse-Stream": "st-5b9e12"}
        headers = {**self.account.headers, **named}
        first = await self.system.send("POST", SIGNER, data=request(challenge), headers=headers)
        body = request(challenge, Paid.read(first).state)

        async def is_refused() -> bool:
            answer = await self.system.send("POST", SIGNER, data=body, headers=headers)
            return answer.status == PAYMENT_REQUIRED

        await until("the limit is reached", is_refused, seconds=SECONDS)
        ended = await self.system.call("POST", "/v1/streams/st-5b9e12/end", key=self.account.api_key)
        assert ended.status < PAYMENT_REQUIRED, ended

    async def _deliver(self, hook: dict[str, Any], event: str, stream: str, user: str, at: int) -> None:
        now = time.time_ns() // 1_000_000
        whose = {
            "id": stream,
            "creatorId": {"type": "unverified", "value": user},
            "sourceSegmentsDuration": 0,
        }
        data = to_bytes(body_of(now, event=event, createdAt=at, stream=whose))
        path = hook["url"].removeprefix(self.system.world.public_url)
        answer = await self.system.send("POST", path, data=data, headers=signed(hook["secret"], data, now))
        assert answer.status == OK, answer

    @asynccontextmanager
    async def live(self, user: str, stream: str) -> AsyncIterator[None]:
        """A session of the official SDK that goes on paying, for a stream that was begun."""
        begun = {"stream_id": stream, "user_id": user, "app": "demo/echo", "lease_seconds": 3600}
        answer = await self.system.call("POST", "/v1/streams", key=self.account.api_key, body=begun)
        assert answer.status == CREATED, answer
        token = parse_token(self.account.sdk_token)
        named = {"Clearinghouse-User": user, "Clearinghouse-Stream": stream}
        session = await reserve_session(
            signer_url=token["signer"],
            signer_headers={**token["signer_headers"], **named},
            discovery_url=token["discovery"],
            discovery_headers=token["discovery_headers"],
            app="demo/echo",
        )
        async with session:
            yield


async def lived_in(system: System, signer: PastSigner, stack: AsyncExitStack) -> Account:
    """An account with a past, and sessions that run until the stack is left."""
    account = await open_account(system)
    customer = Customer(system, account)
    await customer.past(signer)
    await customer.streams()
    await stack.enter_async_context(customer.live("u-4c1e", "st-e7a250"))
    await stack.enter_async_context(customer.live("u-31aa", "st-60fd3c"))
    await asyncio.sleep(RUN_SECONDS)  # that they have run for, in the picture
    return account


async def take(browser: Browser, url: str, key: str, path: Path, **options: Any) -> None:
    async with signed_in(browser, url, key, **options) as page:
        await page.wait_for_selector("canvas")
        await page.screenshot(path=path, full_page=True)


async def main(also: Callable[[System, Account], Any] | None = None) -> None:
    async with running() as (system, signer), AsyncExitStack() as stack:
        account = await lived_in(system, signer, stack)
        if also is not None:
            await also(system, account)
            return
        async with launched() as browser:
            await take(browser, system.world.public_url, account.api_key, PICTURE, width=1180)


if __name__ == "__main__":
    asyncio.run(main())
