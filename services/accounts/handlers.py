"""Commands of accounts, and their replies."""

from datetime import timedelta
from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts.accounts import (
    AccountPage,
    AccountView,
    ApiKeyPage,
    ApiKeyView,
    FindIdentity,
    GetAccount,
    Identity,
    IssueApiKey,
    ListAccounts,
    ListApiKeys,
    OpenAccount,
    ResumeAccount,
    RevokeApiKey,
    SetPayer,
    SuspendAccount,
)
from contracts.audit import AuditPage, ReadAudit, read_audit_subject
from contracts.hooks import AddHook, HookPage, HookView, ListHooks, RemoveHook, RotateHook
from contracts.message import LogPage, ReadLog, read_log_subject
from services.accounts.application import Accounts
from services.accounts.directory import AccountRow, KeyRow
from services.accounts.domain.accounts import Author
from services.accounts.identities import Identities, to_hook, to_identity
from shared.clock import Clock
from shared.log import PublicLog

QUEUE = "accounts"

router = NatsRouter()

type TheAccounts = Annotated[Accounts, Context("accounts")]
type TheIdentities = Annotated[Identities, Context("identities")]
type TheClock = Annotated[Clock, Context("clock")]
type TheLog = Annotated[PublicLog, Context("public_log")]


@router.subscriber(OpenAccount.subject, QUEUE)
def open_account(command: OpenAccount, accounts: TheAccounts, clock: TheClock) -> AccountView:
    row = accounts.open_account(command.account_id, payer=command.payer, at=clock.now(), by=_author(command))
    return _account_view(row)


@router.subscriber(SuspendAccount.subject, QUEUE)
def suspend_account(
    command: SuspendAccount, accounts: TheAccounts, identities: TheIdentities, clock: TheClock
) -> AccountView:
    row = accounts.suspend_account(command.account_id, command.reason, at=clock.now(), actor=command.actor)
    identities.refresh_account(command.account_id)
    return _account_view(row)


@router.subscriber(ResumeAccount.subject, QUEUE)
def resume_account(
    command: ResumeAccount, accounts: TheAccounts, identities: TheIdentities, clock: TheClock
) -> AccountView:
    row = accounts.resume_account(command.account_id, at=clock.now(), by=_author(command))
    identities.refresh_account(command.account_id)
    return _account_view(row)


@router.subscriber(SetPayer.subject, QUEUE)
def set_payer(command: SetPayer, accounts: TheAccounts, clock: TheClock) -> AccountView:
    row = accounts.set_payer(command.account_id, command.payer, at=clock.now(), by=_author(command))
    return _account_view(row)


@router.subscriber(IssueApiKey.subject, QUEUE)
def issue_api_key(
    command: IssueApiKey, accounts: TheAccounts, identities: TheIdentities, clock: TheClock
) -> ApiKeyView:
    row = accounts.issue_key(
        account_id=command.account_id,
        key_id=command.key_id,
        user_id=command.user_id,
        secret_hash=command.secret_hash,
        at=clock.now(),
        by=_author(command),
    )
    identities.refresh_key(command.key_id)
    return _key_view(row)


@router.subscriber(RevokeApiKey.subject, QUEUE)
def revoke_api_key(
    command: RevokeApiKey, accounts: TheAccounts, identities: TheIdentities, clock: TheClock
) -> ApiKeyView:
    row = accounts.revoke_key(
        account_id=command.account_id, key_id=command.key_id, at=clock.now(), by=_author(command)
    )
    identities.refresh_key(command.key_id)
    return _key_view(row)


@router.subscriber(AddHook.subject, QUEUE)
def add_hook(command: AddHook, accounts: TheAccounts, identities: TheIdentities, clock: TheClock) -> HookView:
    row = accounts.add_hook(
        account_id=command.account_id, hook_id=command.hook_id, at=clock.now(), by=_author(command)
    )
    identities.refresh_hooks(command.account_id)
    return to_hook(row)


@router.subscriber(RotateHook.subject, QUEUE)
def rotate_hook(
    command: RotateHook, accounts: TheAccounts, identities: TheIdentities, clock: TheClock
) -> HookView:
    row = accounts.rotate_hook(
        account_id=command.account_id,
        hook_id=command.hook_id,
        overlap=timedelta(seconds=command.overlap_seconds),
        at=clock.now(),
        by=_author(command),
    )
    identities.refresh_hooks(command.account_id)
    return to_hook(row)


@router.subscriber(RemoveHook.subject, QUEUE)
def remove_hook(
    command: RemoveHook, accounts: TheAccounts, identities: TheIdentities, clock: TheClock
) -> HookView:
    row = accounts.remove_hook(
        account_id=command.account_id, hook_id=command.hook_id, at=clock.now(), by=_author(command)
    )
    identities.refresh_hooks(command.account_id)
    return to_hook(row)


@router.subscriber(ListHooks.subject, QUEUE)
def list_hooks(command: ListHooks, accounts: TheAccounts) -> HookPage:
    return HookPage(hooks=[to_hook(row) for row in accounts.hooks(command.account_id)])


@router.subscriber(GetAccount.subject, QUEUE)
def get_account(command: GetAccount, accounts: TheAccounts) -> AccountView:
    return _account_view(accounts.account(command.account_id))


@router.subscriber(ListAccounts.subject, QUEUE)
def list_accounts(command: ListAccounts, accounts: TheAccounts) -> AccountPage:
    rows = accounts.accounts(after=command.after, limit=command.limit)
    return AccountPage(accounts=[_account_view(row) for row in rows])


@router.subscriber(ListApiKeys.subject, QUEUE)
def list_api_keys(command: ListApiKeys, accounts: TheAccounts) -> ApiKeyPage:
    rows = accounts.keys(command.account_id, after=command.after, limit=command.limit)
    return ApiKeyPage(keys=[_key_view(row) for row in rows])


@router.subscriber(FindIdentity.subject, QUEUE)
def find_identity(command: FindIdentity, accounts: TheAccounts) -> Identity:
    return to_identity(accounts.identity(command.key_id))


@router.subscriber(read_log_subject("accounts"), QUEUE)
def read_log(command: ReadLog, public_log: TheLog) -> LogPage:
    return public_log.read(command)


@router.subscriber(read_audit_subject("accounts"), QUEUE)
def read_audit(command: ReadAudit, accounts: TheAccounts) -> AuditPage:
    return accounts.audit.read(command)


type Signed = (
    OpenAccount | ResumeAccount | SetPayer | IssueApiKey | RevokeApiKey | AddHook | RotateHook | RemoveHook
)


def _author(command: Signed) -> Author:
    return Author(command.actor, command.reason)


def _account_view(row: AccountRow) -> AccountView:
    return AccountView(
        account_id=row.account_id,
        status="suspended" if row.suspended else "open",
        opened_at=row.opened_at,
        payer=row.payer,
    )


def _key_view(row: KeyRow) -> ApiKeyView:
    return ApiKeyView(
        key_id=row.key_id,
        account_id=row.account_id,
        user_id=row.user_id,
        status="revoked" if row.revoked else "active",
        issued_at=row.issued_at,
        payer=row.payer,
    )
