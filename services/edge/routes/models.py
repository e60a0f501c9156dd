"""What `/v1` reads and answers: snake_case, RFC 3339 in UTC, wei as text."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)

from services.edge.addresses import read_address
from services.edge.keys import PREFIX

WEI_MAX = 2**256 - 1


def _not_in_numbers(given: object) -> object:
    """Refuse what pydantic would read as seconds since 1970: our times are RFC 3339."""
    if isinstance(given, str):
        try:
            float(given)
        except ValueError:
            return given
    raise ValueError("a time is expected, such as 2026-03-01T12:00:00Z")


def _no_key(text: str) -> str:
    """Refuse an API key that somebody mistook for an id: ids are kept, and logged."""
    if text.startswith(f"{PREFIX}_"):
        raise ValueError("an API key is no id")
    return text


type AccountId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{3,64}$")]
type KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{12}$")]
type OpaqueId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$"), AfterValidator(_no_key)
]
type PayerAddress = Annotated[
    str,
    AfterValidator(read_address),
    Field(
        description="The payer's Ethereum address, in lower case or with the checksum of EIP-55.",
        examples=["0x00000000000000000000000000000000000000aa"],
        json_schema_extra={"pattern": "^0x[0-9a-fA-F]{40}$"},
    ),
]
type Moment = Annotated[AwareDatetime, BeforeValidator(_not_in_numbers)]
type WeiIn = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,77}$"),
    Field(description="A whole number of wei, as text.", examples=["1500000000000000"]),
]
type WeiOut = Annotated[int, PlainSerializer(str, return_type=str)]


class Body(BaseModel):
    """What a request brings; an unknown field is a mistake."""

    model_config = ConfigDict(extra="forbid")


class NewAccount(Body):
    account_id: AccountId = Field(description="Yours to choose; it says nothing about a person.")
    spend_limit_wei: WeiIn | None = Field(default=None, description="What the account may spend in all.")
    payer: PayerAddress | None = Field(
        default=None, description="Who pays for its keys; the clearinghouse's default if none is named."
    )


class Suspension(Body):
    reason: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")] = Field(
        description="A code such as `unpaid`; no free text, it is kept for ever."
    )


class KeyRequest(Body):
    user_id: OpaqueId | None = Field(default=None, description="Bind the key to one user of the account.")


class NextPayer(Body):
    payer: PayerAddress


class Account(BaseModel):
    account_id: str
    status: Literal["open", "suspended"]
    opened_at: datetime
    payer: str | None = Field(
        description="Who pays for its next keys; null: the clearinghouse's first payer."
    )


class AccountPage(BaseModel):
    accounts: list[Account]
    next: str | None = Field(description="Pass it as `cursor` for what follows; null at the end.")


class Key(BaseModel):
    key_id: str
    account_id: str
    user_id: str | None
    status: Literal["active", "revoked"]
    issued_at: datetime
    payer: str | None = Field(
        description="Who pays for what it asks, as long as it lives; null: the clearinghouse's first payer."
    )


class KeyPage(BaseModel):
    keys: list[Key]
    next: str | None = Field(description="Pass it as `cursor` for what follows; null at the end.")


class IssuedKey(BaseModel):
    """A new key. Its text is shown this once and kept nowhere."""

    key: Key
    api_key: str = Field(description="Send it as `Authorization: Bearer …`.")
    sdk_token: str = Field(description="The ready token for the Livepeer SDK.")


class UsageRow(BaseModel):
    """The sum of one group. `ev_wei` and `fee_wei` are rounded down, `cost_wei` is exact."""

    group: dict[str, str | None]
    payments: int
    tickets: int
    cost_wei: WeiOut
    ev_wei: WeiOut
    fee_wei: WeiOut


class UsagePage(BaseModel):
    usage: list[UsageRow]
    next: str | None = Field(description="Pass it as `cursor` for what follows; null at the end.")


class SessionRow(BaseModel):
    session_id: str
    account_id: str
    user_id: str | None
    app: str
    job_type: str
    orchestrator: str
    stream_id: str | None
    opened_at: datetime
    last_at: datetime
    payments: int
    tickets: int
    cost_wei: WeiOut
    closed: bool


class SessionPage(BaseModel):
    sessions: list[SessionRow]
    next: str | None = Field(description="Pass it as `cursor` for what follows; null at the end.")


class Session(BaseModel):
    """A payment session as the signer sees it now."""

    session_id: str
    account_id: str
    user_id: str | None
    stream_id: str | None
    key_id: str
    manifest_id: str
    app: str
    job_type: str
    orchestrator: str
    recipient: str
    closed: bool
    payments: int
    tickets: int
    cost_wei: WeiOut
    allowance_left_wei: WeiOut
    payer: str
    summary: str = Field(description="Where it stands, in a sentence.")


class TimelineEntry(BaseModel):
    at: datetime
    event: str
    text: str


class Timeline(BaseModel):
    """What happened to a session, in order: why did my stream stop?"""

    session_id: str
    account_id: str
    summary: str = Field(description="Where it stands, in a sentence.")
    timeline: list[TimelineEntry]


class Pool(BaseModel):
    """One payer's deposit and reserve, and what they cover."""

    payer: str
    deposit_wei: WeiOut
    reserve_wei: WeiOut
    cover_wei: WeiOut = Field(description="What exposure may reach.")
    exposure_wei: WeiOut
    held_wei: WeiOut
    round: int
    observed_at: datetime


class Pools(BaseModel):
    """Every payer's pool, by address. No payer's tickets draw on another's."""

    pools: list[Pool]


class Redemption(BaseModel):
    """A winning ticket that was redeemed on the chain, and what it is to us."""

    redemption_id: str
    kind: Literal["pending", "signed", "recovered", "orphan"] = Field(
        description="`orphan`: our key signed it, and we know nothing of it; the key is used elsewhere."
    )
    reason: str = Field(description="Why a recovered one counts as ours; else empty.")
    payer: str
    recipient: str
    recipient_rand_hash: str
    sender_nonce: WeiOut = Field(description="Up to 256 bits, as text.")
    face_value_wei: WeiOut
    win_prob: str
    paid_wei: WeiOut = Field(description="What left the pool for it; may be less than the face value.")
    creation_round: int
    tx_hash: str
    log_index: int
    block: int
    seen_at: datetime


class RedemptionPage(BaseModel):
    redemptions: list[Redemption]
    next: str | None = Field(description="Pass it as `cursor` for what follows; null at the end.")
