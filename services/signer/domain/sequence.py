"""Nonces: one sequence for each set of ticket params of a payer."""

from datetime import datetime
from functools import lru_cache
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

IDS_MAX = 50_000  # kept in memory: an id costs ten times a look-up


class TicketSequence(Aggregate):
    """The nonces of one set of ticket params; each is handed out once, ever."""

    TOPIC = "signer.ticket_sequence"

    class Event(Aggregate.Event):
        TOPIC = "signer.ticket_sequence.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "signer.ticket_sequence_opened"
        payer: str
        recipient_rand_hash: str
        params: str  # the TicketParams as they are signed, protobuf in base64

    class NoncesTaken(Event):
        TOPIC = "signer.nonces_taken"
        first: int
        count: int

    @staticmethod
    @lru_cache(maxsize=IDS_MAX)
    def create_id(payer: str, recipient_rand_hash: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/payers/{payer}/params/{recipient_rand_hash}")

    @event(Opened)
    def __init__(self, payer: str, recipient_rand_hash: str, params: str, timestamp: datetime) -> None:
        self.params = params
        self.last = 0

    def take(self, count: int, now: datetime) -> range:
        """Hand out the next nonces; two sessions that race here meet in the store."""
        first = self.last + 1
        self.trigger_event(self.NoncesTaken, first=first, count=count, timestamp=now)
        return range(first, first + count)

    @event(NoncesTaken)
    def _nonces_taken(self, first: int, count: int, timestamp: datetime) -> None:
        self.last = first + count - 1
