"""An operator who never rests: keys revoked and issued anew, accounts suspended, limits moved.

Each command is repeated until it is answered, as an operator would.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import aiohttp

from tests.acceptance.system import Account, Answer, System
from tests.faults.kills.clients import Customer, Held

PAUSE_SECONDS = (0.2, 1.0)
RETRY_SECONDS = 0.2
LIMIT_STEP_WEI = 3 * 10**13  # some three hundred tickets


class Operator:
    """Works on the customers that may be refused."""

    def __init__(self, system: System, customers: list[Customer], held: Held, random: Random) -> None:
        self._system = system
        self._customers = customers
        self._held = held
        self._random = random
        self._limits: dict[str, int] = {}

    async def run(self) -> None:
        actions: list[Callable[[Customer], Awaitable[None]]] = [
            self._move_limit,
            self._move_limit,
            self._change_key,
            self._suspend_for_a_moment,
        ]
        while not self._held.stopping:
            await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))
            await self._random.choice(actions)(self._random.choice(self._customers))

    async def _move_limit(self, customer: Customer) -> None:
        """Mostly up, for what was spent stays spent; sometimes below what was spent."""
        account_id = customer.account.account_id
        step = self._random.choice([LIMIT_STEP_WEI, LIMIT_STEP_WEI, -LIMIT_STEP_WEI])
        self._limits[account_id] = max(0, self._limits.get(account_id, 0) + step)
        body = {"spend_limit_wei": str(self._limits[account_id])}
        await self._command("PUT", f"{account_id}/limits", body)
        self._held.counted["limits moved"] += 1

    async def _change_key(self, customer: Customer) -> None:
        """Issue a key, hand it to the clients, revoke the one before."""
        account_id, before = customer.account.account_id, customer.account
        issued = await self._command("POST", f"{account_id}/keys", {})
        customer.account = Account.of(issued.json)
        await self._command("DELETE", f"{account_id}/keys/{before.key_id}", None)
        self._held.counted["keys revoked"] += 1

    async def _suspend_for_a_moment(self, customer: Customer) -> None:
        account_id = customer.account.account_id
        await self._command("POST", f"{account_id}/suspend", {"reason": "unpaid"})
        await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))
        await self._command("POST", f"{account_id}/resume", None)
        self._held.counted["accounts suspended"] += 1

    async def _command(self, method: str, path: str, body: Any) -> Answer:
        while True:
            try:
                answer = await self._system.call(method, f"/v1/accounts/{path}", body=body)
            except (aiohttp.ClientError, OSError):
                pass
            else:
                if answer.status < 500:
                    if answer.status >= 400:
                        self._held.problems.append(f"{method} {path}: {answer.status} {answer.body!r}")
                    return answer
            await asyncio.sleep(RETRY_SECONDS)
