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
        epoch: int = 1  # of the log, which it stands for

    @staticmethod
    @lru_cache(maxsize=PAYERS_MAX)
    def create_id(payer: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/payers/{payer}/fence")

    @event(Opened)
    def __init__(self, payer: str, timestamp: datetime) -> None:
        self.payer = payer
        self.l1_block: int | None = None
        self.raised_at: datetime | None = None
        self.epoch = 1

    def raise_to(self, l1_block: int, reason: str, now: datetime, *, epoch: int = 1) -> None:
        """Refuse params that were quoted up to this block; never fewer than before."""
        if self.l1_block is None or l1_block > self.l1_block or epoch > self.epoch:
            block = max(l1_block, self.l1_block or 0)
            self._raised(block, reason, epoch, timestamp=now)

    def covers(self, at: datetime) -> bool:
        """Whether what was signed at this time may be part of the loss it was raised for."""
        return self.raised_at is not None and at <= self.raised_at

    @event(Raised)
    def _raised(self, l1_block: int, reason: str, epoch: int = 1, *, timestamp: datetime) -> None:
        self.l1_block = l1_block
        self.raised_at = timestamp
        self.epoch = epoch
