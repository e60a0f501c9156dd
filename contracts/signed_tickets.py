"""Payments that an installation of go-livepeer has signed itself, as its events tell them.

Each is recorded once, for ever: by its account, and the event's id and gateway.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from contracts.message import Command, Event, Message, WeiText

TICKETS_MAX = 500  # of one command, of one batch
MILLISECONDS_MAX = 253_402_300_799_999  # the last of the year 9999
INTEGER_END = 2**63

type Short = Annotated[str, StringConstraints(max_length=256)]


class SignedTicket(Message):
    """One event `create_signed_ticket`, read. Times in milliseconds since 1970."""

    account_id: str
    user_id: str | None
    event_id: Short
    gateway: Short
    state_id: Short
    sequence: int = Field(ge=0, lt=2**64)  # of the payment, in its session
    signed_at_ms: int = Field(ge=0, le=MILLISECONDS_MAX)
    orchestrator: Short
    job_type: Literal["live", "lv2v", "fixed", ""]
    app: Short
    tickets: int = Field(ge=0, lt=2**31)
    fee: WeiText = Field(ge=0, lt=2**256)  # of what was used, in whole wei
    pixels: int = Field(ge=0, lt=INTEGER_END)
    billable_seconds: int = Field(ge=0, lt=INTEGER_END)  # begun ones count


class RecordSignedTickets(Command):
    """Answered once all are durable, in their order."""

    subject: ClassVar[str] = "cmd.metering.record_signed_tickets.v1"

    tickets: list[SignedTicket] = Field(max_length=TICKETS_MAX)


class SignedTicketsAnswered(Message):
    """`repeated`: the event was recorded before."""

    kind: Literal["signed_tickets_answered"] = "signed_tickets_answered"
    outcomes: list[Literal["recorded", "repeated"]]


class SignedPayment(Message):
    """One of them: the `sequence`th of a session, and what it cost."""

    user_id: str | None
    state_id: str
    sequence: int
    fee: WeiText
    signed_at: datetime


class SignedTicketsRecorded(Event):
    """Payments of one account that another signer has made became usage."""

    subject: ClassVar[str] = "evt.metering.signed_tickets_recorded.v1"

    account_id: str
    payments: list[SignedPayment]
