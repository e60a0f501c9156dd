"""The file that `clearinghouse apply` takes: what plans and accounts are to be.

Every value is read as text and checked against the contracts, so that `0x…` is an address and `no` a
word. What is not named in the file stays as it is.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contracts import limits as contract
from contracts.limits import MICRO_USD_MAX, PlanName, Recipient
from services.cli.running import RefusedHereError

PROBLEMS_SHOWN = 20


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no time zone of IANA, such as Europe/Berlin") from None
    return name


type AccountId = Annotated[str, Field(pattern=r"^[a-z0-9-]{3,64}$")]
type UserId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
type KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{12}$")]


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Alarms(contract.Alarms):
    model_config = ConfigDict(extra="forbid")


class Limits(contract.Limits):
    """Exactly these; what is not named is not set."""

    model_config = ConfigDict(extra="forbid")

    alarms: Alarms | None = None


def _of(level: contract.Level) -> AfterValidator:
    def check(limits: Limits) -> Limits:
        contract.check_level(limits, level)
        return limits

    return AfterValidator(check)


type AccountLimits = Annotated[Limits, _of("account")]
type UserLimits = Annotated[Limits, _of("user")]
type KeyLimits = Annotated[Limits, _of("key")]


class Plan(Entry):
    name: PlanName
    limits: AccountLimits = Limits()
    user_limits: UserLimits = Limits()
    key_limits: KeyLimits = Limits()
    rank: int = Field(default=contract.Plan().rank, ge=0, le=9)
    trial: bool = False

    def told(self) -> contract.Plan:
        return contract.Plan.model_validate(self.model_dump(exclude={"name"}))


class Grant(Entry):
    grant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
    credit: Literal["prepaid", "trial", "promotion"] = "prepaid"
    amount_micro_usd: int = Field(ge=1, le=MICRO_USD_MAX)
    priority: int = Field(default=100, ge=0, le=1000)
    expires_at: AwareDatetime | None = None


class Account(Entry):
    account_id: AccountId
    status: Literal["open", "suspended"] | None = None
    payer: Recipient | None = None
    plan: PlanName | None = None
    time_zone: Annotated[str, AfterValidator(_time_zone)] | None = None
    limits: AccountLimits | None = None
    users: dict[UserId, UserLimits] = Field(default_factory=dict)
    keys: dict[KeyId, KeyLimits] = Field(default_factory=dict)
    credit: list[Grant] = Field(default_factory=list)


class AccountsFile(Entry):
    plans: list[Plan] = Field(default_factory=list)
    accounts: list[Account] = Field(default_factory=list)


def read_file(path: Path) -> AccountsFile:
    """Raise RefusedHereError with all that is wrong with it."""
    try:
        found = yaml.load(path.read_text(), Loader=TextLoader)  # noqa: S506 (makes texts, lists and maps only)
        file = AccountsFile.model_validate({} if found in (None, "") else found)
    except ValidationError as problem:
        raise refused([_line(each) for each in problem.errors(include_input=False)]) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise refused([f"{path}: {type(problem).__name__}"]) from None
    except yaml.YAMLError as problem:
        raise refused([" ".join(str(problem).split())]) from None
    except RecursionError:
        raise refused(["the file is nested too deeply"]) from None
    if twice := list(_twice(file)):
        raise refused(twice)
    return file


def refused(problems: list[str]) -> RefusedHereError:
    more = [f"and {len(problems) - PROBLEMS_SHOWN} more"] if len(problems) > PROBLEMS_SHOWN else []
    return RefusedHereError("bad_file", "; ".join(problems[:PROBLEMS_SHOWN] + more))


class TextLoader(yaml.BaseLoader):
    """Takes each value as the text it is, and a name only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 (the library's)
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, times in names.items():
            if times > 1:
                raise yaml.MarkedYAMLError(problem=f"{name!r} is there twice", problem_mark=node.start_mark)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def _line(error: Any) -> str:
    return f"{'.'.join(map(str, error['loc'])) or 'the file'}: {error['msg']}"


def _twice(file: AccountsFile) -> Iterable[str]:
    yield from _repeated("plan", (plan.name for plan in file.plans))
    yield from _repeated("account", (account.account_id for account in file.accounts))
    for account in file.accounts:
        grants = (grant.grant_id for grant in account.credit)
        yield from _repeated(f"{account.account_id}: grant", grants)


def _repeated(what: str, names: Iterable[str]) -> Iterable[str]:
    return (f"{what} {name} is there twice" for name, times in Counter(names).items() if times > 1)
