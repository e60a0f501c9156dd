"""Pools: a payer's deposit against what may still be drawn from it, the exposure."""

from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain.refusal import RETRY_AFTER_SECONDS, AllowanceRefusal
from shared.money import Wei


class PoolUnknown(AllowanceRefusal):
    """The deposit watcher has told nothing of this payer."""

    def __init__(self, payer: str) -> None:
        text = f"no funds of payer {payer} were observed"
        super().__init__(503, "pool_unknown", text, RETRY_AFTER_SECONDS)


class Pool(Aggregate):
    """A payer's deposit against what may still be drawn from it: the exposure.

    Exposure is the cost of tickets whose validity has not ended, plus allowances unspent. Cover is
    the deposit; nothing once it is being unlocked.
    """

    TOPIC = "quota.pool"

    class Event(Aggregate.Event):
        TOPIC = "quota.pool.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.pool_opened"
        payer: str

    class FundsObserved(Event):
        TOPIC = "quota.funds_observed"
        deposit: Wei
        reserve: Wei
        withdraw_round: int

    class RoundChanged(Event):
        TOPIC = "quota.round_changed"
        round: int
        validity: int

    class Held(Event):
        TOPIC = "quota.pool_held"
        amount: Wei  # negative when allowances are freed

    class Spent(Event):
        TOPIC = "quota.pool_spent"
        costs: dict[str, Wei]  # by creation round, as text
        released: Wei  # of what was held

    @staticmethod
    def create_id(payer: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/payers/{payer}/pool")

    @event(Opened)
    def __init__(self, payer: str, timestamp: datetime) -> None:
        self.payer = payer
        self.deposit = Wei(0)
        self.reserve = Wei(0)
        self.withdraw_round = 0
        self.round = 0
        self.validity = 2
        self.held = Wei(0)
        self.costs: dict[str, Wei] = {}
        self.observed_at: datetime | None = None

    @property
    def cover(self) -> Wei:
        unlocking = self.withdraw_round and self.withdraw_round <= self.round + 1
        return Wei(0) if unlocking else self.deposit

    @property
    def exposure(self) -> Wei:
        return Wei(self.held + sum(self.costs.values()))

    def check_may_hold(self, amount: Wei) -> None:
        if self.observed_at is None:
            raise PoolUnknown(self.payer)
        if self.exposure + amount > self.cover:
            raise AllowanceRefusal(503, "pool_exhausted", "Service Unavailable Error", RETRY_AFTER_SECONDS)

    def room(self) -> Wei:
        return Wei(max(0, self.cover - self.exposure))

    def hold(self, amount: Wei, now: datetime) -> None:
        if amount:
            self._held(amount, now)

    def spend(self, costs: dict[str, Wei], released: Wei, now: datetime) -> None:
        self._spent(costs, released, now)

    def observe_funds(self, *, deposit: Wei, reserve: Wei, withdraw_round: int, now: datetime) -> None:
        self._funds_observed(deposit, reserve, withdraw_round, now)

    def change_round(self, number: int, validity: int, now: datetime) -> None:
        if (number, validity) != (self.round, self.validity):
            self._round_changed(number, validity, now)

    @event(FundsObserved)
    def _funds_observed(self, deposit: Wei, reserve: Wei, withdraw_round: int, timestamp: datetime) -> None:
        self.deposit = deposit
        self.reserve = reserve
        self.withdraw_round = withdraw_round
        self.observed_at = timestamp

    @event(RoundChanged)
    def _round_changed(self, round: int, validity: int, timestamp: datetime) -> None:  # noqa: A002
        self.round = round
        self.validity = validity
        self.costs = {made: cost for made, cost in self.costs.items() if int(made) + validity > round}

    @event(Held)
    def _held(self, amount: Wei, timestamp: datetime) -> None:
        self.held = Wei(self.held + amount)

    @event(Spent)
    def _spent(self, costs: dict[str, Wei], released: Wei, timestamp: datetime) -> None:
        self.held = Wei(self.held - released)
        for made, cost in costs.items():
            if int(made) + self.validity > self.round:
                self.costs[made] = Wei(self.costs.get(made, 0) + cost)
