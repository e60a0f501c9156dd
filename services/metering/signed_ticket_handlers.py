"""Between the bus and metering's use case of payments that another signer has made."""

from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts.signed_tickets import RecordSignedTickets, SignedTicketsAnswered
from contracts.signed_tickets import SignedTicket as Told
from services.metering.domain.signed_tickets import SignedTicket
from services.metering.handlers import SERVICE
from services.metering.signed_tickets import SignedTickets
from shared.clock import Clock

router = NatsRouter()


@router.subscriber(RecordSignedTickets.subject, queue=SERVICE)
def record_signed_tickets(
    command: RecordSignedTickets,
    signed_tickets: Annotated[SignedTickets, Context()],
    clock: Annotated[Clock, Context()],
) -> SignedTicketsAnswered:
    outcomes = signed_tickets.record([read_ticket(told) for told in command.tickets], clock.now())
    return SignedTicketsAnswered(outcomes=outcomes)


def read_ticket(told: Told) -> SignedTicket:
    return SignedTicket(**{**told.model_dump(), "user_id": told.user_id or ""})
