"""The ledger of limits and quota itself agree, whatever is granted, paid, closed and limited."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest

from services.quota.application import Quota
from services.quota.domain.credit import CreditGrant, GrantKind
from services.quota.domain.limit_set import Scope
from services.quota.domain.limits import Limits
from services.quota.domain.spending import Rate
from services.quota.limiting import Limiting
from shared.money import MicroUsd, Wei
from tests.faults.checker.evidence import Evidence, Violation
from tests.faults.checker.limit_rows import LimitLog
from tests.faults.checker.limit_rules import credit_adds_up
from tests.faults.checker.limits import LimitLedger
from tests.faults.checker.rows import Books
from tests.property.limited_house import ACCOUNT, AUTHOR, KEYS, USERS, House

SEEDS, STEPS = 8, 200
LIMITED = (
    "spend_limit_wei",
    "spend_per_hour_wei",
    "spend_per_day_wei",
    "spend_per_hour_micro_usd",
)
SCOPES = (
    Scope(ACCOUNT),
    *(Scope(ACCOUNT, user_id=user) for user in USERS),
    *(Scope(ACCOUNT, key_id=key) for key in KEYS),
)
RATES = (5 * 10**17, 2 * 10**18)  # micro-dollars of an ETH: a wei is worth one, more or less


class Stored:
    """As much of a cursor as is needed to read a log that is kept in memory."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota

    def execute(self, _: str, asked: tuple[Sequence[str], int]) -> Iterator[tuple[Any, ...]]:
        topics, after = asked
        for stored in self._quota.recorder.select_notifications(after + 1, 10**6):
            if stored.topic in topics:
                yield stored.id, stored.originator_id, stored.topic, stored.state


class Restless(House):
    """A house whose limits, credit and rate never stay as they are."""

    grants = 0

    def step(self) -> None:
        limiting, choice = Limiting(self.quotas[0]), self.random.random()
        if choice < 0.05:
            scope = self.random.choice(SCOPES)
            self.limits[scope] = some_limits(self.random, scope)
            limiting.set_limits(scope, self.limits[scope], AUTHOR, self.now)
        elif choice < 0.07:
            rate = MicroUsd(self.random.randint(*RATES))
            self.quotas[0].observe_rate(Rate(rate, "test", self.now))
        elif choice < 0.10:
            limiting.grant_credit(ACCOUNT, self._credit(), AUTHOR, self.now)
        elif choice < 0.11 and self.grants:
            limiting.void_credit(ACCOUNT, f"grant-{self.grants}", AUTHOR, self.now)
        else:
            super().step()

    def check(self) -> None:
        """The ledger does."""

    def _credit(self) -> CreditGrant:
        self.grants += 1
        expires = self.random.choice([None, int(self.now.timestamp()) + self.random.randrange(100, 9000)])
        amount, priority = MicroUsd(self.random.randrange(50, 900)), self.random.choice([1, 5])
        return CreditGrant(f"grant-{self.grants}", GrantKind.PREPAID, amount, priority, expires)


def some_limits(random: Random, scope: Scope) -> Limits:
    found: dict[str, int] = {name: random.randrange(100, 3000) for name in LIMITED if random.random() < 0.5}
    if random.random() < 0.4:
        found["sessions_max"] = random.randint(1, 4)
    if scope == Scope(ACCOUNT) and random.random() < 0.5:
        found["credit_limit_micro_usd"] = random.randrange(1000)
    return Limits.of(found)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_grant_passes_a_limit_and_everybodys_books_agree(seed: int) -> None:
    random, quota = Random(seed), Quota(Wei(10_000))
    limits = {scope: some_limits(random, scope) for scope in SCOPES}
    house = Restless([quota], random.choice(["UTC", "Europe/Berlin", "Asia/Kolkata"]), limits, random)
    ledger, log, stored = LimitLedger(), LimitLog(), Stored(quota)
    house.open()
    found: list[Violation] = []

    for _ in range(STEPS):
        house.step()
        for entry in log.read(stored):  # type: ignore[arg-type]
            found += ledger.apply(entry)
        found += ledger.differences()

    books = Books(limit_entries=list(LimitLog().read(stored)))  # type: ignore[arg-type]
    credit = Limiting(quota).credit(ACCOUNT, house.now).model_dump()
    found += credit_adds_up(books, Evidence(credit={ACCOUNT: credit}, asked_at=house.now))
    assert found == []
