"""What an ETH is worth in dollars, as somebody said: limits in dollars are held with it."""

from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain.spending import Rate
from shared.money import MicroUsd


class EthRate(Aggregate):
    """One chain of observations."""

    TOPIC = "quota.eth_rate"

    class Event(Aggregate.Event):
        TOPIC = "quota.eth_rate.event"

    class Observed(Event, Aggregate.Created):
        TOPIC = "quota.eth_rate_observed_first"
        micro_usd_per_eth: MicroUsd
        source: str

    class ObservedAgain(Event):
        TOPIC = "quota.eth_rate_observed"
        micro_usd_per_eth: MicroUsd
        source: str

    @staticmethod
    def create_id() -> UUID:
        return uuid5(NAMESPACE_URL, "/rates/eth-usd")

    @event(Observed)
    def __init__(self, micro_usd_per_eth: MicroUsd, source: str, timestamp: datetime) -> None:
        self.rate = Rate(micro_usd_per_eth, source, timestamp)

    def observe(self, micro_usd_per_eth: MicroUsd, source: str, now: datetime) -> None:
        """The same rate of the same source tells nothing new."""
        if (micro_usd_per_eth, source) != (self.rate.micro_usd_per_eth, self.rate.source):
            self._observed(micro_usd_per_eth, source, now)

    @event(ObservedAgain)
    def _observed(self, micro_usd_per_eth: MicroUsd, source: str, timestamp: datetime) -> None:
        self.rate = Rate(micro_usd_per_eth, source, timestamp)
