"""From the bus to the use cases of key watches and back."""

from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts import key_watch as contract
from services.quota.domain.limit_set import Scope
from services.quota.watching import Watching
from shared.clock import Clock

QUEUE = "quota"

router = NatsRouter()

type WatchingHere = Annotated[Watching, Context("watching")]
type ClockHere = Annotated[Clock, Context("clock")]


@router.subscriber(contract.ReportNetworks.subject, QUEUE)
def report_networks(
    command: contract.ReportNetworks, watching: WatchingHere, clock: ClockHere
) -> contract.NetworksReported:
    watching.report_networks(command.sightings, clock.now())
    return contract.NetworksReported()


@router.subscriber(contract.ReadKeyActivity.subject, QUEUE)
def read_key_activity(
    command: contract.ReadKeyActivity, watching: WatchingHere, clock: ClockHere
) -> contract.KeyActivity:
    return watching.activity(Scope(command.account_id, key_id=command.key_id), clock.now())
