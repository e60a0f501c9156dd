"""Clients who pay while others import for the same accounts, so that the relay has something to bring."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

from tests.acceptance.system import Account, System
from tests.faults.kills.clients import KINDS, ByEitherEdge, Client, Held
from tests.faults.kills.customers import Customer, Showing
from tests.faults.kills.load import Load

SHOWINGS = tuple(Showing)
STARTED_SECONDS, STOPPED_SECONDS = 120, 30


@asynccontextmanager
async def paying(system: System, accounts: Sequence[Account], random: Random) -> AsyncIterator[Load]:
    """A client for each way to pay; none may be refused. When it is left all have stopped."""
    held, customers = Held(), [Customer(account) for account in accounts]
    clients = [
        Client(
            ByEitherEdge(system, number),
            customers[number % len(customers)],
            held,
            Random(random.random()),
            kind=kind,
            showing=SHOWINGS[number // 2 % len(SHOWINGS)],
        )
        for number, kind in enumerate(KINDS)
    ]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    running = Load(system, clients, customers, held)
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
