"""Tickets that left, were lost from the log by a restore, and are known again from the stream."""

from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from shared.money import Wei


class RecoveredTickets(Aggregate):
    """A batch that was signed in a history the log no longer has; stored once, whoever finds it."""

    TOPIC = "signer.recovered_tickets"

    class Event(Aggregate.Event):
        TOPIC = "signer.recovered_tickets.event"

    class Recovered(Event, Aggregate.Created):
        TOPIC = "signer.ticket_recovered"
        lost_epoch: int  # where the entry was that told of it first
        lost_position: int
        happened_at: datetime
        account_id: str
        session_id: str
        user_id: str | None
        app: str
        job_type: str
        recipient: str
        payer: str
        tickets: int
        cost: Wei
        face_value: int
        win_prob: str
        units: int
        price_per_unit: int
        pixels_per_unit: int
        creation_round: int
        recipient_rand_hash: str
        first_nonce: int
        key_id: str = ""
        capability: str = ""

    @staticmethod
    def create_id(payer: str, recipient_rand_hash: str, first_nonce: int) -> UUID:
        return uuid5(NAMESPACE_URL, f"/payers/{payer}/recovered/{recipient_rand_hash}/{first_nonce}")

    @event(Recovered)
    def __init__(
        self,
        lost_epoch: int,
        lost_position: int,
        happened_at: datetime,
        account_id: str,
        session_id: str,
        user_id: str | None,
        app: str,
        job_type: str,
        recipient: str,
        payer: str,
        tickets: int,
        cost: Wei,
        face_value: int,
        win_prob: str,
        units: int,
        price_per_unit: int,
        pixels_per_unit: int,
        creation_round: int,
        recipient_rand_hash: str,
        first_nonce: int,
        key_id: str = "",
        capability: str = "",
        *,
        timestamp: datetime,
    ) -> None:
        self.tickets = tickets
        self.cost = cost
