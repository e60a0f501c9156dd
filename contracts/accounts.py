"""What accounts says and listens to.

Who changes something may say who they are (`actor`, an opaque id) and why (`reason`, a code).
"""

from datetime import datetime
from typing import ClassVar, Literal

from contracts.message import Command, Event, Message

IDENTITIES = "identities"  # the KV bucket the edge authenticates from


class OpenAccount(Command):
    subject: ClassVar[str] = "cmd.accounts.open_account.v1"

    account_id: str
    payer: str | None = None  # 0x and 40 lower-case digits; None: the default of accounts
    actor: str = ""
    reason: str = ""


class SuspendAccount(Command):
    subject: ClassVar[str] = "cmd.accounts.suspend_account.v1"

    account_id: str
    reason: str
    actor: str = ""


class ResumeAccount(Command):
    subject: ClassVar[str] = "cmd.accounts.resume_account.v1"

    account_id: str
    actor: str = ""
    reason: str = ""


class SetPayer(Command):
    """Choose who pays for the account's next keys; a key that was issued keeps its payer."""

    subject: ClassVar[str] = "cmd.accounts.set_payer.v1"

    account_id: str
    payer: str
    actor: str = ""
    reason: str = ""


class GetAccount(Command):
    subject: ClassVar[str] = "cmd.accounts.get_account.v1"

    account_id: str


class ListAccounts(Command):
    subject: ClassVar[str] = "cmd.accounts.list_accounts.v1"

    after: str = ""
    limit: int = 50


class IssueApiKey(Command):
    """The edge made the key; only its id and its HMAC travel."""

    subject: ClassVar[str] = "cmd.accounts.issue_api_key.v1"

    account_id: str
    key_id: str
    secret_hash: str
    user_id: str | None = None
    actor: str = ""
    reason: str = ""


class RevokeApiKey(Command):
    subject: ClassVar[str] = "cmd.accounts.revoke_api_key.v1"

    account_id: str
    key_id: str
    actor: str = ""
    reason: str = ""


class ListApiKeys(Command):
    subject: ClassVar[str] = "cmd.accounts.list_api_keys.v1"

    account_id: str
    after: str = ""
    limit: int = 50


class FindIdentity(Command):
    """What the edge asks once about a key id that its copy of the bucket does not know."""

    subject: ClassVar[str] = "cmd.accounts.find_identity.v1"

    key_id: str


class AccountView(Message):
    kind: Literal["account"] = "account"
    account_id: str
    status: Literal["open", "suspended"]
    opened_at: datetime
    payer: str | None = None  # of its next keys; None: the signer's first


class AccountPage(Message):
    kind: Literal["account_page"] = "account_page"
    accounts: list[AccountView]


class ApiKeyView(Message):
    kind: Literal["api_key"] = "api_key"
    key_id: str
    account_id: str
    user_id: str | None
    status: Literal["active", "revoked"]
    issued_at: datetime
    payer: str | None = None  # for life; None: the signer's first


class ApiKeyPage(Message):
    kind: Literal["api_key_page"] = "api_key_page"
    keys: list[ApiKeyView]


class Identity(Message):
    """An entry of the `identities` bucket, by key id: who presents this key, and may they?"""

    kind: Literal["identity"] = "identity"
    key_id: str
    account_id: str
    user_id: str | None
    secret_hash: str
    status: Literal["active", "revoked", "suspended"]
    payer: str | None = None  # for life; None: the signer's first


class AccountOpened(Event):
    subject: ClassVar[str] = "evt.accounts.account_opened.v1"

    account_id: str
    payer: str | None = None
    actor: str = ""
    reason: str = ""


class AccountSuspended(Event):
    subject: ClassVar[str] = "evt.accounts.account_suspended.v1"

    account_id: str
    reason: str
    actor: str = ""


class AccountResumed(Event):
    subject: ClassVar[str] = "evt.accounts.account_resumed.v1"

    account_id: str
    actor: str = ""
    reason: str = ""


class AccountPayerSet(Event):
    """The account's next keys have this payer."""

    subject: ClassVar[str] = "evt.accounts.account_payer_set.v1"

    account_id: str
    payer: str
    actor: str = ""
    reason: str = ""


class ApiKeyIssued(Event):
    subject: ClassVar[str] = "evt.accounts.api_key_issued.v1"

    account_id: str
    key_id: str
    user_id: str | None
    payer: str | None = None
    actor: str = ""
    reason: str = ""


class ApiKeyRevoked(Event):
    subject: ClassVar[str] = "evt.accounts.api_key_revoked.v1"

    account_id: str
    key_id: str
    actor: str = ""
    reason: str = ""
