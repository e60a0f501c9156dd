"""Quota as a process with several payers: a pool each, and none touches another's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from contracts.deposit_watcher import FundsObserved, RoundChanged
from contracts.message import Event, LogEntry, LogPage, ReadLog, read_log_subject
from contracts.quota import (
    AllowanceAnswer,
    AllowanceAnswers,
    AllowanceAsk,
    AllowanceGrantedAnswer,
    AllowanceRefusedAnswer,
    BudgetView,
    GrantAllowances,
    ListPools,
    PoolPage,
    PoolView,
    ReadBudget,
    ReadPool,
)
from contracts.signer import SessionClosed
from contracts.streams import stream_of
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import CommandRefusedError, ask, connect
from tests import infra
from tests.integration.service_process import bus_user, service
from tests.told_payments import payment_signed
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

FOLLOWED = ("signer", "accounts", "deposit_watcher")
NATS_USERS = tuple(bus_user(name) for name in ("quota", "edge", *FOLLOWED))
START = datetime(2026, 7, 1, 12, tzinfo=UTC)
FIRST, SECOND, THIRD = ("0x" + two * 20 for two in ("1a", "2b", "3c"))
LIMIT = 10_000


@dataclass
class FakeLog:
    """A publisher's log: told on its stream, and to whoever reads it."""

    publisher: str
    client: Client
    entries: list[LogEntry] = field(default_factory=list)

    async def serve(self) -> None:
        await self.client.subscribe(read_log_subject(self.publisher), cb=self._answer)

    async def tell(self, event: Event) -> None:
        last = self.entries[-1].position if self.entries else 0
        entry = LogEntry(
            epoch=1,
            position=last + 1,
            previous_position=last,
            subject=event.subject,
            at=START,
            event=event.model_dump(mode="json"),
        )
        self.entries.append(entry)
        await self.client.jetstream().publish(event.subject, entry.model_dump_json().encode())

    async def _answer(self, question: Msg) -> None:
        asked = ReadLog.model_validate_json(question.data)
        after = [entry for entry in self.entries if entry.position > asked.after]
        page = LogPage(epoch=1, head=len(self.entries), entries=after[: asked.limit])
        await question.respond(page.model_dump_json().encode())


@dataclass
class World:
    logs: dict[str, FakeLog]
    edge: Client

    async def observe(self, payer: str, deposit: int, *, withdraw_round: int = 0) -> None:
        told = FundsObserved(
            payer=payer,
            deposit=deposit,
            reserve=7,
            withdraw_round=withdraw_round,
            pool_size=100,
            l1_block=1,
            block_hash="0x",
        )
        await self.logs["deposit_watcher"].tell(told)

    async def begin_round(self, number: int) -> None:
        told = RoundChanged(round=number, round_hash="0x", ticket_validity_rounds=2)
        await self.logs["deposit_watcher"].tell(told)

    async def grant(
        self, payer: str, *, session: str, needed: int, wanted: int | None = None
    ) -> AllowanceAnswer:
        wish = AllowanceAsk(
            account_id="acme",
            user_id=None,
            key_id="key-1",
            session_id=session,
            number=1,
            payer=payer,
            needed=needed,
            wanted=wanted or needed,
        )
        command = GrantAllowances(asks=[wish])
        [answer] = (await ask(self.logs["signer"].client, command, AllowanceAnswers)).answers
        return answer

    async def pay(self, payer: str, *, session: str, cost: int, made: int) -> None:
        told = payment_signed(session, cost, payer=payer, creation_round=made)
        await self.logs["signer"].tell(told)

    async def close(self, session: str, *, spent: int) -> None:
        told = SessionClosed(account_id="acme", session_id=session, spent=spent, ask_number=1)
        await self.logs["signer"].tell(told)

    async def pools(self) -> list[PoolView]:
        return (await ask(self.edge, ListPools(), PoolPage)).pools

    async def pool(self, payer: str | None) -> PoolView:
        return await ask(self.edge, ReadPool(payer=payer), PoolView)

    async def refusal(self, payer: str | None) -> str:
        with pytest.raises(CommandRefusedError) as refused:
            await self.pool(payer)
        return refused.value.refusal.code


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot
) -> AsyncIterator[World]:
    directory = slot.directory / "quota-pools"
    directory.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:

        async def connected(user: str) -> Client:
            client = await connect(user, nats.url(user))
            stack.push_async_callback(client.close)
            return client

        admin = await connected("admin")
        for publisher in (*FOLLOWED, "quota"):
            with suppress(NotFoundError):
                await admin.jetstream().delete_stream(stream_of(publisher))
        await bus.ensure(admin, ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2))
        logs = {name: FakeLog(name, await connected(name)) for name in FOLLOWED}
        for one in logs.values():
            await one.serve()
        settings = {
            "POSTGRES_DSN": database("quota").dsn("quota"),
            "NATS_URL": nats.url("quota"),
            "CREATE_TABLES": "true",
            "DEFAULT_SPEND_LIMIT_WEI": str(LIMIT),
        }
        log = directory / "quota.log"
        await stack.enter_async_context(service("quota", slot.port("quota-pools"), settings, log))
        yield World(logs, await connected("edge"))


async def eventually[Value](
    ask_for: Callable[[], Awaitable[Value]], condition: Callable[[Value], bool]
) -> Value:
    async with asyncio.timeout(30):
        while not condition(value := await ask_for()):
            await asyncio.sleep(0.05)
    return value


async def test_exposure_of_one_payer_does_not_touch_the_other(world: World) -> None:
    await world.observe(FIRST, 1000)
    await world.observe(SECOND, 600)
    await world.begin_round(9)
    await eventually(world.pools, lambda pools: [pool.round for pool in pools] == [9, 9])

    granted = await world.grant(FIRST, session="s1", needed=400, wanted=5000)
    exhausted = await world.grant(FIRST, session="s2", needed=1)
    other = await world.grant(SECOND, session="s3", needed=100)

    assert granted == AllowanceGrantedAnswer(amount=1000)
    assert isinstance(exhausted, AllowanceRefusedAnswer)
    assert (exhausted.status, exhausted.reason) == (503, "pool_exhausted")
    assert other == AllowanceGrantedAnswer(amount=100)

    await world.pay(FIRST, session="s1", cost=300, made=9)
    await world.close("s1", spent=300)
    first = await eventually(lambda: world.pool(FIRST), lambda pool: pool.held == 0)
    second = await world.pool(SECOND)

    assert (first.cover, first.exposure, first.held) == (1000, 300, 0)
    assert (second.cover, second.exposure, second.held) == (600, 100, 100)
    assert await world.pools() == [first, second]
    budget = await ask(world.edge, ReadBudget(account_id="acme"), BudgetView)
    assert (budget.held, budget.spent) == (100, 300)


async def test_a_payer_nobody_watches_is_refused_clearly_until_its_funds_are_seen(world: World) -> None:
    await world.observe(FIRST, 1000)
    await eventually(world.pools, bool)

    refused = await world.grant(SECOND, session="s1", needed=1)

    assert isinstance(refused, AllowanceRefusedAnswer)
    assert (refused.status, refused.reason) == (503, "pool_unknown")
    assert SECOND in refused.message
    assert await world.refusal(SECOND) == "pool_not_found"
    assert [pool.payer for pool in await world.pools()] == [FIRST]
    assert await world.pool(None) == await world.pool(FIRST)

    await world.observe(SECOND, 5)
    await eventually(world.pools, lambda pools: len(pools) == 2)
    assert await world.grant(SECOND, session="s1", needed=1) == AllowanceGrantedAnswer(amount=1)
    assert await world.refusal(None) == "several_pools"


async def test_without_any_payer_there_is_no_pool(world: World) -> None:
    assert await world.refusal(None) == "pool_not_found"
    assert await world.pools() == []


async def test_a_payer_that_comes_later_is_in_the_round_of_the_others(world: World) -> None:
    """Its unlock counts in rounds: without one, funds that are leaving would cover payments for a day."""
    await world.begin_round(9)
    await world.observe(FIRST, 1000)
    await world.begin_round(10)
    await eventually(world.pools, lambda pools: [pool.round for pool in pools] == [10])

    await world.observe(SECOND, 1000)
    await world.observe(THIRD, 1000, withdraw_round=11)
    _, second, third = await eventually(world.pools, lambda pools: len(pools) == 3)

    assert (second.round, second.cover) == (10, 1000)
    assert (third.round, third.cover) == (10, 0)
