"""Clients that pay as fast as they are served, so that a fault always hits somebody's payment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.acceptance.signer_log import TicketId
from tests.acceptance.system import Account, Answer, System, until
from tests.acceptance.wire import Challenge, Paid, Payer, request

CLIENTS = 4
PAUSE_SECONDS = 0.05
REFRESH = 480


class Client:
    """One session. It treats each status as the SDK does, only faster."""

    def __init__(self, payer: Payer) -> None:
        self.payer = payer
        self.manifest_id = ""
        self.receipts: dict[TicketId, bytes] = {}
        self.payments = 0
        self.faults = 0
        self.problems: list[str] = []

    async def run(self) -> None:
        challenge = await self.payer.challenge()
        self.manifest_id = challenge.manifest_id
        paid = await self.payer.pay(challenge)
        await self._deliver(challenge, paid, await self.payer.reserve(challenge, paid))
        while not self.problems:
            await asyncio.sleep(PAUSE_SECONDS)
            challenge, paid = await self._pay_once(challenge, paid)

    async def _pay_once(self, challenge: Challenge, paid: Paid) -> tuple[Challenge, Paid]:
        """Pay, or return what there was, to be tried again with the very same bytes."""
        try:
            answer = await self.payer.ask(request(challenge, paid.state))
        except (aiohttp.ClientError, OSError):
            self.faults += 1
            return challenge, paid
        if answer.status == REFRESH:
            return await self.payer.refresh(challenge), paid
        if answer.status != 200:
            self.faults += 1
            if answer.status < 500 and answer.status != 429:
                self.problems.append(f"{answer.status}: {answer.body!r}")  # the SDK would stop for good
            return challenge, paid
        paid = Paid.read(answer)
        await self._deliver(challenge, paid, await self.payer.deliver(challenge, paid))
        return challenge, paid

    async def _deliver(self, challenge: Challenge, paid: Paid, delivered: Answer) -> None:
        self.receipts |= paid.tickets
        self.payments += 1
        if delivered.status != 200:
            self.problems.append(f"{challenge.manifest_id}: {delivered.body!r}")


class Traffic:
    def __init__(self, clients: list[Client], tasks: list[asyncio.Task[None]]) -> None:
        self.clients = clients
        self._tasks = tasks

    @property
    def receipts(self) -> dict[TicketId, bytes]:
        return {ticket: sig for client in self.clients for ticket, sig in client.receipts.items()}

    @property
    def problems(self) -> list[str]:
        return [problem for client in self.clients for problem in client.problems]

    @property
    def manifest_ids(self) -> list[str]:
        return [client.manifest_id for client in self.clients]

    async def until_all_paid_again(self, *, seconds: float) -> None:
        """Wait until each client was served a few times more."""
        wanted = [client.payments + 3 for client in self.clients]

        async def served() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            assert not self.problems, self.problems
            return all(client.payments >= least for client, least in zip(self.clients, wanted, strict=True))

        await until("every client was served again", served, seconds=seconds)


@asynccontextmanager
async def traffic(system: System, account: Account) -> AsyncIterator[Traffic]:
    clients = [Client(Payer(system, account)) for _ in range(CLIENTS)]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    running = Traffic(clients, tasks)
    try:
        await running.until_all_paid_again(seconds=10)
        yield running
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
