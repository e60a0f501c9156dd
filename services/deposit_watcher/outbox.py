"""What others may read of the watcher's log."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from eventsourcing.persistence import Notification

from contracts.deposit_watcher import (
    FundsObserved,
    OrphanRedemption,
    RecoveredRedemption,
    RoundChanged,
    TicketRedeemed,
)
from contracts.message import Event
from services.deposit_watcher.application import Watching
from services.deposit_watcher.domain.funds import Deposit, Rounds
from services.deposit_watcher.domain.redemption import Redemption, creation_round

FIRST_JUDGEMENT = 2  # the version of the event after Seen; a later one puts it right


class WatchingOutbox:
    topics: Sequence[str] = (
        Deposit.FundsObserved.TOPIC,
        Rounds.RoundChanged.TOPIC,
        Redemption.TicketRedeemed.TOPIC,
        Redemption.Matched.TOPIC,
        Redemption.Recovered.TOPIC,
        Redemption.Orphaned.TOPIC,
    )

    def __init__(self, watching: Watching) -> None:
        self._mapper = watching.mapper
        self._recorder = watching.recorder

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        stored: Any = self._mapper.to_domain_event(notification)
        return self._event(notification, stored), stored.timestamp

    def _event(self, notification: Notification, stored: Any) -> Event:
        match stored:
            case Deposit.FundsObserved():
                return FundsObserved.model_validate(stored, from_attributes=True)
            case Rounds.RoundChanged():
                return RoundChanged.model_validate(stored, from_attributes=True)
            case Redemption.TicketRedeemed():
                return TicketRedeemed.model_validate(stored, from_attributes=True)
            case Redemption.Matched():
                return TicketRedeemed(**self._facts(stored.originator_id))
            case Redemption.Recovered():
                return RecoveredRedemption(
                    **self._facts(stored.originator_id),
                    reason=stored.reason,
                    corrects_orphan=stored.originator_version > FIRST_JUDGEMENT,
                )
            case Redemption.Orphaned():
                return OrphanRedemption(**self._facts(stored.originator_id))
        raise TypeError(f"{notification.topic} is not public")

    def _facts(self, redemption_id: UUID) -> dict[str, Any]:
        """What was seen of it: its first event."""
        [first] = self._recorder.select_events(redemption_id, limit=1)
        seen: Any = self._mapper.to_domain_event(first)
        return {**asdict(seen), "creation_round": creation_round(seen.aux_data)}
