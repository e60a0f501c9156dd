"""What others may read of the watcher's log."""

from collections.abc import Sequence
from datetime import datetime

from eventsourcing.persistence import Notification

from contracts.deposit_watcher import FundsObserved, RoundChanged, TicketRedeemed
from contracts.message import Event
from services.deposit_watcher.application import Watching
from services.deposit_watcher.domain import Deposit, Redemption, Rounds


class WatchingOutbox:
    topics: Sequence[str] = (
        Deposit.FundsObserved.TOPIC,
        Rounds.RoundChanged.TOPIC,
        Redemption.TicketRedeemed.TOPIC,
    )

    def __init__(self, watching: Watching) -> None:
        self._mapper = watching.mapper

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        stored = self._mapper.to_domain_event(notification)
        match stored:
            case Deposit.FundsObserved():
                return FundsObserved.model_validate(stored, from_attributes=True), stored.timestamp
            case Rounds.RoundChanged():
                return RoundChanged.model_validate(stored, from_attributes=True), stored.timestamp
            case Redemption.TicketRedeemed():
                return TicketRedeemed.model_validate(stored, from_attributes=True), stored.timestamp
        raise TypeError(f"{notification.topic} is not public")
