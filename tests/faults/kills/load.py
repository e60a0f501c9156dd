"""The load a kill happens under: clients, operators, and what both hold, against one world."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from tests.acceptance.system import System, until
from tests.faults.checker.buckets import read_entries
from tests.faults.checker.evidence import Evidence
from tests.faults.checker.tickets import TicketId
from tests.faults.kills.clients import KINDS, ByEitherEdge, Client, Held
from tests.faults.kills.customers import Customer, Showing, open_refusable, open_steady, set_plans
from tests.faults.kills.operator import Operator

CLIENTS_STEADY, CLIENTS_REFUSABLE = 15, 9
ACCOUNTS_STEADY, ACCOUNTS_REFUSABLE = 3, 3
SHOWINGS = tuple(Showing)
STARTED_SECONDS, STOPPED_SECONDS = 180, 30


class Load:
    """`clients` are those whom nobody may refuse."""

    def __init__(
        self, system: System, steady: Sequence[Client], customers: Sequence[Customer], held: Held
    ) -> None:
        self.clients = steady
        self.account_ids = {customer.account.account_id for customer in customers}
        self.held = held
        self._system = system

    async def until_served(self, *, seconds: float) -> None:
        """Wait until each client that nobody may refuse was paid for once more."""
        before = {client: client.payments for client in self.clients}

        async def served() -> bool:
            return all(client.payments > payments for client, payments in before.items())

        try:
            await until("every client was served again", served, seconds=seconds)
        except AssertionError as problem:
            waiting = [str(client) for client, payments in before.items() if client.payments == payments]
            raise AssertionError(f"{problem}; {waiting}; {dict(self.held.counted)}") from problem

    async def evidence(self, *, orchestrator: bool) -> Evidence:
        """What is held now. The orchestrator's list is long: it is not asked for each time."""
        evidence = Evidence(
            list(self.held.receipts), stops=list(self.held.stops), kills=list(self.held.kills)
        )
        if orchestrator:
            status = await self._system.orchestrator()
            evidence.accepted = {_ticket(record) for record in status["accepted"]}
            evidence.rejected = {_ticket(record): record["reason"] for record in status["rejected"]}
        return evidence

    async def entries(self) -> dict[str, bytes]:
        """What quota's buckets have now."""
        return await read_entries(self._system.world.nats_url("admin"))

    async def credit(self) -> dict[str, dict[str, Any]]:
        """What quota says of each account's credit."""
        paths = {account_id: f"/v1/accounts/{account_id}/credit" for account_id in self.account_ids}
        return {account_id: (await self._system.call("GET", path)).json for account_id, path in paths.items()}

    def problems(self) -> list[str]:
        """What clients and operators complained of since the last time."""
        found, self.held.problems = self.held.problems, []
        return found


@asynccontextmanager
async def load(
    system: System,
    random: Random,
    *,
    steady: int = CLIENTS_STEADY,
    refusable: int = CLIENTS_REFUSABLE,
) -> AsyncIterator[Load]:
    """Run clients and operators; when it is left all have stopped."""
    held = Held()
    await set_plans(system)
    good = [await open_steady(system) for _ in range(ACCOUNTS_STEADY)]
    bad = [await open_refusable(system, prepaid=number == 0) for number in range(ACCOUNTS_REFUSABLE)]
    clients = [
        Client(
            ByEitherEdge(system, number),
            customers[number % len(customers)],
            held,
            Random(random.random()),
            kind=KINDS[number % len(KINDS)],
            showing=SHOWINGS[(number + number // len(SHOWINGS)) % len(SHOWINGS)],
        )
        for customers, count in ((good, steady), (bad, refusable))
        for number in range(count)
    ]
    operators = [
        Operator(ByEitherEdge(system, number), customer, held, Random(random.random()))
        for number, customer in enumerate(bad if refusable else [])
    ]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    tasks += [asyncio.create_task(operator.run()) for operator in operators]
    running = Load(system, clients[:steady], [*good, *bad], held)
    try:
        await running.until_served(seconds=STARTED_SECONDS)
        yield running
    finally:
        held.stopping = True
        await asyncio.wait(tasks, timeout=STOPPED_SECONDS)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        held.problems += [repr(one) for one in ended if isinstance(one, Exception)]


def _ticket(record: dict[str, str]) -> TicketId:
    rand_hash = record["recipient_rand_hash"].removeprefix("0x")
    return TicketId(record["sender"].lower(), rand_hash, int(record["nonce"]))
