"""Between the bus and the watcher."""

from collections.abc import Sequence
from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts.deposit_watcher import ReadRedemptions, RedemptionPage
from contracts.message import LogEntry, LogPage, ReadLog, read_log_subject
from services.deposit_watcher.application import Watching
from services.deposit_watcher.redemptions import RedemptionTable
from services.deposit_watcher.signed import SignedTickets, read_told
from shared.inbox import Apply
from shared.log import PublicLog
from shared.store import Effect

SERVICE = "deposit_watcher"

router = NatsRouter()


def matching(watching: Watching, tickets: SignedTickets) -> Apply:
    """What the inbox does with a stretch of the signer's log: it makes no events, only rows."""

    def apply(entries: Sequence[LogEntry], done: Effect) -> None:
        told = read_told(entries)
        watching.recorder.insert_events([], effects=[done, tickets.record(told)])

    return apply


@router.subscriber(ReadRedemptions.subject, queue=SERVICE)
def read_redemptions(
    command: ReadRedemptions, table: Annotated[RedemptionTable, Context()]
) -> RedemptionPage:
    return table.page(command)


@router.subscriber(read_log_subject(SERVICE), queue=SERVICE)
def read_log(command: ReadLog, public_log: Annotated[PublicLog, Context()]) -> LogPage:
    return public_log.read(command)
