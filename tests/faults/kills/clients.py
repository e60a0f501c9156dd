"""Clients that never stop: each keeps a receipt of every ticket it ever got, whatever dies meanwhile.

They do what the SDK and gateways do, only faster: the same bytes again after a fault, new params on
480, a new session when one ends. What our answers may not be (a good key refused, a bad request) is
written down as a problem.
"""

import asyncio
import json
from base64 import b64decode, b64encode
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

import aiohttp

from tests.acceptance.system import Answer, System
from tests.acceptance.wire import SIGNER, Challenge, Paid, Payer, request
from tests.faults.checker.evidence import Killed, Stopped
from tests.faults.checker.tickets import Receipt
from tests.faults.kills.customers import Customer, Showing

PAUSE_SECONDS = (0.1, 0.5)  # between two payments of a session
RETRY_SECONDS = 0.2
PAYMENTS = (5, 60)  # of a session
REFRESH, REFRESHES_MAX = 480, 4
NO_ANSWER = Answer(0, {}, b"")
CHANGES_MIND = 0.2  # how often a client does not repeat its bytes after a fault, but has new params
TAKES_ANOTHER = 0.5  # how often a session begins with another session token than the one before
RENEWS = 0.05  # how often it goes on with another
TOKENS, TOKEN_SECONDS = "/v1/tokens", 3600
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


@dataclass(frozen=True)
class Kind:
    """A way to pay: which runner, which type, and whether the first request names its manifest."""

    app: str
    job_type: str
    named: bool


KINDS = (
    Kind("demo/echo", "live", named=True),
    Kind("demo/echo", "live", named=False),
    Kind("demo/pixels", "lv2v", named=True),
    Kind("demo/pixels", "lv2v", named=False),
    Kind("demo/once", "fixed", named=True),
    Kind("demo/once", "fixed", named=False),
)


@dataclass
class Held:
    """What clients and operators hold together."""

    receipts: list[Receipt] = field(default_factory=list)
    stops: list[Stopped] = field(default_factory=list)
    kills: list[Killed] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    stopping: bool = False  # what is under way is answered yet, so that no receipt is lost


class StoppedError(Exception):
    """The load ends."""


class UnservedError(Exception):
    """No answer, or none that helps; the session is given up."""


class SessionOverError(Exception):
    """The signer or the orchestrator ended the session."""


class ByEitherEdge(System):
    """The system by way of one edge, and of the next when that one does not serve."""

    def __init__(self, system: System, first: int) -> None:
        super().__init__(system.world, system.supervisor, system.http)
        urls = system.world.public_urls
        self._urls = urls[first % len(urls) :] + urls[: first % len(urls)]

    async def send(self, method: str, url: str, **content: Any) -> Answer:
        if "://" in url:
            return await super().send(method, url, **content)
        try:
            answer = await super().send(method, self._urls[0] + url, **content)
        except (aiohttp.ClientError, OSError):
            self._urls.append(self._urls.pop(0))
            raise
        if answer.status == 503:
            self._urls.append(self._urls.pop(0))
        return answer


class Client:
    """One client with one session after the other. `payments` counts what it was answered."""

    def __init__(
        self, system: System, customer: Customer, held: Held, random: Random, *, kind: Kind, showing: Showing
    ) -> None:
        self.customer = customer
        self.kind = kind
        self.payments = 0
        self._showing = showing
        self._token = ""
        self.last = "nothing answered yet"
        self._system = system
        self._held = held
        self._random = random

    def __str__(self) -> str:
        return f"{self.customer.account.account_id} {self.kind}, {self.payments} payments, {self.last}"

    async def run(self) -> None:
        while True:
            try:
                await self._session()
            except StoppedError:
                return
            except UnservedError:
                self._held.counted["sessions given up"] += 1
            except SessionOverError:
                self._held.counted["sessions ended by others"] += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def _session(self) -> None:
        """Open, pay for a while, leave. A first request that names no manifest is not delivered."""
        if not self._token or self._random.random() < TAKES_ANOTHER:
            await self._renew_token()
        challenge = await self._challenge()
        anonymous = {} if self.kind.named else {"ManifestID": None}
        paid = await self._pay(challenge, None, **anonymous)
        self._held.counted["sessions"] += 1
        if self.kind.job_type == "fixed":
            if self.kind.named:
                await self._reserve(challenge, paid)
            return
        if not self.kind.named:
            challenge, paid = await self._pay_on(challenge, paid)
        await self._reserve(challenge, paid)
        for _ in range(self._random.randint(*PAYMENTS)):
            await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))
            if self._random.random() < RENEWS:
                await self._renew_token()
            challenge, paid = await self._pay_on(challenge, paid)
            await self._deliver(challenge, paid)

    async def _pay(self, challenge: Challenge, state: Any, **changes: Any) -> Paid:
        """The first payment; new params make a new challenge, as the SDK has it."""
        body = self._body(challenge, state, **changes)
        answer = await self._answer(body)
        if answer.status != 200:
            raise SessionOverError(answer.status)
        return self._keep(body, answer, once=bool(challenge.manifest_id and "ManifestID" not in changes))

    async def _pay_on(self, challenge: Challenge, paid: Paid) -> tuple[Challenge, Paid]:
        """The next payment of a session, with as many new params as that takes."""
        refreshes = 0
        while refreshes <= REFRESHES_MAX:
            body = self._body(challenge, paid.state)
            answer = await self._answer(body, once=self._random.random() < CHANGES_MIND)
            if answer.status == 200:
                return challenge, self._keep(body, answer, once=True)
            if answer.status == 482:
                await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))
            elif answer.status == REFRESH or _is_fault(answer):
                challenge = await self._refresh(challenge)
                refreshes += 1
            else:
                raise SessionOverError(answer.status)
        raise SessionOverError(REFRESH)

    def _body(self, challenge: Challenge, state: Any, **changes: Any) -> bytes:
        return request(challenge, state, **{"type": self.kind.job_type, "app": self.kind.app, **changes})

    async def _answer(self, body: bytes, *, once: bool = False) -> Answer:
        """Ask with the same bytes until somebody answers; once if the client would rather change them."""
        while True:
            answer = await self._try("POST", SIGNER, data=body) or NO_ANSWER
            if not _is_fault(answer):
                self._judge(answer)
                return answer
            self._held.counted["faults"] += 1
            if once:
                return answer
            self._held.counted["requests repeated"] += 1
            await asyncio.sleep(RETRY_SECONDS)

    def _judge(self, answer: Answer) -> None:
        """Write down an answer that this client may not get."""
        allowed = {200, REFRESH, 482} | ({401, 402, 403} if self.customer.refusable else set())
        if answer.status not in allowed:
            self._problem(f"refused with {answer.status}: {answer.body!r}")

    def _keep(self, body: bytes, answer: Answer, *, once: bool) -> Paid:
        paid = Paid.read(answer)
        digest = b64encode(sha256(body).digest()[:16]).decode()
        receipt = Receipt(
            account_id=self.customer.account.account_id,
            session_id=paid.session_id,
            payment=b64decode(paid.payment),
            digest=digest if once else "",
        )
        self._held.receipts.append(receipt)
        self._held.counted["payments received"] += 1
        self._held.counted["tickets received"] += len(paid.nonces)
        self.payments += 1
        return paid

    # What is no payment

    async def _renew_token(self) -> None:
        """Exchange the key for a session token of its user, if this client shows one."""
        if self._showing != Showing.TOKEN:
            return
        body = {
            "grant_type": EXCHANGE,
            "user_id": self.customer.user_of(self._showing),
            "expires_in": TOKEN_SECONDS,
            "limits": self.customer.token_limits,
        }
        account, self._token = self.customer.account, ""
        answer = await self._try("POST", TOKENS, data=json.dumps(body).encode(), headers=account.headers)
        if answer is None or answer.status != 200:
            if answer is not None and not _is_fault(answer) and not self.customer.refusable:
                self._problem(f"no session token: {answer.status} {answer.body!r}")
            raise UnservedError(TOKENS)
        self._token = answer.json["access_token"]
        self._held.counted["session tokens"] += 1

    def _credentials(self) -> dict[str, str]:
        """Of the account's key now, or the token that was made of one."""
        if self._token:
            return {"Authorization": f"Bearer {self._token}"}
        user_id = self.customer.user_of(self._showing)
        named = {"Clearinghouse-User": user_id} if user_id else {}
        return {**self.customer.account.headers, **named}

    async def _challenge(self) -> Challenge:
        found = await self._ask("GET", "/discover-orchestrators", wanted=200)
        runners = [runner for entry in found.json for runner in entry["runners"]]
        urls = [runner["url"] for runner in runners if runner["app"] == self.kind.app]
        if not urls:
            raise UnservedError("nobody is listed")
        payer = {"Livepeer-Payer-Address": await self._payer_address()}
        asked = (await self._ask("POST", urls[0], wanted=402, data=b"{}", headers=payer)).json
        return Challenge(asked["payment_params"], asked["manifest_id"], asked["payment_url"], urls[0])

    async def _refresh(self, challenge: Challenge) -> Challenge:
        self._held.counted["params refreshed"] += 1
        payer = Payer(self._system, self.customer.account)
        try:
            return await payer.refresh(challenge)
        except (aiohttp.ClientError, OSError, KeyError) as problem:
            raise UnservedError(repr(problem)) from problem

    async def _payer_address(self) -> str:
        answer = await self._ask("POST", "/sign-orchestrator-info", wanted=200, data=b"{}")
        return str(answer.json["address"])

    async def _reserve(self, challenge: Challenge, paid: Paid) -> None:
        """Deliver the payment that opens the session at the orchestrator."""
        await self._hand_over(challenge.runner_url, paid, data=b"{}")

    async def _deliver(self, challenge: Challenge, paid: Paid) -> None:
        await self._hand_over(challenge.payment_url, paid)

    async def _hand_over(self, url: str, paid: Paid, **content: Any) -> None:
        headers = {"Livepeer-Payment": paid.payment, "Livepeer-Segment": paid.credentials}
        answer = await self._try("POST", url, headers=headers, **content)
        if answer is None or answer.status != 200:
            text = "no answer" if answer is None else f"{answer.status} {answer.body[:80]!r}"
            self._held.counted[f"orchestrator: {text}"] += 1
            raise SessionOverError(text)

    async def _ask(self, method: str, url: str, *, wanted: int, **content: Any) -> Answer:
        answer = await self._try(method, url, **content)
        if answer is None or answer.status != wanted:
            raise UnservedError(url)
        return answer

    async def _try(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, **content: Any
    ) -> Answer | None:
        """One request; None if the connection broke or nobody answered in time."""
        if self._held.stopping:
            raise StoppedError
        headers = {"Content-Type": "application/json", **(headers or self._credentials())}
        try:
            answer = await self._system.send(method, url, headers=headers, **content)
        except (aiohttp.ClientError, OSError) as problem:
            self.last = f"{url}: {problem!r}"
            return None
        self.last = f"{url}: {answer.status} {answer.body[:99]!r}"
        return answer

    def _problem(self, text: str) -> None:
        self._held.problems.append(f"{self.customer.account.account_id}, {self.kind}: {text}")


def _is_fault(answer: Answer) -> bool:
    """Whether asking again may help."""
    return answer.status in {NO_ANSWER.status, 429} or answer.status >= 500
