"""A ledger whose keys are watched."""

from typing import Any

from contracts.key_watch import AlarmRow, KeyActivity, NetworkSighting
from contracts.limits import Alarms
from services.quota.domain.key_watch import Sensitivity
from services.quota.domain.limit_set import Scope
from services.quota.domain.limits import Limits
from services.quota.watching import Watching
from shared.money import Wei
from tests.unit.quota.ledger import RECIPIENT, Ledger

KEY = Scope("account-1", key_id="key-1")
HOME, AWAY = "192.0.2.0/24", "2001:db8:7::/48"
FLOOR = 7
STOP = "key:key-1"


class Watched(Ledger):
    """A ledger whose keys are watched as by default, with a floor of a few wei."""

    def __init__(self, **alarms: Any) -> None:
        super().__init__(
            deposit=10**12,
            default_key_limits=Limits(alarms=Alarms(**alarms).model_dump()),
            sensitivity=Sensitivity(floor=Wei(FLOOR)),
        )
        self.limit(spend_limit_wei=Wei(10**9))
        self.watching = Watching(self.quota)
        self.sessions = 0

    def seen_from(self, *networks: str, key_id: str = "key-1") -> None:
        sightings = [
            NetworkSighting(account_id="account-1", key_id=key_id, network=network) for network in networks
        ]
        self.watching.report_networks(sightings, self.now)

    def spend(self, cost: int, recipient: str = RECIPIENT) -> None:
        """In a session of its own, all of it."""
        self.sessions += 1
        session = f"s{self.sessions}"
        assert self.ask(session, needed=cost) == cost
        self.paid(session, cost, recipient=recipient)
        self.closed(session, cost)

    @property
    def activity(self) -> KeyActivity:
        return self.watching.activity(KEY, self.now)

    @property
    def alarms(self) -> list[AlarmRow]:
        """In the order in which they were raised."""
        return self.activity.alarms[::-1]

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(alarm.alarm, alarm.value) for alarm in self.alarms]

    def stop(self) -> dict[str, Any] | None:
        return self.quota.read(lambda work: work.known_stops(), self.now).get(STOP)
