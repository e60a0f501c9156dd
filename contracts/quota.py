"""What quota says and listens to."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.message import Command, Event, Message, WeiText

ASKS_MAX = 32


class AllowanceAsk(Message):
    """A session's wish for budget. (session, number) is its identity: repeats get one grant."""

    account_id: str
    user_id: str | None
    key_id: str
    session_id: str
    number: int = Field(ge=1)
    payer: str
    needed: WeiText  # the batch that waits
    wanted: WeiText  # about a minute of the session's pace, never under `needed`
    token_id: str | None = None  # of a session token: it has limits of its own beside its key's


class GrantAllowances(Command):
    subject: ClassVar[str] = "cmd.quota.grant_allowances.v1"

    asks: list[AllowanceAsk] = Field(max_length=ASKS_MAX)


class AllowanceGrantedAnswer(Message):
    kind: Literal["granted"] = "granted"
    amount: WeiText


class AllowanceRefusedAnswer(Message):
    kind: Literal["refused"] = "refused"
    status: Literal[402, 403, 429, 503]
    reason: str
    message: str
    retry_after_seconds: int | None = None


type AllowanceAnswer = Annotated[AllowanceGrantedAnswer | AllowanceRefusedAnswer, Field(discriminator="kind")]


class AllowanceAnswers(Message):
    """One answer an ask, in their order."""

    kind: Literal["allowance_answers"] = "allowance_answers"
    answers: list[AllowanceAnswer]


class SetSpendLimit(Command):
    subject: ClassVar[str] = "cmd.quota.set_spend_limit.v1"

    account_id: str
    spend_limit: WeiText = Field(ge=0)
    actor: str = ""
    reason: str = ""


class ReadBudget(Command):
    subject: ClassVar[str] = "cmd.quota.read_budget.v1"

    account_id: str


class BudgetView(Message):
    kind: Literal["budget"] = "budget"
    account_id: str
    spend_limit: WeiText
    spent: WeiText
    held: WeiText
    remaining: WeiText
    suspended: bool


class ReadPool(Command):
    subject: ClassVar[str] = "cmd.quota.read_pool.v1"

    payer: str | None = None  # none: the only one


class ListPools(Command):
    """Every payer has one, and payers are few: the answer has no pages."""

    subject: ClassVar[str] = "cmd.quota.list_pools.v1"


class PoolView(Message):
    kind: Literal["pool"] = "pool"
    payer: str
    deposit: WeiText
    reserve: WeiText
    cover: WeiText  # what exposure may reach
    exposure: WeiText
    held: WeiText
    round: int
    observed_at: datetime


class PoolPage(Message):
    kind: Literal["pool_page"] = "pool_page"
    pools: list[PoolView]


class AllowanceGranted(Event):
    subject: ClassVar[str] = "evt.quota.allowance_granted.v1"

    account_id: str
    session_id: str
    number: int
    amount: WeiText


class AllowanceFreed(Event):
    subject: ClassVar[str] = "evt.quota.allowance_freed.v1"

    account_id: str
    session_id: str
    amount: WeiText


class SpendLimitSet(Event):
    subject: ClassVar[str] = "evt.quota.spend_limit_set.v1"

    account_id: str
    spend_limit: WeiText


class LimitReached(Event):
    """Told once a window: an ask did not fit. `spend_limit` is in the unit that `limit` ends in."""

    subject: ClassVar[str] = "evt.quota.limit_reached.v1"

    account_id: str
    spend_limit: WeiText
    limit: str = "spend_limit_wei"
    user_id: str | None = None
    key_id: str | None = None
    token_id: str | None = None
