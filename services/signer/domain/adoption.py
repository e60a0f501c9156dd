"""Adoptions: a state of another signer with the same key, taken over once."""

from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event


class Adoption(Aggregate):
    """Which account a foreign state belongs to from now on, and the params it came with.

    Under those the other signer may have signed already: they are never signed again.
    """

    TOPIC = "signer.adoption"

    class Event(Aggregate.Event):
        TOPIC = "signer.adoption.event"

    class Announced(Event, Aggregate.Created):
        TOPIC = "signer.adoption_announced"
        payer: str
        state_id: str
        account_id: str
        rand_hashes: list[str]

    @staticmethod
    def create_id(payer: str, state_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/payers/{payer}/foreign-states/{state_id}")

    @event(Announced)
    def __init__(
        self, payer: str, state_id: str, account_id: str, rand_hashes: list[str], timestamp: datetime
    ) -> None:
        self.account_id = account_id
        self.rand_hashes = rand_hashes
