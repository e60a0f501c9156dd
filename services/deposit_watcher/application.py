"""The watcher's use cases: remember what was observed, and each redeemed ticket once; judge it once."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError
from eventsourcing.domain import MutableOrImmutableAggregate
from eventsourcing.persistence import IntegrityError, PersistenceError
from eventsourcing.utils import retry

from services.deposit_watcher.domain.funds import Deposit, Observation, Rounds
from services.deposit_watcher.domain.redemption import RedeemedTicket, Redemption
from services.deposit_watcher.redemptions import record
from shared.store import Effect, EventSourced


class Watching(EventSourced):
    name = "deposit_watcher"
    # A deposit gets an event a minute.
    snapshotting_intervals: ClassVar[dict[type[MutableOrImmutableAggregate[UUID]], int]] = {Deposit: 100}

    @retry(IntegrityError, max_attempts=5, wait=0.01)
    def observe(self, observation: Observation, now: datetime) -> None:
        """Remember what changed since the last observation."""
        deposits = [self._deposit(observation.chain_id, payer, now) for payer in observation.funds_by_payer]
        rounds = self._rounds(observation.chain_id, now)
        for deposit in deposits:
            deposit.observe(observation, now)
        rounds.observe(observation.round, now)
        try:
            self.save(*deposits, rounds)
        except PersistenceError:
            # In memory they have moved on, in the store they have not.
            self.forget(rounds.id, *(deposit.id for deposit in deposits))
            raise

    def record_redemptions(
        self, chain_id: int, tickets: Sequence[RedeemedTicket], now: datetime, done: Effect
    ) -> int:
        """Remember the tickets that are new, and say `done`, in one commit; returns how many they are."""
        redemptions = [
            Redemption(chain_id=chain_id, **asdict(ticket), timestamp=now)
            for ticket in tickets
            if self._is_new(chain_id, ticket)
        ]
        self.save(*redemptions, effects=[done, record(self.name, redemptions)])
        return len(redemptions)

    @retry(IntegrityError, max_attempts=5, wait=0.01)
    def judge(self, redemption_id: UUID, judge: Callable[[Redemption], None]) -> Redemption | None:
        """Let `judge` say what the redemption is; None if that changes nothing, as it was said before."""
        self.forget(redemption_id)  # another process may have judged it
        redemption: Redemption = self.repository.get(redemption_id)
        judge(redemption)
        if not redemption.pending_events:
            return None
        try:
            self.save(redemption, effects=[record(self.name, [redemption])])
        except PersistenceError:
            self.forget(redemption_id)
            raise
        return redemption

    def _is_new(self, chain_id: int, ticket: RedeemedTicket) -> bool:
        return Redemption.create_id(chain_id, ticket.tx_hash, ticket.log_index) not in self.repository

    def _deposit(self, chain_id: int, payer: str, now: datetime) -> Deposit:
        try:
            return self.repository.get(Deposit.create_id(chain_id, payer))
        except AggregateNotFoundError:
            return Deposit(chain_id, payer, now)

    def _rounds(self, chain_id: int, now: datetime) -> Rounds:
        try:
            return self.repository.get(Rounds.create_id(chain_id))
        except AggregateNotFoundError:
            return Rounds(chain_id, now)
