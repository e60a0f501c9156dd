"""Quota's stored events as its public ones: the only place where one becomes the other."""

from datetime import datetime
from typing import Any

from eventsourcing.persistence import Notification
from pydantic_core import from_json

from contracts.message import Event
from contracts.quota import AllowanceFreed, AllowanceGranted, LimitReached, SpendLimitSet
from services.quota.domain.budget import Budget
from shared.store import EventSourced


class QuotaOutbox:
    topics = (
        Budget.AllowanceGranted.TOPIC,
        Budget.AllowanceFreed.TOPIC,
        Budget.LimitReached.TOPIC,
        Budget.SpendLimitSet.TOPIC,
    )

    def __init__(self, application: EventSourced) -> None:
        self._recorder = application.recorder
        self._accounts: dict[object, str] = {}

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        stored = from_json(notification.state)
        at = datetime.fromisoformat(stored["timestamp"])
        return self._event(notification, stored), at

    def _event(self, notification: Notification, stored: dict[str, Any]) -> Event:
        account_id = self._account_of(notification)
        match notification.topic:
            case Budget.AllowanceGranted.TOPIC:
                return AllowanceGranted(
                    account_id=account_id,
                    session_id=stored["session_id"],
                    number=stored["number"],
                    amount=stored["amount"],
                )
            case Budget.AllowanceFreed.TOPIC:
                session_id, amount = stored["session_id"], stored["amount"]
                return AllowanceFreed(account_id=account_id, session_id=session_id, amount=amount)
            case Budget.LimitReached.TOPIC:
                return LimitReached(account_id=account_id, spend_limit=stored["spend_limit"])
            case _:
                return SpendLimitSet(account_id=account_id, spend_limit=stored["spend_limit"])

    def _account_of(self, notification: Notification) -> str:
        """From the budget's first event, which never changes."""
        if notification.originator_id not in self._accounts:
            [opened] = self._recorder.select_events(notification.originator_id, limit=1)
            self._accounts[notification.originator_id] = from_json(opened.state)["account_id"]
        return self._accounts[notification.originator_id]
