"""Up to where an account's usage is closed: what lies before never changes again."""

from datetime import datetime, timedelta
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.metering.domain.usage import EPOCH
from shared.refusal import Refused


class BadUntil(Refused):
    code = "bad_until"


class UsageAlreadyClosed(Refused):
    code = "usage_already_closed"


class UsagePeriod(Aggregate):
    """The closed hours of one account, from the first there ever was."""

    TOPIC = "metering.usage_period"

    class Event(Aggregate.Event):
        TOPIC = "metering.usage_period.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "metering.usage_period_opened"
        account_id: str

    class Closed(Event):
        TOPIC = "metering.usage_closed"
        account_id: str
        until_at: datetime
        actor: str
        reason: str

    @staticmethod
    def create_id(account_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/usage-period")

    @event(Opened)
    def __init__(self, account_id: str, timestamp: datetime) -> None:
        self.account_id = account_id
        self.closed_until_at = EPOCH

    def close(self, until: datetime, *, actor: str, reason: str, now: datetime) -> None:
        """Close the hours before `until`. The same again changes nothing.

        Raises BadUntil where that is no whole hour or lies ahead, UsageAlreadyClosed where it lies
        before what is closed.
        """
        if (until - EPOCH) % timedelta(hours=1):
            raise BadUntil("until is not a whole hour")
        if until > now:
            raise BadUntil("until lies in the future")
        if until < self.closed_until_at:
            raise UsageAlreadyClosed(f"usage is closed until {self.closed_until_at:%Y-%m-%dT%H:%M:%SZ}")
        if until > self.closed_until_at:
            self._closed(self.account_id, until, actor, reason, timestamp=now)

    @event(Closed)
    def _closed(
        self, account_id: str, until_at: datetime, actor: str, reason: str, timestamp: datetime
    ) -> None:
        self.closed_until_at = until_at
