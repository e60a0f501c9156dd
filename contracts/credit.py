"""Credit of accounts: grants that are drawn on before anything is owed."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from contracts.limits import MICRO_USD_MAX, Authored
from contracts.message import Command, Event, Message


class GrantCredit(Authored, Command):
    """Once by its id: a repeat is answered the same."""

    subject: ClassVar[str] = "cmd.quota.grant_credit.v1"

    account_id: str
    grant_id: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")
    credit: Literal["prepaid", "trial", "promotion"]
    amount_micro_usd: int = Field(ge=1, le=MICRO_USD_MAX)
    priority: int = Field(default=100, ge=0, le=1000)  # lower ones are drawn on first
    expires_at: AwareDatetime | None = None


class VoidCredit(Authored, Command):
    """Take back what is left of a grant."""

    subject: ClassVar[str] = "cmd.quota.void_credit.v1"

    account_id: str
    grant_id: str


class ReadCredit(Command):
    subject: ClassVar[str] = "cmd.quota.read_credit.v1"

    account_id: str


class CreditRow(Message):
    grant_id: str
    credit: Literal["prepaid", "trial", "promotion"]
    amount_micro_usd: int
    left_micro_usd: int  # rounded down
    priority: int
    expires_at: datetime | None


class CreditView(Message):
    """`owed` is what no grant covered, rounded up."""

    kind: Literal["credit"] = "credit"
    account_id: str
    grants: list[CreditRow]
    prepaid_micro_usd: int
    owed_micro_usd: int
    credit_limit_micro_usd: int | None


class CreditGranted(Event):
    subject: ClassVar[str] = "evt.quota.credit_granted.v1"

    account_id: str
    grant_id: str
    credit: Literal["prepaid", "trial", "promotion"]
    amount_micro_usd: int
    priority: int
    expires_at: datetime | None
    actor: str
    reason: str


class CreditVoided(Event):
    subject: ClassVar[str] = "evt.quota.credit_voided.v1"

    account_id: str
    grant_id: str
    actor: str
    reason: str
