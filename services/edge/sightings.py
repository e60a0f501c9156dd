"""From which networks keys are used: told to quota once a day of each, beside the requests.

No request waits for it. What quota could not be told is told again after the key's next request.
"""

import asyncio
from collections import OrderedDict, deque
from ipaddress import ip_network
from itertools import islice

import structlog
from nats.aio.client import Client

from contracts.accounts import Identity
from contracts.key_watch import SIGHTINGS_MAX, NetworkSighting, NetworksReported, ReportNetworks
from services.edge.networks import Address
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask
from shared.clock import Clock

log = structlog.get_logger()

# What one site has at least, by version of IP: a thief is elsewhere, a dynamic address mostly is not.
NETWORK_BITS = {4: 24, 6: 48}
ADDRESS_BITS = {4: 32, 6: 128}
SEEN_MAX, WAITING_MAX = 100_000, 10_000
REPORT_SECONDS = 0.2
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)

type Seen = tuple[str, int, int]  # key, version, and the network's bits


class Sightings:
    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._today = clock.now().date()
        self._seen: OrderedDict[Seen, None] = OrderedDict()  # today; first what was not seen for longest
        self._waiting: deque[tuple[Seen, NetworkSighting]] = deque()

    def note(self, identity: Identity, address: Address | None) -> None:
        """Remember to tell that this key was used from there, if that was not told today."""
        if address is None:
            return
        version = address.version
        seen = (identity.key_id, version, int(address) >> (ADDRESS_BITS[version] - NETWORK_BITS[version]))
        if seen in self._seen:
            self._seen.move_to_end(seen)
        elif len(self._waiting) < WAITING_MAX:  # else the key's next request is noted
            self._seen[seen] = None
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)
            self._waiting.append((seen, _sighting(identity, address)))

    async def run(self) -> None:
        """Tell quota, for ever."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._turn_day()
            while self._waiting:
                await self._report(list(islice(self._waiting, SIGHTINGS_MAX)))

    def _turn_day(self) -> None:
        today = self._clock.now().date()
        if today != self._today:
            self._today = today
            self._seen.clear()

    async def _report(self, noted: list[tuple[Seen, NetworkSighting]]) -> None:
        """Tell these, in a few tries: what cannot be told holds up no others."""
        command = ReportNetworks(sightings=[sighting for _, sighting in noted])
        for wait_seconds in (*RETRY_SECONDS, None):
            try:
                await ask(self._client, command, NetworksReported)
                break
            except (ServiceUnavailableError, CommandRefusedError) as problem:
                log.warning("sightings_wait", sightings=len(noted), problem=str(problem))
            if wait_seconds is None:
                for seen, _ in noted:
                    self._seen.pop(seen, None)
            else:
                await asyncio.sleep(wait_seconds)
        for _ in noted:
            self._waiting.popleft()


def _sighting(identity: Identity, address: Address) -> NetworkSighting:
    network = ip_network((address, NETWORK_BITS[address.version]), strict=False)
    return NetworkSighting(account_id=identity.account_id, key_id=identity.key_id, network=str(network))
