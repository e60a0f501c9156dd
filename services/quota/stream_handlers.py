"""From the bus to the use cases of streams and back."""

from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts import stream_starts as contract
from services.quota.authorizing import Authorizing
from services.quota.streaming import Streaming
from shared.clock import Clock

QUEUE = "quota"

router = NatsRouter()

type StreamingHere = Annotated[Streaming, Context("streaming")]
type ClockHere = Annotated[Clock, Context("clock")]


@router.subscriber(contract.BeginStream.subject, QUEUE)
def begin_stream(
    command: contract.BeginStream, streaming: StreamingHere, clock: ClockHere
) -> contract.StreamAnswer:
    return streaming.begin(command, clock.now())


@router.subscriber(contract.BeatStream.subject, QUEUE)
def beat_stream(
    command: contract.BeatStream, streaming: StreamingHere, clock: ClockHere
) -> contract.StreamBegun:
    return streaming.beat(command.account_id, command.stream_id, command.user_id, clock.now())


@router.subscriber(contract.EndStream.subject, QUEUE)
def end_stream(
    command: contract.EndStream, streaming: StreamingHere, clock: ClockHere
) -> contract.StreamView:
    now = clock.now()
    return streaming.end(command.account_id, command.stream_id, command.user_id, "ended", now)


@router.subscriber(contract.ListStreams.subject, QUEUE)
def list_streams(command: contract.ListStreams, streaming: StreamingHere) -> contract.StreamPage:
    found = streaming.running(command.account_id, command.after, command.limit)
    return contract.StreamPage(streams=found)


@router.subscriber(contract.AuthorizePayment.subject, QUEUE)
def authorize_payment(
    command: contract.AuthorizePayment, authorizing: Annotated[Authorizing, Context()], clock: ClockHere
) -> contract.PaymentAuthorized:
    return authorizing.authorize(command, clock.now())
