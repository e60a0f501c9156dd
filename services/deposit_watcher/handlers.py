"""Between the bus and the watcher."""

from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts.message import LogPage, ReadLog, read_log_subject
from shared.log import PublicLog

SERVICE = "deposit_watcher"

router = NatsRouter()


@router.subscriber(read_log_subject(SERVICE), queue=SERVICE)
def read_log(command: ReadLog, public_log: Annotated[PublicLog, Context()]) -> LogPage:
    return public_log.read(command)
