"""Clients whose every answer is timed: sessions that pay, and an operator who looks at everything."""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

import aiohttp

from services.edge import keys
from tests.acceptance.signer_log import TicketId
from tests.acceptance.system import Account, Answer, System
from tests.acceptance.traffic import REFRESH, Client
from tests.acceptance.wire import Challenge, Paid, Payer, request
from tilt.supervisor import Supervisor
from tilt.world import World

PATIENCE = aiohttp.ClientTimeout(total=4)  # an answer later than this was never given
OURS = ("/generate-live-payment", "/sign-orchestrator-info", "/discover-orchestrators", "/v1/")
OPERATOR_PAUSE_SECONDS = 0.1
NEWCOMER_PAUSE_SECONDS = 0.3
PAUSE_SECONDS = 0.1
# No answer, or one without the address, the orchestrators or the params that were asked for.
NOTHING_CAME = (aiohttp.ClientError, OSError, KeyError, IndexError, AssertionError)


@dataclass(frozen=True, slots=True)
class Timed:
    """One request to an edge of ours; status 0 if no answer came."""

    at: float  # by the monotonic clock, when it was sent
    edge: str
    path: str
    status: int
    seconds: float
    says_when: bool  # whether it has Retry-After
    text: str

    @property
    def ended_at(self) -> float:
        return self.at + self.seconds


class Observed(System):
    """A client's view of the system: by one edge, and by another once that says nothing.

    As a load balancer does it, so that a halted edge costs a client one request.
    """

    def __init__(
        self,
        world: World,
        supervisor: Supervisor,
        http: aiohttp.ClientSession,
        timed: list[Timed],
        edge: int = 0,
    ) -> None:
        super().__init__(world, supervisor, http)
        self._timed = timed
        self._edge = edge

    async def send(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        if not url.startswith(OURS):
            return await super().send(method, url, data=data, headers=headers)
        edge = self.world.public_urls[self._edge % len(self.world.public_urls)]
        at, answer = time.monotonic(), None
        try:
            async with self.http.request(
                method, edge + url, data=data, headers=headers, timeout=PATIENCE
            ) as got:
                answer = Answer(got.status, got.headers, await got.read())
        except (OSError, aiohttp.ClientError):
            self._edge += 1
            raise
        finally:
            self._timed.append(_timed(at, edge, url, answer))
        return answer


class PayingClient(Client):
    """One session that goes on through everything; what the orchestrator cannot take now, it loses."""

    undelivered = 0

    async def run(self) -> None:
        while not (opened := await self._open()):
            await asyncio.sleep(PAUSE_SECONDS)
        challenge, paid = opened
        while not self.problems:
            await asyncio.sleep(PAUSE_SECONDS)
            challenge, paid = await self._pay_once(challenge, paid)

    async def _open(self) -> tuple[Challenge, Paid] | None:
        try:
            challenge = await self.payer.challenge()
            self.manifest_id = challenge.manifest_id
            answer = await self.payer.ask(request(challenge))
        except NOTHING_CAME:
            return None
        if answer.status != 200:
            return None
        paid = Paid.read(answer)
        self._take(paid)
        await self._offer(self.payer.reserve(challenge, paid))
        return challenge, paid

    def _take(self, paid: Paid) -> None:
        self.receipts |= paid.tickets
        self.payments += 1

    async def _offer(self, delivery: Awaitable[Answer]) -> None:
        try:
            self.undelivered += (await delivery).status != 200
        except (aiohttp.ClientError, OSError):
            self.undelivered += 1

    async def _pay_once(self, challenge: Challenge, paid: Paid) -> tuple[Challenge, Paid]:
        try:
            answer = await self.payer.ask(request(challenge, paid.state))
            if answer.status == REFRESH:
                return await self.payer.refresh(challenge), paid
        except NOTHING_CAME:
            self.faults += 1
            return challenge, paid
        if answer.status != 200:
            self.faults += 1
            if answer.status < 500 and answer.status != 429:
                self.problems.append(f"{answer.status}: {answer.body!r}")  # the SDK would stop for good
            return challenge, paid
        paid = Paid.read(answer)
        self._take(paid)
        await self._offer(self.payer.deliver(challenge, paid))
        return challenge, paid


class Newcomers:
    """Opens one session after the other and leaves it: each has to ask quota."""

    def __init__(self, payer: Payer) -> None:
        self.payer = payer
        self.receipts: dict[TicketId, bytes] = {}
        self.problems: list[str] = []

    async def run(self) -> None:
        while True:
            await asyncio.sleep(NEWCOMER_PAUSE_SECONDS)
            await self.open_one()

    async def open_one(self) -> bool:
        try:
            answer = await self.payer.ask(request(await self.payer.challenge()))
        except NOTHING_CAME:
            return False
        if answer.status == 200:
            self.receipts |= Paid.read(answer).tickets
        elif answer.status < 500 and answer.status not in {REFRESH, 429}:
            self.problems.append(f"{answer.status}: {answer.body!r}")
        return answer.status == 200


class Operator:
    """Asks for everything there is to read, again and again; each service answers some of it."""

    def __init__(
        self, system: System, account: Account, *, pause_seconds: float = OPERATOR_PAUSE_SECONDS
    ) -> None:
        self._system = system
        self._account = account
        self._pause_seconds = pause_seconds
        account_id = account.account_id
        self._reads = (
            f"/v1/accounts/{account_id}",
            f"/v1/accounts/{account_id}/keys",
            f"/v1/accounts/{account_id}/limits",
            f"/v1/accounts/{account_id}/usage",
            f"/v1/accounts/{account_id}/sessions",
            "/v1/pools",
        )

    async def run(self) -> None:
        while True:
            await self.look()

    async def look(self) -> bool:
        """Make one round; tell whether all was answered as on a good day."""
        answers = [await self._one("GET", path, self._system.world.admin_key) for path in self._reads]
        answers += [
            await self._one("GET", "/discover-orchestrators", self._account.api_key),
            await self._one("POST", "/sign-orchestrator-info", self._account.api_key),
        ]
        unknown = await self._one("GET", "/discover-orchestrators", keys.make().text)
        return set(answers) == {200} and unknown == 401

    async def _one(self, method: str, path: str, key: str) -> int:
        await asyncio.sleep(self._pause_seconds)
        headers = {"Authorization": f"Bearer {key}"}
        try:
            answer = await self._system.send(
                method, path, data=b"{}" if method == "POST" else None, headers=headers
            )
        except (aiohttp.ClientError, OSError):
            return 0
        return answer.status


def _timed(at: float, edge: str, path: str, answer: Answer | None) -> Timed:
    seconds = time.monotonic() - at
    if answer is None:
        return Timed(at, edge, path, 0, seconds, says_when=False, text="")
    text = answer.body[:300].decode(errors="replace") if answer.status >= 400 else ""
    return Timed(at, edge, path, answer.status, seconds, "Retry-After" in answer.headers, text)
