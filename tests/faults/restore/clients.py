"""Clients that pay whatever happens to the store, each one session after the other, with receipts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.acceptance.system import Account, Answer, System
from tests.acceptance.traffic import CLIENTS, PAUSE_SECONDS, Traffic
from tests.acceptance.traffic import Client as OneSession
from tests.acceptance.wire import Challenge, Paid, Payer

RETRY_SECONDS = 0.5
START_SECONDS = 60


class Refreshing(Payer):
    """Counts how often it was sent for new params."""

    refreshes = 0

    async def refresh(self, challenge: Challenge) -> Challenge:
        self.refreshes += 1
        return await super().refresh(challenge)


class Client(OneSession):
    """Begins a new session when the orchestrator has given the old one up: it waits some seconds only."""

    def __init__(self, payer: Payer) -> None:
        super().__init__(payer)
        self.sessions = 0
        self._is_over = False

    async def run(self) -> None:
        while not self.problems:
            try:
                await self._session()
            except (aiohttp.ClientError, OSError, AssertionError, KeyError, IndexError):
                self.faults += 1  # no challenge, or no first payment: we are away
                await asyncio.sleep(RETRY_SECONDS)

    async def _session(self) -> None:
        self._is_over = False
        challenge = await self.payer.challenge()
        self.manifest_id = challenge.manifest_id
        paid = await self.payer.pay(challenge)
        await self._deliver(challenge, paid, await self.payer.reserve(challenge, paid))
        self.sessions += 1
        while not self._is_over and not self.problems:
            await asyncio.sleep(PAUSE_SECONDS)
            challenge, paid = await self._pay_once(challenge, paid)

    async def _deliver(self, _: Challenge, paid: Paid, delivered: Answer) -> None:
        again = paid.tickets.keys() & self.receipts.keys()
        self.problems += [f"came a second time: {ticket}" for ticket in again]
        self.receipts |= paid.tickets
        self.payments += 1
        if delivered.status != 200:
            self._is_over = True


class Customers(Traffic):
    def __init__(
        self, clients: list[OneSession], tasks: list[asyncio.Task[None]], payers: list[Refreshing]
    ) -> None:
        super().__init__(clients, tasks)
        self._payers = payers

    @property
    def refreshes(self) -> int:
        return sum(payer.refreshes for payer in self._payers)


@asynccontextmanager
async def customers(system: System, account: Account) -> AsyncIterator[Customers]:
    payers = [Refreshing(system, account) for _ in range(CLIENTS)]
    clients = [Client(payer) for payer in payers]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    running = Customers(list(clients), tasks, payers)
    try:
        await running.until_all_paid_again(seconds=START_SECONDS)
        yield running
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
