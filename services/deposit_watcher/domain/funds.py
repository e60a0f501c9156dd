"""What the chain says now: funds of payers and rounds, each remembered when it changes.

Hashes and addresses are 0x and lower-case hex digits, amounts are wei.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from shared.money import Wei

REPEAT_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Funds:
    """What a payer has in the TicketBroker; `withdraw_round` is 0 unless it was unlocked once."""

    deposit: Wei
    reserve: Wei
    withdraw_round: int

    def counting(self, final: "Funds") -> "Funds":
        """What may be counted on: what came in once that is final, what went out at once.

        `self` is read at the newest block, `final` at one that no reorg takes back. An unlock counts
        as soon as it is seen, and until its end is final.
        """
        unlocks = [funds.withdraw_round for funds in (self, final) if funds.withdraw_round]
        return Funds(
            deposit=min(self.deposit, final.deposit),
            reserve=min(self.reserve, final.reserve),
            withdraw_round=min(unlocks, default=0),
        )


@dataclass(frozen=True, slots=True)
class Round:
    """The last initialised round. Tickets of it or of the one before may be signed."""

    number: int
    block_hash: str
    previous_block_hash: str
    ticket_validity_rounds: int


@dataclass(frozen=True, slots=True)
class RoundClock:
    """Which round an L1 block belongs to, counted from the running one: its number, first block, length."""

    number: int
    start_block: int
    length_blocks: int


@dataclass(frozen=True, slots=True)
class Observation:
    """The chain at one block."""

    chain_id: int
    block: int
    block_hash: str
    l1_block: int
    round: Round
    pool_size: int
    funds_by_payer: dict[str, Funds]
    round_clock: RoundClock


class Deposit(Aggregate):
    """The funds of one payer, as they were seen."""

    TOPIC = "deposit_watcher.deposit"

    class Event(Aggregate.Event):
        TOPIC = "deposit_watcher.deposit.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "deposit_watcher.deposit_opened"
        chain_id: int
        payer: str

    class FundsObserved(Event):
        TOPIC = "deposit_watcher.funds_observed"
        payer: str
        deposit: Wei
        reserve: Wei
        withdraw_round: int
        pool_size: int
        l1_block: int
        block_hash: str

    @staticmethod
    def create_id(chain_id: int, payer: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/chains/{chain_id}/payers/{payer}/deposit")

    @event(Opened)
    def __init__(self, chain_id: int, payer: str, timestamp: datetime) -> None:
        self.payer = payer
        self.seen: list[int] = []
        self.seen_at = timestamp

    def observe(self, observation: Observation, now: datetime) -> None:
        """Remember the funds if they changed, and once a minute anyhow."""
        funds, pool_size = observation.funds_by_payer[self.payer], observation.pool_size
        seen = [funds.deposit, funds.reserve, funds.withdraw_round, pool_size]
        if seen != self.seen or now - self.seen_at >= REPEAT_AFTER:
            l1_block, block_hash = observation.l1_block, observation.block_hash
            self._funds_observed(
                self.payer,
                funds.deposit,
                funds.reserve,
                funds.withdraw_round,
                pool_size,
                l1_block,
                block_hash,
                now,
            )

    @event(FundsObserved)
    def _funds_observed(
        self,
        payer: str,
        deposit: Wei,
        reserve: Wei,
        withdraw_round: int,
        pool_size: int,
        l1_block: int,
        block_hash: str,
        timestamp: datetime,
    ) -> None:
        self.seen = [deposit, reserve, withdraw_round, pool_size]
        self.seen_at = timestamp


class Rounds(Aggregate):
    """The rounds of one chain, each told once."""

    TOPIC = "deposit_watcher.rounds"

    class Event(Aggregate.Event):
        TOPIC = "deposit_watcher.rounds.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "deposit_watcher.rounds_opened"
        chain_id: int

    class RoundChanged(Event):
        TOPIC = "deposit_watcher.round_changed"
        round: int
        round_hash: str
        ticket_validity_rounds: int

    @staticmethod
    def create_id(chain_id: int) -> UUID:
        return uuid5(NAMESPACE_URL, f"/chains/{chain_id}/rounds")

    @event(Opened)
    def __init__(self, chain_id: int, timestamp: datetime) -> None:
        self.last = -1

    def observe(self, observed: Round, now: datetime) -> None:
        if observed.number != self.last:
            validity = observed.ticket_validity_rounds
            self._round_changed(observed.number, observed.block_hash, validity, now)

    @event(RoundChanged)
    def _round_changed(
        self,
        round: int,  # noqa: A002 (the event's field, as in the contract)
        round_hash: str,
        ticket_validity_rounds: int,
        timestamp: datetime,
    ) -> None:
        self.last = round
