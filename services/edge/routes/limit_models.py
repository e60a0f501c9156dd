"""What `/v1` reads and answers about limits, plans, credit, streams and the audit."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from contracts import limits as contract
from contracts.audit import AuditRow
from contracts.credit import CreditRow
from contracts.limits import JobType, LimitRow
from contracts.stream_starts import LEASE_SECONDS_MAX, LEASE_SECONDS_MIN
from services.edge.addresses import read_address
from services.edge.routes.models import AccountId, Body, Moment, OpaqueId, WeiOut

WEI_DIGITS_MAX = 78
UNSPECIFIED = "unspecified"
NEXT = Field(description="Pass it as `cursor` for what follows; null at the end.")


def _read_wei(text: object) -> int:
    if not isinstance(text, str) or not (text.isascii() and text.isdecimal() and len(text) <= WEI_DIGITS_MAX):
        raise ValueError("a whole number of wei is expected, as text")
    return int(text)


type Wei = Annotated[
    int,
    BeforeValidator(_read_wei),
    Field(le=contract.WEI_MAX),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^[0-9]{{1,{WEI_DIGITS_MAX}}}$", "examples": ["1500000"]}),
]
type Recipient = Annotated[
    str,
    AfterValidator(read_address),
    Field(description="0x and 40 hex digits.", json_schema_extra={"pattern": "^0x[0-9a-fA-F]{40}$"}),
]
type Reason = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9_]{1,64}$"),
    Field(description="Why, as a code; no free text, it is kept for ever.", examples=["customer_request"]),
]
type PlanName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]
type MicroUsd = Annotated[int, Field(strict=True, ge=1, le=contract.MICRO_USD_MAX)]


class AlarmValues(contract.Alarms):
    """What of a key's doings is an alarm, and which alarms stop the key until somebody lifts that."""

    model_config = ConfigDict(extra="forbid", strict=True)


class LimitValues(contract.Limits):
    """What may limit an account, a user or a key; null: not set here."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ticket_ev_max_wei: Wei | None = None
    ticket_face_value_max_wei: Wei | None = None
    recipients: Annotated[list[Recipient], Field(max_length=contract.LIST_MAX)] | None = None
    expires_at: Annotated[Moment, Field(strict=False)] | None = Field(
        default=None, description="Of a key; then it is refused."
    )
    spend_limit_wei: Wei | None = Field(default=None, description="In all.")
    spend_per_hour_wei: Wei | None = None
    spend_per_day_wei: Wei | None = None
    spend_per_month_wei: Wei | None = None
    alarms: AlarmValues | None = Field(default=None, description="Of a key.")

    @classmethod
    def of(cls, limits: contract.Limits) -> "LimitValues":
        return cls.model_validate(limits.model_dump(mode="json"))

    def to_contract(self) -> contract.Limits:
        return contract.Limits.model_validate(self.model_dump(include=set(contract.Limits.model_fields)))


class LimitsToSet(LimitValues):
    """All that limits an account, a user or a key from now on: what is not named is not set any more."""

    reason: Reason = UNSPECIFIED


class LimitsRead(BaseModel):
    account_id: str
    plan: str | None
    time_zone: str = Field(description="Whose hours, days and months the windows are.")
    own: LimitValues = Field(description="What was set here.")
    effective: LimitValues = Field(description="What holds: set here, or by the plan, or by default.")
    limits: list[LimitRow] = Field(
        description="Those that are counted, with what is used and held; amounts as text, in the unit "
        "that the name ends in."
    )
    sessions: int = Field(description="Payment sessions that run.")
    streams: int = Field(description="Streams that run.")
    suspended: bool


class AccountLimits(LimitsRead):
    spend_limit_wei: WeiOut | None = Field(description="In all.")
    spent_wei: WeiOut | None
    held_wei: WeiOut | None = Field(description="Leased to running sessions.")
    remaining_wei: WeiOut | None
    most_micro_usd: int | None = Field(description="The most this account can cost us; null: no bound.")


class UserLimits(LimitsRead):
    user_id: str


class KeyLimits(LimitsRead):
    key_id: str


class PlanToAssign(Body):
    plan: PlanName | None = Field(description="Null: none.")
    reason: Reason = UNSPECIFIED


class TimeZoneToSet(Body):
    time_zone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]{1,64}$")] = Field(
        description="A name of the IANA database.", examples=["Europe/Berlin"]
    )
    reason: Reason = UNSPECIFIED


class PlanToSet(Body):
    limits: LimitValues = Field(default_factory=LimitValues)
    user_limits: LimitValues = Field(default_factory=LimitValues, description="Of each user.")
    key_limits: LimitValues = Field(default_factory=LimitValues, description="Of each key.")
    rank: int = Field(
        default=5,
        strict=True,
        ge=0,
        le=9,
        description="Of what is short, new sessions of a lower rank go without first.",
    )
    trial: bool = Field(default=False, strict=True)
    reason: Reason = UNSPECIFIED

    def to_contract(self) -> contract.Plan:
        return contract.Plan(
            limits=self.limits.to_contract(),
            user_limits=self.user_limits.to_contract(),
            key_limits=self.key_limits.to_contract(),
            rank=self.rank,
            trial=self.trial,
        )


class Plan(BaseModel):
    """Limits under a name."""

    name: str
    limits: LimitValues
    user_limits: LimitValues
    key_limits: LimitValues
    rank: int
    trial: bool

    @classmethod
    def of(cls, view: contract.PlanView) -> "Plan":
        return cls(
            name=view.name,
            limits=LimitValues.of(view.plan.limits),
            user_limits=LimitValues.of(view.plan.user_limits),
            key_limits=LimitValues.of(view.plan.key_limits),
            rank=view.plan.rank,
            trial=view.plan.trial,
        )


class Plans(BaseModel):
    plans: list[Plan]


class CreditToGrant(Body):
    amount_micro_usd: MicroUsd
    credit: Literal["prepaid", "trial", "promotion"] = "prepaid"
    priority: int = Field(
        default=100, strict=True, ge=0, le=1000, description="Lower ones are drawn on first."
    )
    expires_at: Moment | None = None
    grant_id: OpaqueId | None = Field(default=None, description="Yours, if there is no `Idempotency-Key`.")
    reason: Reason = UNSPECIFIED


class Credit(BaseModel):
    """What an account has paid ahead or was given, and what it owes."""

    account_id: str
    grants: list[CreditRow]
    prepaid_micro_usd: int = Field(description="What is left of all grants.")
    owed_micro_usd: int = Field(description="What no grant covered.")
    credit_limit_micro_usd: int | None


class StreamToBegin(Body):
    stream_id: OpaqueId | None = Field(default=None, description="Yours to choose; else one is made up.")
    account_id: AccountId | None = Field(default=None, description="Whose; an administrator has to say.")
    user_id: OpaqueId | None = Field(default=None, description="Whose stream it is, unless the key says.")
    app: str = Field(default="", max_length=128, pattern=contract.PRINTABLE)
    job_type: JobType = ""
    lease_seconds: int = Field(
        default=60,
        strict=True,
        ge=LEASE_SECONDS_MIN,
        le=LEASE_SECONDS_MAX,
        description="Without a heartbeat for so long it counts as ended.",
    )


class BegunStream(BaseModel):
    """It may start, or go on; `limits` are those that hold for it."""

    stream_id: str
    account_id: str
    user_id: str | None
    begun_at: datetime
    lease_ends_at: datetime
    limits: list[LimitRow]


class Stream(BaseModel):
    stream_id: str
    account_id: str
    user_id: str | None
    key_id: str | None
    app: str
    job_type: str
    begun_at: datetime
    lease_ends_at: datetime | None = Field(description="Null: it has ended.")
    ended_at: datetime | None
    ended_because: Literal["", "ended", "lease_expired"]


class StreamPage(BaseModel):
    streams: list[Stream]
    next: str | None = NEXT


class AuditPage(BaseModel):
    """Who changed what, and why; newest first."""

    rows: list[AuditRow]
    next: str | None = NEXT


class HeldLimits(BaseModel):
    """What is counted of the holder of a key; null: not this one's to read."""

    account: list[LimitRow] | None
    user: list[LimitRow] | None
    key: list[LimitRow] | None


class Me(BaseModel):
    """Whose key this is."""

    role: Literal["administrator", "account"]
    account_id: str | None = None
    user_id: str | None = None
    key_id: str | None = None
    payer: str | None = Field(default=None, description="Whose tickets it pays with, as long as it lives.")
    limits: HeldLimits | None = Field(default=None, description="Null: they cannot be read now.")
