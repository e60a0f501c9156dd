"""What an operator changes: limits of accounts, users, keys and session tokens; plans, credit, time zones."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

from contracts.credit import GrantCredit, VoidCredit
from contracts.limits import AssignPlan, Limits, Plan, SetLimits, SetPlan, SetTimeZone
from contracts.message import Command
from tests.faults.crashes.customers import Customer

SAID = {"actor": "operator", "reason": "test"}
PLAN = "small"
ZONES = ("UTC", "Asia/Kolkata", "Europe/Berlin", "UTC")  # by account; hours that begin at other times
OWING = "account-3"  # may owe little beyond its credit
RANGES = {
    "spend_limit_wei": (500, 20_000),
    "spend_per_hour_wei": (300, 5_000),
    "spend_per_day_wei": (500, 10_000),
    "spend_per_hour_micro_usd": (300, 5_000),
    "spend_limit_micro_usd": (500, 20_000),
    "sessions_max": (1, 5),
}
OWED_MAX = 2_000
CREDIT = (500, 8_000)
CREDIT_MINUTES = (5, 90)  # until it expires

type Wish = Callable[[Customer, datetime], Command]


class Wishes:
    """Commands to quota, one after the other."""

    def __init__(self, random: Random, customers: Sequence[Customer]) -> None:
        self._random = random
        self._customers = customers
        self._grants: list[tuple[str, str]] = []  # of credit, by account

    def first(self, account_ids: Sequence[str]) -> Iterator[Command]:
        """What is set before anybody pays. Time zones are not changed later: spent windows stay."""
        plan = Plan(user_limits=self._limits(), key_limits=self._limits(), rank=3)
        yield SetPlan(name=PLAN, plan=plan, **SAID)
        for account_id, zone in zip(account_ids, ZONES, strict=True):
            yield SetTimeZone(account_id=account_id, time_zone=zone, **SAID)

    def next(self, now: datetime) -> Command:
        customer = self._random.choice(self._customers)
        wishes: list[Wish] = [*[self._set_limits] * 4, self._assign_plan, self._set_plan]
        if customer.account_id == OWING:
            wishes += [self._grant_credit, self._grant_credit, self._void_credit]
        return self._random.choice(wishes)(customer, now)

    def _set_limits(self, customer: Customer, _: datetime) -> Command:
        """Of one level of what this customer shows."""
        who = {"user_id": customer.user_id, "key_id": customer.key_id, "token_id": customer.token_id}
        levels = [{}, *({name: unique} for name, unique in who.items() if unique is not None)]
        scope: dict[str, str] = self._random.choice(levels)
        limits = self._limits()
        if not scope and customer.account_id == OWING:
            limits = limits.model_copy(update={"credit_limit_micro_usd": self._random.randint(0, OWED_MAX)})
        return SetLimits(account_id=customer.account_id, **scope, limits=limits, **SAID)

    def _limits(self) -> Limits:
        """Some of them; none is set where the others are."""
        chosen: dict[str, Any] = {
            name: self._random.randint(*amounts)
            for name, amounts in RANGES.items()
            if self._random.random() < 0.4
        }
        return Limits(**chosen)

    def _assign_plan(self, customer: Customer, _: datetime) -> Command:
        plan = self._random.choice([PLAN, None])
        return AssignPlan(account_id=customer.account_id, plan=plan, **SAID)

    def _set_plan(self, _: Customer, _now: datetime) -> Command:
        plan = Plan(limits=self._limits(), user_limits=self._limits(), key_limits=self._limits(), rank=3)
        return SetPlan(name=PLAN, plan=plan, **SAID)

    def _grant_credit(self, customer: Customer, now: datetime) -> Command:
        grant_id = f"grant-{len(self._grants)}"
        self._grants.append((customer.account_id, grant_id))
        minutes = self._random.choice([None, self._random.randint(*CREDIT_MINUTES)])
        return GrantCredit(
            account_id=customer.account_id,
            grant_id=grant_id,
            credit="prepaid",
            amount_micro_usd=self._random.randint(*CREDIT),
            priority=self._random.choice([1, 100]),
            expires_at=now + timedelta(minutes=minutes) if minutes is not None else None,
            **SAID,
        )

    def _void_credit(self, customer: Customer, now: datetime) -> Command:
        if not self._grants:
            return self._grant_credit(customer, now)
        account_id, grant_id = self._random.choice(self._grants)
        return VoidCredit(account_id=account_id, grant_id=grant_id, **SAID)
