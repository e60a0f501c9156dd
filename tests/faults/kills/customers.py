"""The accounts of the matrix: plans, limits of users and keys, credit; and what their clients show."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.acceptance.system import Account, System

TICKET_WEI = 10**11
TICKET_MICRO_USD = 300  # at the rate of the world, rounded up
LIMIT_STEP_WEI = 300 * TICKET_WEI
AMPLE_WEI, AMPLE_MICRO_USD = 10**18, 10**12
TOKEN_USER, HEADER_USER = "ann", "bob"
USERS = (TOKEN_USER, HEADER_USER)

# Whoever is on `ample` is never refused, and has books of everybody all the same.
PLANS: dict[str, dict[str, Any]] = {
    "ample": {
        "limits": {"spend_per_day_wei": str(AMPLE_WEI), "spend_per_hour_micro_usd": AMPLE_MICRO_USD},
        "user_limits": {"spend_per_hour_wei": str(AMPLE_WEI), "sessions_max": 10_000},
        "key_limits": {"spend_per_month_micro_usd": AMPLE_MICRO_USD, "payments_per_second": 10_000},
        "rank": 9,
    },
    "tight": {
        "limits": {"spend_per_hour_micro_usd": 1500 * TICKET_MICRO_USD},
        "user_limits": {"spend_per_hour_wei": str(400 * TICKET_WEI), "sessions_max": 2},
        "key_limits": {"spend_limit_wei": str(600 * TICKET_WEI)},
        "rank": 5,
    },
}
AMPLE_TOKEN = {"spend_limit_wei": str(AMPLE_WEI), "sessions_max": 10_000}
TIGHT_TOKEN = {"spend_limit_micro_usd": 100 * TICKET_MICRO_USD, "sessions_max": 1}


class Showing(Enum):
    """What a client shows: its account's key, the key and a user's name, or a user's session token."""

    KEY = "key"
    USER = "user"
    TOKEN = "token"


@dataclass
class Customer:
    """An account that several clients share. `refusable`: an operator takes from it what it has."""

    account: Account
    refusable: bool = False
    prepaid: bool = False  # it may spend what was granted to it, and no more
    token_limits: dict[str, Any] = field(default_factory=lambda: dict(AMPLE_TOKEN))

    @staticmethod
    def user_of(showing: Showing) -> str | None:
        return {Showing.TOKEN: TOKEN_USER, Showing.USER: HEADER_USER}.get(showing)


async def set_plans(system: System) -> None:
    for name, plan in PLANS.items():
        await _put(system, f"/v1/plans/{name}", plan)


async def open_steady(system: System) -> Customer:
    """One that nobody may refuse; it draws on credit at first, then it owes."""
    customer = Customer(await system.open_account(AMPLE_WEI))
    account_id = customer.account.account_id
    await _put(system, f"/v1/accounts/{account_id}/plan", {"plan": "ample"})
    body = {"grant_id": "first", "amount_micro_usd": 1000 * TICKET_MICRO_USD, "reason": "test"}
    granted = await system.call("POST", f"/v1/accounts/{account_id}/credit", body=body)
    assert granted.status == 201, granted
    limits = {"spend_limit_wei": str(AMPLE_WEI), "credit_limit_micro_usd": AMPLE_MICRO_USD}
    await _put(system, f"/v1/accounts/{account_id}/limits", limits)
    return customer


async def open_refusable(system: System, *, prepaid: bool) -> Customer:
    """One that an operator works on."""
    account = await system.open_account(LIMIT_STEP_WEI)
    await _put(system, f"/v1/accounts/{account.account_id}/plan", {"plan": "tight"})
    return Customer(account, refusable=True, prepaid=prepaid, token_limits=dict(TIGHT_TOKEN))


async def _put(system: System, path: str, body: dict[str, Any]) -> None:
    answer = await system.call("PUT", path, body={**body, "reason": "test"})
    assert answer.status == 200, answer
