"""The fence that is raised when the store turns out to have gone back in time (design §5)."""

from datetime import datetime
from functools import lru_cache
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

PAYERS_MAX = 1000  # whose ids are kept in memory


class Fence(Aggregate):
    """After the store lost its tail, params that a lost ticket may have used are refused."""

    TOPIC = "signer.fence"

    class Event(Aggregate.Event):
        TOPIC = "signer.fence.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "signer.fence_opened"
        payer: str

    class Raised(Event):
        TOPIC = "signer.fence_raised"
        l1_block: int
        reason: str

    @staticmethod
    @lru_cache(maxsize=PAYERS_MAX)
    def create_id(payer: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/payers/{payer}/fence")

    @event(Opened)
    def __init__(self, payer: str, timestamp: datetime) -> None:
        self.payer = payer
        self.l1_block: int | None = None

    def raise_to(self, l1_block: int, reason: str, now: datetime) -> None:
        if self.l1_block is None or l1_block > self.l1_block:
            self._raised(l1_block, reason, now)

    @event(Raised)
    def _raised(self, l1_block: int, reason: str, timestamp: datetime) -> None:
        self.l1_block = l1_block
