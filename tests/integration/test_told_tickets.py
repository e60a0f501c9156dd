"""Payments of another signer, on real PostgreSQL and NATS: each event counts once, in metering and quota.

Both are processes; metering dies again and again while it records.
"""

import asyncio
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched
from pathlib import Path
from random import Random

import psycopg
import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contracts.metering import ListSessions, QueryUsage, SessionPage, UsagePage
from contracts.quota import BudgetView, ReadBudget
from contracts.signed_tickets import RecordSignedTickets, SignedTicket, SignedTicketsAnswered
from contracts.stream_starts import AuthorizePayment, PaymentAuthorized
from contracts.streams import stream_of
from contracts.ticket_events import read_event, read_json
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import ServiceUnavailableError, ask, connect
from tests import infra
from tests.integration.service_process import bus_user, service
from tests.told_tickets import event
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("metering"), bus_user("quota"), bus_user("edge"))
ACCOUNTS = ("acme", "tide")
SESSIONS, PAYMENTS = 3, 40  # of an account, of a session
ESTIMATED = 4  # of a session's payments, before any event comes
BATCH = 50


@dataclass
class World:
    edge: Client
    admin: Client
    dsns: dict[str, str]
    running: dict[str, tuple[AsyncExitStack, int]]
    slot: Slot
    nats: infra.Nats
    directory: Path
    provisioning: ProvisionerSettings

    async def start(self, name: str) -> None:
        settings = {
            "POSTGRES_DSN": self.dsns[name],
            "NATS_URL": self.nats.url(name),
            "CREATE_TABLES": "true",
            **({"IDLE_SECONDS": "3600", "DEFAULT_SPEND_LIMIT_WEI": str(10**20)} if name == "quota" else {}),
        }
        stack = AsyncExitStack()
        context = service(name, self.slot.port(name), settings, self.directory / f"{name}.log")
        self.running[name] = (stack, await stack.enter_async_context(context))

    async def kill(self, name: str) -> None:
        stack, pid = self.running.pop(name)
        os.kill(pid, signal.SIGKILL)
        await stack.aclose()

    async def record(self, tickets: Sequence[SignedTicket]) -> list[str]:
        """As a client does: again and again, until it is answered."""
        async with asyncio.timeout(60):
            while True:
                try:
                    answered = await ask(
                        self.edge, RecordSignedTickets(tickets=list(tickets)), SignedTicketsAnswered
                    )
                except ServiceUnavailableError:
                    await asyncio.sleep(0.05)
                else:
                    return list(answered.outcomes)

    async def authorize(self, account_id: str, state_id: str, sequence: int) -> int:
        command = AuthorizePayment(
            account_id=account_id,
            user_id="ann",
            key_id="AbCdEfGhIjKl",
            state_id=state_id,
            sequence=sequence,
            balance="70",
            price_per_unit=3,
            pixels_per_unit=1,
            job_type="live",
            last_update_ns=10**18 + sequence * 10 * 10**9,
        )
        answer = await ask(self.edge, command, PaymentAuthorized)
        assert answer.status == 200
        return answer.estimate

    async def budget(self, account_id: str) -> tuple[int, int]:
        view = await ask(self.edge, ReadBudget(account_id=account_id), BudgetView)
        return view.held, view.spent

    async def until_followed(self) -> None:
        """Quota has applied all of metering's log."""
        async with asyncio.timeout(60):
            while self._number(
                "quota", "SELECT position FROM quota.positions WHERE reader = 'quota-follow-tickets'"
            ) != (self._number("metering", "SELECT max(notification_id) FROM metering.metering_events")):
                await asyncio.sleep(0.05)

    def _number(self, name: str, query: str) -> object:
        with psycopg.connect(self.dsns[name]) as connection:
            row = connection.execute(query.encode()).fetchone()
            return row[0] if row else None

    async def verify(self, name: str) -> list[str]:
        """Names the tables that are not what the log says."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"services.{name}.replay", "--verify",
            env={"PATH": os.environ["PATH"], f"{name.upper()}_POSTGRES_DSN": self.dsns[name]},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        return list(json.loads(out.splitlines()[-1])["differing"])


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    admin = await connect("admin", nats.url())
    for publisher in ("quota", "metering"):
        with suppress(NotFoundError):
            await admin.jetstream().delete_stream(stream_of(publisher))
    provisioning = ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2)
    await bus.ensure(admin, provisioning)
    dsns = {name: database(name).dsn(name) for name in ("metering", "quota")}
    edge = await connect("edge", nats.url("edge"))
    world = World(edge, admin, dsns, {}, slot, nats, directory, provisioning)
    for name in dsns:
        await world.start(name)
    yield world
    for stack, _ in world.running.values():
        await stack.aclose()
    for client in (edge, admin):
        await client.close()


def told(random: Random) -> list[SignedTicket]:
    """All payments of some sessions of two accounts, in no order, a few of them twice."""
    now = datetime.now(UTC)
    found = []
    for account_id in ACCOUNTS:
        for session in range(SESSIONS):
            for number in range(PAYMENTS):
                given = event(
                    number,
                    at=now - timedelta(hours=2),
                    auth_id=f"{account_id}:ann",
                    session_id=f"{session:08x}",
                    computed_fee=str(random.randrange(1, 10**12)),
                    id=f"{random.getrandbits(128):032x}",
                )
                plain = given["id"]
                given["id"] = "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))
                ticket = read_event(read_json(json.dumps(given)), now)
                assert ticket is not None
                found.append(ticket)
    found += random.sample(found, len(found) // 10)
    random.shuffle(found)
    return found


@pytest.mark.timeout(300)
async def test_each_event_counts_once_however_often_metering_dies(world: World) -> None:
    random = Random(11)
    tickets = told(random)
    once = {(ticket.account_id, ticket.event_id): ticket for ticket in tickets}
    for account_id in ACCOUNTS:
        for session in range(SESSIONS):
            for sequence in range(ESTIMATED):
                await world.authorize(account_id, f"{session:08x}", sequence)

    batches = list(batched(tickets, BATCH))
    outcomes: list[str] = []
    for number, batch in enumerate(batches):
        asking = asyncio.create_task(world.record(batch))
        if number % 3 == 1:
            await asyncio.sleep(random.random() / 20)
            await world.kill("metering")
            if number % 6 == 1:
                await world.admin.jetstream().delete_stream(stream_of("metering"))
                await bus.ensure(world.admin, world.provisioning)
            await world.start("metering")
        outcomes += await asking
    await world.until_followed()

    fees: dict[str, int] = defaultdict(int)
    for ticket in once.values():
        fees[ticket.account_id] += ticket.fee
    page = await ask(world.edge, QueryUsage(group_by=["account"]), UsagePage)
    sums = {row.group["account"]: row for row in page.rows}
    for account_id in ACCOUNTS:
        row, paid = sums[account_id], [each for each in once.values() if each.account_id == account_id]
        assert (row.payments, row.tickets) == (len(paid), sum(each.tickets for each in paid))
        assert (row.cost_wei, row.fee_wei, row.ev_wei) == (fees[account_id], fees[account_id], 0)
        assert await world.budget(account_id) == (0, fees[account_id])
    assert outcomes.count("recorded") <= len(once)
    sessions = (await ask(world.edge, ListSessions(account_id="acme"), SessionPage)).sessions
    assert {(each.session_id, each.payments) for each in sessions} == {
        (f"go-livepeer:{session:08x}", PAYMENTS) for session in range(SESSIONS)
    }
    assert await world.verify("metering") == []
    assert await world.verify("quota") == []


async def test_estimates_are_held_until_told_and_a_repeat_changes_nothing(world: World) -> None:
    now = datetime.now(UTC)
    tickets = []
    for number in range(4):
        given = event(number, at=now - timedelta(minutes=1), session_id="8c1d03aa", computed_fee="10")
        ticket = read_event(read_json(json.dumps(given)), now)
        assert ticket is not None
        tickets.append(ticket)
    estimates = [await world.authorize("acme", "8c1d03aa", sequence) for sequence in range(3)]
    held = await world.budget("acme")

    first = await world.record(tickets[1:])
    again = await world.record(tickets[1:])
    await world.until_followed()
    told_once = await world.budget("acme")
    await world.kill("quota")
    await world.start("quota")

    assert held == (sum(estimates), 0)
    assert (first, again) == (["recorded"] * 3, ["repeated"] * 3)
    assert told_once == await world.budget("acme") == (estimates[0], 30)
    assert await world.verify("quota") == []
