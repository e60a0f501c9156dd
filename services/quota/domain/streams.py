"""The media streams of an account that run: who began them, and that they ended.

Heartbeats are no events: how long a stream's lease lasts stands in a table beside.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain.limit_set import Scope
from services.quota.domain.refusal import AllowanceRefusal

RETRY_SECONDS = 10

type Because = Literal["ended", "lease_expired"]


class Streams(Aggregate):
    TOPIC = "quota.streams"

    class Event(Aggregate.Event):
        TOPIC = "quota.streams.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.streams_opened"
        account_id: str

    class Begun(Event):
        TOPIC = "quota.stream_begun"
        stream_id: str
        user_id: str | None
        key_id: str | None
        token_id: str | None
        app: str
        job_type: str

    class Ended(Event):
        TOPIC = "quota.stream_ended"
        stream_id: str
        because: str
        alive_at: datetime | None = None  # its last heartbeat, where its lease expired

    @staticmethod
    def create_id(account_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/streams")

    @event(Opened)
    def __init__(self, account_id: str, timestamp: datetime) -> None:
        self.account_id = account_id
        self.running: dict[str, dict[str, Any]] = {}  # by id

    def count(self, scope: Scope) -> int:
        return sum(scope.has(stream) for stream in self.running.values())

    def check_may_begin(self, stream_id: str, scope: Scope, streams_max: int | None) -> None:
        """Raise AllowanceRefusal while as many run as may."""
        running = self.count(scope)
        if streams_max is not None and stream_id not in self.running and running >= streams_max:
            text = f"{scope} has {running} streams of {streams_max}"
            raise AllowanceRefusal(429, "too_many_streams", text, RETRY_SECONDS)

    def begin(
        self,
        stream_id: str,
        *,
        user_id: str | None,
        key_id: str | None,
        token_id: str | None,
        app: str,
        job_type: str,
        now: datetime,
    ) -> None:
        """A repeat changes nothing. Raises AllowanceRefusal if the id is that of another user's stream."""
        known = self.running.get(stream_id)
        if known is None:
            self._begun(stream_id, user_id, key_id, token_id, app, job_type, now)
        elif known["user_id"] != user_id:
            raise AllowanceRefusal(409, "stream_id_taken", "another user's stream that runs has this id")

    def end(
        self, stream_id: str, because: Because, now: datetime, *, alive_at: datetime | None = None
    ) -> None:
        if stream_id in self.running:
            self._ended(stream_id, because, now, alive_at)

    @event(Begun)
    def _begun(
        self,
        stream_id: str,
        user_id: str | None,
        key_id: str | None,
        token_id: str | None,
        app: str,
        job_type: str,
        timestamp: datetime,
    ) -> None:
        self.running[stream_id] = {
            "user_id": user_id,
            "key_id": key_id,
            "token_id": token_id,
            "app": app,
            "job_type": job_type,
            "begun": timestamp.timestamp(),
        }

    @event(Ended)
    def _ended(
        self, stream_id: str, because: str, timestamp: datetime, alive_at: datetime | None = None
    ) -> None:
        del self.running[stream_id]
