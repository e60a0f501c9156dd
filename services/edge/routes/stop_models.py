"""What `/v1/stops` reads and answers."""

from collections.abc import Callable, Mapping
from datetime import datetime

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from contracts.limits import LIST_MAX, JobType
from contracts.stops import StopKind
from services.edge.addresses import read_address
from services.edge.routes.limit_models import NEXT, UNSPECIFIED, Reason
from services.edge.routes.models import AccountId, Body, KeyId, Moment, OpaqueId

ACCOUNT_ID: TypeAdapter[str] = TypeAdapter(AccountId)
KEY_ID: TypeAdapter[str] = TypeAdapter(KeyId)
OPAQUE_ID: TypeAdapter[str] = TypeAdapter(OpaqueId)
JOB_TYPE: TypeAdapter[str] = TypeAdapter(JobType)


def _nothing(value: str) -> str:
    if value:
        raise ValueError("everything has no value")
    return value


def _user(value: str) -> str:
    account_id, _, user_id = value.partition(":")
    return f"{ACCOUNT_ID.validate_python(account_id)}:{OPAQUE_ID.validate_python(user_id)}"


def _words(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("a name or a URL is expected")
    return value


FORMS: Mapping[StopKind, Callable[[str], str]] = {
    "everything": _nothing,
    "account": ACCOUNT_ID.validate_python,
    "user": _user,
    "key": KEY_ID.validate_python,
    "job_type": JOB_TYPE.validate_python,
    "app": _words,
    "recipient": read_address,
    "orchestrator_url": _words,
    "payer": read_address,
}


class StopTarget(Body):
    """Whose payments are not signed."""

    what: StopKind
    value: str = Field(
        default="",
        max_length=2048,
        validate_default=True,
        description="Nothing for `everything`, `account:user` for a user.",
    )

    @field_validator("value")
    @classmethod
    def _check(cls, value: str, info: ValidationInfo) -> str:
        what = info.data.get("what")
        if what is None:
            return value  # that is the mistake to tell
        try:
            return FORMS[what](value)
        except ValidationError as problem:
            raise ValueError(problem.errors()[0]["msg"]) from None


class StopsToSet(Body):
    stops: list[StopTarget] = Field(min_length=1, max_length=LIST_MAX)
    expires_at: Moment | None = Field(default=None, description="They lift themselves then.")
    reason: Reason = UNSPECIFIED


class StopsToLift(Body):
    stops: list[StopTarget] = Field(min_length=1, max_length=LIST_MAX)
    reason: Reason = UNSPECIFIED


class Stop(BaseModel):
    what: StopKind
    value: str
    reason: str
    actor: str
    set_at: datetime
    expires_at: datetime | None


class Stops(BaseModel):
    stops: list[Stop]


class StopPage(Stops):
    next: str | None = NEXT
