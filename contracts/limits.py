"""Limits and plans: what may be set, in which words.

Wei and prices travel as text; micro-USD as numbers; a price is wei a unit, `1200` or `1200/7`, its
unit what the job type bills: seconds (`live`), pixels (`lv2v`, and requests that name none), calls
(`fixed`).
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from ipaddress import ip_network
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from contracts.message import Command, Event, Message, WeiText

RULES = "rules"  # the KV bucket of what signers and edges check by themselves
LIST_MAX = 500
MICRO_USD_MAX = 10**15  # a billion dollars
WEI_MAX = 2**256 - 1
KEY_TEXT_MAX = 256


def _network(text: str) -> str:
    return str(ip_network(text))  # raises ValueError with what is wrong


type LimitWei = Annotated[WeiText, Field(ge=0, le=WEI_MAX)]
type LimitMicroUsd = Annotated[int, Field(ge=0, le=MICRO_USD_MAX)]
type PriceText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,30}(/[1-9][0-9]{0,29})?$")]
# What is kept as text: no control characters, of which PostgreSQL does not take all.
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
type Word = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=PRINTABLE)]
type PricedAs = Annotated[str, StringConstraints(max_length=128, pattern=PRINTABLE)]  # "" is a job type, too
type Apps = Annotated[
    list[Annotated[str, StringConstraints(max_length=128, pattern=PRINTABLE)]], Field(max_length=LIST_MAX)
]
type Words = Annotated[list[Word], Field(max_length=LIST_MAX)]
type Recipient = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{40}$")]
type Network = Annotated[str, StringConstraints(max_length=64), AfterValidator(_network)]
type JobType = Literal["live", "lv2v", "fixed", ""]
type Actor = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
type Reason = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")]
type PlanName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]
type Alarm = Literal["spend", "network", "recipient"]


class Rules(Message):
    """Limits that a signer or an edge checks by itself; a list names all that is allowed."""

    payments_per_second: int | None = Field(default=None, ge=1, le=100_000)
    ticket_ev_max_wei: LimitWei | None = None
    ticket_face_value_max_wei: LimitWei | None = None
    prices_max: Annotated[dict[PricedAs, PriceText], Field(max_length=LIST_MAX)] | None = Field(
        default=None,
        description="By job type (`live`), by pipeline or by model (`live-video-to-video/a-model`).",
    )
    job_types: list[JobType] | None = Field(default=None, max_length=4)
    apps: Apps | None = Field(default=None, description="An empty one: requests that name no app.")
    capabilities: Words | None = Field(
        default=None, description="Pipelines or models: `live-video-to-video`, `live-video-to-video/a-model`."
    )
    recipients: Annotated[list[Recipient], Field(max_length=LIST_MAX)] | None = None
    networks: Annotated[list[Network], Field(max_length=LIST_MAX)] | None = Field(
        default=None, description="CIDR; requests from elsewhere are refused."
    )
    expires_at: AwareDatetime | None = Field(default=None, description="Of a key; then it is refused.")


class Alarms(Message):
    """What of a key's doings is an alarm, and which alarms stop the key until somebody lifts that."""

    spend_times: int | None = Field(
        default=5,
        ge=2,
        le=1000,
        description="In an hour, of the most in any hour of the seven days before; null: no such alarm.",
    )
    network: bool = Field(default=True, description="It is used from a network that was not seen before.")
    recipient: bool = Field(default=True, description="It pays a recipient that it did not pay before.")
    holds: list[Alarm] = Field(default_factory=list, max_length=3)


class Limits(Rules):
    """What may limit an account, a user, a key or a session token. None: not set here."""

    spend_limit_wei: LimitWei | None = Field(default=None, description="In all.")
    spend_per_hour_wei: LimitWei | None = None
    spend_per_day_wei: LimitWei | None = None
    spend_per_month_wei: LimitWei | None = None
    spend_limit_micro_usd: LimitMicroUsd | None = Field(default=None, description="In all.")
    spend_per_hour_micro_usd: LimitMicroUsd | None = None
    spend_per_day_micro_usd: LimitMicroUsd | None = None
    spend_per_month_micro_usd: LimitMicroUsd | None = None
    credit_limit_micro_usd: LimitMicroUsd | None = Field(
        default=None, description="What an account may owe beyond its prepaid credit; 0: prepaid only."
    )
    sessions_max: int | None = Field(default=None, ge=0, le=1_000_000)
    streams_max: int | None = Field(default=None, ge=0, le=1_000_000)
    overage: bool | None = Field(default=None, description="Limits on spend warn, and refuse nothing.")
    grace_seconds: int | None = Field(
        default=None, ge=0, le=86_400, description="For which running sessions go on at a spend limit."
    )
    alarms: Alarms | None = Field(default=None, description="Of a key.")


type Level = Literal["account", "user", "key", "token"]

# Limits that mean something for these only; set for others they would do nothing.
ONLY_OF: Mapping[str, Level] = {"credit_limit_micro_usd": "account", "alarms": "key"}


def misplaced(limits: Limits, level: Level) -> dict[str, str]:
    """Return what is wrong with limits that are set and mean nothing at this level, by name."""
    return {
        name: f"is for {only}s only, not for {level}s"
        for name, only in ONLY_OF.items()
        if only != level and getattr(limits, name) is not None
    }


def check_level(limits: Limits, level: Level) -> None:
    """Refuse, in a validator, limits of which one means nothing at this level."""
    for name, problem in misplaced(limits, level).items():
        raise PydanticCustomError("misplaced_limit", "{limit} {problem}", {"limit": name, "problem": problem})


class Scoped(Message):
    """Whose: the account's, or one user's, key's or session token's of it."""

    account_id: str
    user_id: str | None = None
    key_id: str | None = None
    token_id: str | None = None

    @property
    def level(self) -> Level:
        """The narrowest that is named."""
        if self.token_id is not None:
            return "token"
        if self.key_id is not None:
            return "key"
        return "user" if self.user_id is not None else "account"


class Authored(Message):
    """Who changes something and why: an id and a code, for they are kept for ever."""

    actor: Actor
    reason: Reason


class SetLimits(Scoped, Authored, Command):
    """Replace all limits that were set for a scope."""

    subject: ClassVar[str] = "cmd.quota.set_limits.v1"

    limits: Limits
    version: int | None = None  # if another is set already, nothing is changed; None: whatever is

    @model_validator(mode="after")
    def _check_level(self) -> Self:
        check_level(self.limits, self.level)
        return self


class EndToken(Authored, Command):
    """Refuse a session token from now on, and take back what its sessions hold."""

    subject: ClassVar[str] = "cmd.quota.end_token.v1"

    account_id: str
    token_id: str = Field(pattern=r"^[0-9A-Za-z]{12}$")


class ReadLimits(Scoped, Command):
    subject: ClassVar[str] = "cmd.quota.read_limits.v1"


class LimitRow(Message):
    """One limit with what is used of it. Amounts are in the unit its name ends in."""

    name: str
    limit: WeiText
    used: WeiText
    held: WeiText
    remaining: WeiText
    resets_at: datetime | None = None  # None: not by itself


class LimitsView(Scoped):
    kind: Literal["limits"] = "limits"
    plan: str | None
    time_zone: str
    own: Limits
    effective: Limits
    rows: list[LimitRow]
    sessions: int
    streams: int
    suspended: bool
    most_micro_usd: int | None = None  # the most the account can cost us
    # Of what is set here: another after each change, of plan and time zone too. None: not told.
    version: int | None = None
    micro_usd_per_eth: int | None = None  # the rate that dollars are counted with; None: none is known


class AssignPlan(Authored, Command):
    subject: ClassVar[str] = "cmd.quota.assign_plan.v1"

    account_id: str
    plan: PlanName | None


class SetTimeZone(Authored, Command):
    """Whose hours, days and months an account's windows are: a name of the IANA database."""

    subject: ClassVar[str] = "cmd.quota.set_time_zone.v1"

    account_id: str
    time_zone: str = Field(max_length=64)


class Plan(Message):
    """Limits under a name. Of what is short, new sessions of a lower rank go without first."""

    limits: Limits = Field(default_factory=Limits)
    user_limits: Limits = Field(default_factory=Limits, description="Of each user.")
    key_limits: Limits = Field(default_factory=Limits, description="Of each key.")
    rank: int = Field(default=5, ge=0, le=9)
    trial: bool = False


class SetPlan(Authored, Command):
    subject: ClassVar[str] = "cmd.quota.set_plan.v1"

    name: PlanName
    plan: Plan
    version: int | None = None  # as of limits

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        check_level(self.plan.limits, "account")
        check_level(self.plan.user_limits, "user")
        check_level(self.plan.key_limits, "key")
        return self


class ListPlans(Command):
    subject: ClassVar[str] = "cmd.quota.list_plans.v1"


class PlanView(Message):
    kind: Literal["plan"] = "plan"
    name: str
    plan: Plan
    version: int | None = None


class PlanPage(Message):
    kind: Literal["plan_page"] = "plan_page"
    plans: list[PlanView]


class RulesEntry(Message):
    """An entry of the `rules` bucket: what was set for a scope, or a plan.

    Keys: see `plan_entry` and `scope_entry`; the `stops` bucket has a StopView under each `stop_entry`.
    What an account does not set comes from its plan, or from the plan named `default`; so do rules of
    its users and keys. All that hold for a request are checked, each by itself.
    """

    rules: Rules = Field(default_factory=Rules)
    plan: str | None = None  # of an account
    user_rules: Rules | None = None  # of a plan
    key_rules: Rules | None = None


def plan_entry(name: str) -> str:
    return f"plan.{name}"


def scope_entry(scope: Scoped) -> str:
    if scope.token_id is not None:
        return f"token.{scope.account_id}.{scope.token_id}"
    if scope.key_id is not None:
        return f"key.{scope.account_id}.{scope.key_id}"
    if scope.user_id is not None:
        return f"user.{scope.account_id}.{in_key(scope.user_id)}"
    return f"account.{scope.account_id}"


def in_key(text: str) -> str:
    """As a KV bucket's keys may hold it: URL-safe base64 without padding; long ones by their hash."""
    if len(text) > KEY_TEXT_MAX:
        text = sha256(text.encode()).hexdigest()
    return urlsafe_b64encode(text.encode()).decode().rstrip("=") or "_"


class LimitsSet(Scoped, Event):
    subject: ClassVar[str] = "evt.quota.limits_set.v1"

    limits: Limits
    actor: str
    reason: str


class PlanAssigned(Event):
    subject: ClassVar[str] = "evt.quota.plan_assigned.v1"

    account_id: str
    plan: str | None
    actor: str
    reason: str


class TimeZoneSet(Event):
    subject: ClassVar[str] = "evt.quota.time_zone_set.v1"

    account_id: str
    time_zone: str
    actor: str
    reason: str


class PlanSet(Event):
    subject: ClassVar[str] = "evt.quota.plan_set.v1"

    name: str
    plan: Plan
    actor: str
    reason: str


class BudgetLow(Scoped, Event):
    """A limit comes near: told once at 50, 80 and 100 percent in each of its windows."""

    subject: ClassVar[str] = "evt.quota.budget_low.v1"

    limit: str
    percent: int
