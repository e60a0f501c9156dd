"""How usage is asked for: the query of `/v1/usage`, as commands to metering, and what a cursor holds."""

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from contracts import metering
from services.edge.problems import UNPROCESSABLE, FieldError, Refused
from services.edge.routes import cursor
from services.edge.routes.models import AccountId, Moment, OpaqueId

GROUP_KEYS: frozenset[str] = frozenset(get_args(metering.GroupKey.__value__))
NEEDS_METER = ("window", "time_zone", "type", "filter", "as_of")

type Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
type Text = Annotated[str, StringConstraints(max_length=400, pattern=r"^[^\x00]*$")]
type NamedText = Annotated[
    str, StringConstraints(max_length=530, pattern=r"^[A-Za-z0-9_.-]{1,128}:[^\x00]*$")
]


class UsageQuery(BaseModel):
    """The parameters; an unknown one is a mistake."""

    model_config = ConfigDict(extra="forbid")

    meter: Name | None = Field(
        default=None,
        description="`stream_seconds`, `payment_cost_wei`, `payment_fee_wei`, `tickets`, `pixels`, "
        "`billable_seconds`, `sessions`, `usage_events`, or one that was defined. "
        "None: payments, tickets, cost, EV and fee at once.",
    )
    from_at: Moment | None = Field(default=None, alias="from", description="Begin, a whole hour.")
    to_at: Moment | None = Field(default=None, alias="to", description="End, exclusive, a whole hour.")
    window: metering.Window | None = Field(
        default=None, description="A row for each of these of the time zone's calendar; none: one for all."
    )
    time_zone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]{1,64}$")] | None = Field(
        default=None, description="Such as `Europe/Berlin`; none: UTC."
    )
    group_by: list[Name] = Field(
        default_factory=list,
        max_length=metering.GROUPS_MAX,
        description="Sum by these: `account`, `user`, `key`, `job_type`, `app`, `capability`, `recipient`, "
        "`type` (of `usage_events`), a defined meter's own; `hour` without a meter.",
    )
    user_id: OpaqueId | None = Field(default=None, description="Of this user only.")
    key_id: Text | None = Field(default=None, description="Of this key only.")
    job_type: Text | None = Field(default=None, description="Of this type only.")
    app: Text | None = Field(default=None, description="Of this app only; empty: of none.")
    capability: Text | None = Field(default=None, description="Of this `pipeline/model` only.")
    recipient: Text | None = Field(default=None, description="Paid to this address only.")
    type: Text | None = Field(default=None, description="Of `usage_events`: of this type only.")
    filter: list[NamedText] = Field(
        default_factory=list,
        max_length=metering.GROUPS_MAX,
        description="`name:value`: only where a defined meter's own group is this.",
    )
    as_of: Moment | None = Field(
        default=None, description="As it was known then; administrators may ask. Reaches back so far only."
    )
    format: Literal["json", "csv"] | None = Field(
        default=None, description="None: what `Accept` says, else JSON."
    )
    limit: int = Field(default=100, ge=1, le=500, description="Rows of a page.")
    cursor: str | None = Field(
        default=None,
        max_length=6_000,
        description="`next` of the page before; none for the first.",
    )

    def filters(self, user_id: str | None) -> dict[str, str]:
        """By the names of groups."""
        named = {
            "user": user_id,
            "key": self.key_id,
            "job_type": self.job_type,
            "app": self.app,
            "capability": self.capability,
            "recipient": self.recipient,
            "type": self.type,
        }
        own = dict(each.split(":", 1) for each in self.filter)
        return {**own, **{name: text for name, text in named.items() if text is not None}}

    def of_payments(self, account_id: str | None, user_id: str | None) -> metering.QueryUsage:
        """The command if no meter is named."""
        for name in NEEDS_METER:
            if getattr(self, name) not in (None, []):
                raise _amiss(name, "this needs a meter")
        if unknown := set(self.group_by) - GROUP_KEYS:
            raise _amiss("group_by", f"there is no {min(unknown)}; without a meter there are {_all_keys()}")
        return metering.QueryUsage.model_validate(
            {
                "account_id": account_id,
                "from_at": self.from_at,
                "to_at": self.to_at,
                "group_by": self.group_by,
                "filters": self.filters(user_id),
                "limit": self.limit,
                "after": cursor.decode(self.cursor, len(self.group_by)),
            }
        )

    def of_meter(self, meter: str, account_id: str | None, user_id: str | None) -> metering.QueryMeter:
        filters = self.filters(user_id)
        if len(filters) > metering.GROUPS_MAX:
            raise _amiss("filter", f"at most {metering.GROUPS_MAX} filters in all")
        return metering.QueryMeter(
            meter=meter,
            account_id=account_id,
            from_at=self.from_at,
            to_at=self.to_at,
            window=self.window,
            time_zone=self.time_zone or "UTC",
            group_by=self.group_by,
            filters=filters,
            limit=self.limit,
            after=cursor.decode(self.cursor, len(self.group_by) + bool(self.window)),
            as_of=self.as_of,
        )


class HouseUsageQuery(UsageQuery):
    account: AccountId | None = Field(default=None, description="Of this account only.")


def place_of(row: metering.MeterRow, asked: metering.QueryMeter) -> Sequence[str]:
    """What a cursor after this row holds."""
    group = [row.group.get(key) or "" for key in asked.group_by]
    return [row.window_start.isoformat(), *group] if asked.window and row.window_start else group


def _amiss(name: str, message: str) -> Refused:
    error = FieldError(field=f"query.{name}", message=message)
    return Refused(UNPROCESSABLE, "invalid_request", f"query.{name}: {message}", errors=[error])


def _all_keys() -> str:
    return ", ".join(sorted(GROUP_KEYS))
