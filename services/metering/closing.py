"""The use case of closing an account's hours: what billing has billed never changes again."""

import threading
from datetime import UTC, datetime
from functools import partial

from eventsourcing.application import AggregateNotFoundError

from services.metering.application import Metering
from services.metering.closings import Closings
from services.metering.domain.period import UsagePeriod
from services.metering.outbox import public_of
from services.metering.streaming import decided_again


class Closing:
    def __init__(self, metering: Metering, closings: Closings) -> None:
        self._metering = metering
        self._closings = closings
        self._turn = threading.Lock()

    @decided_again
    def close(self, account_id: str, until: datetime, *, actor: str, reason: str, now: datetime) -> datetime:
        """Close the hours before `until`, and say until when they are closed.

        Raises BadUntil and UsageAlreadyClosed.
        """
        until = until.astimezone(UTC)
        with self._turn:
            period = self._load(account_id, now)
            period.close(until, actor=actor, reason=reason, now=now)
            if period.pending_events:
                # First of all that is locked: it waits for who is booking, and nobody waits for it.
                close = partial(self._closings.close, account_id=account_id, until=until)
                told = [public_of(each) for each in period.pending_events]
                self._metering.save(period, effects=[close, self._metering.audit.record(told, now)])
            return period.closed_until_at

    def _load(self, account_id: str, now: datetime) -> UsagePeriod:
        unique = UsagePeriod.create_id(account_id)
        self._metering.forget(unique)
        try:
            period: UsagePeriod = self._metering.repository.get(unique)
        except AggregateNotFoundError:
            return UsagePeriod(account_id, timestamp=now)
        return period
