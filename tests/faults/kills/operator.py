"""Operators who never rest: limits, plans, credit, keys, suspensions, stops.

Each works on one customer, one command after the other, and repeats each until it is answered.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import aiohttp

from tests.acceptance.system import Account, Answer, System
from tests.faults.checker.evidence import Stopped
from tests.faults.kills.clients import Held
from tests.faults.kills.customers import (
    LIMIT_STEP_WEI,
    TICKET_MICRO_USD,
    USERS,
    Customer,
)

PAUSE_SECONDS = (0.5, 3.0)
STOP_SECONDS = (3.0, 7.0)  # longer than a stop takes to be obeyed
RETRY_SECONDS = 0.2
REASON = "kills"


class Operator:
    """Works on a customer that may be refused."""

    def __init__(self, system: System, customer: Customer, held: Held, random: Random) -> None:
        self._system = system
        self._customer = customer
        self._held = held
        self._random = random
        self._limits: dict[str, dict[str, int]] = {}  # as they are set, by path
        self._grants: list[str] = []  # of credit

    async def run(self) -> None:
        actions: list[Callable[[], Awaitable[None]]] = [
            self._move_account_limits,
            self._move_account_limits,
            self._move_user_limits,
            self._move_user_limits,
            self._move_key_limits,
            self._change_plan,
            self._change_key,
            self._suspend_for_a_moment,
            self._stop_for_a_moment,
            self._stop_for_a_moment,
            *([self._change_credit] * 3 if self._customer.prepaid else []),
        ]
        while not self._held.stopping:
            await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))
            await self._random.choice(actions)()

    # Limits, plans and credit

    async def _move_account_limits(self) -> None:
        limits = {"spend_limit_wei": LIMIT_STEP_WEI}
        rules = {"credit_limit_micro_usd": 0} if self._customer.prepaid else {}
        await self._move(self._path, limits, rules)

    async def _move_user_limits(self) -> None:
        """The rule of it is checked by signers, what it may spend by quota."""
        limits = {
            "spend_per_hour_wei": LIMIT_STEP_WEI // 2,
            "spend_per_day_micro_usd": 200 * TICKET_MICRO_USD,
            "sessions_max": 1,
        }
        rules = {"payments_per_second": self._random.randint(3, 100)}
        await self._move(f"{self._path}/users/{self._random.choice(USERS)}", limits, rules)

    async def _move_key_limits(self) -> None:
        limits = {"spend_per_month_wei": LIMIT_STEP_WEI, "spend_limit_micro_usd": 300 * TICKET_MICRO_USD}
        apps = self._random.choice([["demo/echo", "demo/pixels"], ["demo/echo", "demo/pixels", "demo/once"]])
        await self._move(f"{self._path}/keys/{self._account.key_id}", limits, {"apps": apps})

    async def _move(self, path: str, steps: dict[str, int], rules: dict[str, Any]) -> None:
        """Mostly up, for what was spent stays spent; sometimes below what was spent."""
        limits = self._limits.setdefault(path, dict.fromkeys(steps, 0))
        for name, step in steps.items():
            limits[name] = max(0, limits[name] + self._random.choice([step, step, -step]))
        told = {name: str(limit) if name.endswith("_wei") else limit for name, limit in limits.items()}
        await self._command("PUT", f"{path}/limits", {**told, **rules, "reason": REASON})
        self._held.counted["limits moved"] += 1

    async def _change_plan(self) -> None:
        plan = self._random.choice(["tight", "tight", None])
        await self._command("PUT", f"{self._path}/plan", {"plan": plan, "reason": REASON})
        self._held.counted["plans assigned"] += 1

    async def _change_credit(self) -> None:
        """Mostly grant some; sometimes take back what is left of the last."""
        if self._grants and self._random.random() < 0.3:
            await self._command("DELETE", f"{self._path}/credit/{self._grants[-1]}?reason={REASON}", None)
            self._held.counted["credit taken back"] += 1
            return
        grant_id = f"grant-{len(self._grants)}"
        body = {
            "grant_id": grant_id,
            "amount_micro_usd": self._random.randint(20, 200) * TICKET_MICRO_USD,
            "priority": self._random.choice([10, 100]),
            "reason": REASON,
        }
        await self._command("POST", f"{self._path}/credit", body)
        self._grants.append(grant_id)
        self._held.counted["credit granted"] += 1

    # Keys, suspensions and stops

    async def _change_key(self) -> None:
        """Issue a key, hand it to the clients, revoke the one before."""
        before = self._account
        issued = await self._command("POST", f"{self._path}/keys", {})
        self._customer.account = Account.of(issued.json)
        await self._command("DELETE", f"{self._path}/keys/{before.key_id}", None)
        self._held.counted["keys revoked"] += 1

    async def _suspend_for_a_moment(self) -> None:
        await self._command("POST", f"{self._path}/suspend", {"reason": "unpaid"})
        await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))
        await self._command("POST", f"{self._path}/resume", None)
        self._held.counted["accounts suspended"] += 1

    async def _stop_for_a_moment(self) -> None:
        """The account, its one key, or a user. What is late is found in the log: `stops_are_obeyed`."""
        account_id, user_id = self._account.account_id, self._random.choice(USERS)
        what, value, user = self._random.choice(
            [
                ("account", account_id, None),
                ("key", self._account.key_id, None),
                ("user", f"{account_id}:{user_id}", user_id),
            ]
        )
        body = {"stops": [{"what": what, "value": value}], "reason": REASON}
        await self._command("POST", "/v1/stops", body)
        acknowledged_at = datetime.now(UTC)
        await asyncio.sleep(self._random.uniform(*STOP_SECONDS))
        lifted_at = datetime.now(UTC)
        self._held.stops.append(Stopped(account_id, user, acknowledged_at, lifted_at))
        await self._command("POST", "/v1/stops/lift", body)
        self._held.counted["stops set and lifted"] += 1

    @property
    def _account(self) -> Account:
        return self._customer.account

    @property
    def _path(self) -> str:
        return f"/v1/accounts/{self._account.account_id}"

    async def _command(self, method: str, path: str, body: Any) -> Answer:
        while True:
            try:
                answer = await self._system.call(method, path, body=body)
            except (aiohttp.ClientError, OSError):
                pass
            else:
                if answer.status < 500:
                    if answer.status >= 400:
                        self._held.problems.append(f"{method} {path}: {answer.status} {answer.body!r}")
                    return answer
            await asyncio.sleep(RETRY_SECONDS)
