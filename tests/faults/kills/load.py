"""The load a kill happens under: clients, an operator, and what both hold, against one world."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

from tests.acceptance.system import System, until
from tests.faults.checker.rules import Evidence
from tests.faults.checker.tickets import TicketId
from tests.faults.kills.clients import KINDS, ByEitherEdge, Client, Customer, Held
from tests.faults.kills.operator import LIMIT_STEP_WEI, Operator

CLIENTS_STEADY, CLIENTS_REFUSABLE = 15, 9
ACCOUNTS_STEADY, ACCOUNTS_REFUSABLE = 3, 3
STEADY_LIMIT_WEI = 10**18
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
        evidence = Evidence(list(self.held.receipts))
        if orchestrator:
            status = await self._system.orchestrator()
            evidence.accepted = {_ticket(record) for record in status["accepted"]}
            evidence.rejected = {_ticket(record): record["reason"] for record in status["rejected"]}
        return evidence

    def problems(self) -> list[str]:
        """What clients and operator complained of since the last time."""
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
    """Run clients and operator; when it is left all have stopped."""
    held = Held()
    good = [Customer(await system.open_account(STEADY_LIMIT_WEI)) for _ in range(ACCOUNTS_STEADY)]
    bad = [
        Customer(await system.open_account(LIMIT_STEP_WEI), refusable=True) for _ in range(ACCOUNTS_REFUSABLE)
    ]
    clients = [
        Client(
            ByEitherEdge(system, number),
            customers[number % len(customers)],
            held,
            Random(random.random()),
            KINDS[number % len(KINDS)],
        )
        for customers, count in ((good, steady), (bad, refusable))
        for number in range(count)
    ]
    operator = Operator(ByEitherEdge(system, 1), bad, held, Random(random.random()))
    tasks = [asyncio.create_task(client.run()) for client in clients]
    tasks.append(asyncio.create_task(operator.run()))
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
