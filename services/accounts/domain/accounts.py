"""Accounts: who settles with us, and how many keys and hooks one may have.

Refused
├── BadId              an account's or key's id, a payer, an actor or a reason has the wrong shape
├── AccountNotFound    nobody opened it
├── AccountIdTaken     it was opened with another payer
├── AccountSuspended   it gets no new keys meanwhile
├── TooManyKeys        the account has as many keys as one may have
└── TooManyHooks       the account has as many hooks as one may have
"""

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from shared.refusal import Refused

KEYS_MAX = 1_000  # of one account, revoked ones included: suspending rewrites them all at once
HOOKS_MAX = 20  # of one account; removed ones make room
ACCOUNT_ID = re.compile(r"[a-z0-9-]{3,64}")
KEY_ID = re.compile(r"[A-Za-z0-9]{12}")
REASON = re.compile(r"[a-z0-9_]{1,64}")  # a code: free text would bring personal data into events
ACTOR = re.compile(r"[A-Za-z0-9._:-]{1,128}")  # who asked: a credential's id or a tool, never a name
PAYER = re.compile(r"0x[0-9a-f]{40}")


class BadId(Refused):
    code = "bad_id"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} has a wrong form")


class AccountNotFound(Refused):
    code = "account_not_found"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"there is no account {account_id}")


class AccountIdTaken(Refused):
    code = "account_id_taken"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} was opened with another payer")


class AccountSuspended(Refused):
    code = "account_suspended"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} is suspended")


class TooManyKeys(Refused):
    code = "too_many_keys"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} has {KEYS_MAX} keys already")


class TooManyHooks(Refused):
    code = "too_many_hooks"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} has {HOOKS_MAX} hooks already")


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, and why; empty where nobody said."""

    actor: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.actor:
            require(ACTOR, self.actor, "actor")
        if self.reason:
            require(REASON, self.reason, "reason")


UNSAID = Author()


class Account(Aggregate):
    """Who settles with us. Its id is given by the operator and says nothing about a person.

    `payer` is what its next keys get; None is the signer's first, as before there were several.
    """

    TOPIC = "accounts.account"

    class Event(Aggregate.Event):
        TOPIC = "accounts.account.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "accounts.account_opened"
        account_id: str
        payer: str | None = None  # events from before there were several payers have none
        actor: str = ""  # events from before changes had authors have neither
        reason: str = ""

    class Suspended(Event):
        TOPIC = "accounts.account_suspended"
        account_id: str
        reason: str
        actor: str = ""

    class Resumed(Event):
        TOPIC = "accounts.account_resumed"
        account_id: str
        actor: str = ""
        reason: str = ""

    class PayerSet(Event):
        TOPIC = "accounts.account_payer_set"
        account_id: str
        payer: str
        actor: str = ""
        reason: str = ""

    class KeyAdmitted(Event):
        TOPIC = "accounts.key_admitted"

    class HookAdmitted(Event):
        TOPIC = "accounts.hook_admitted"

    class HookDismissed(Event):
        TOPIC = "accounts.hook_dismissed"

    @staticmethod
    def create_id(account_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{account_id}")

    @event(Opened)
    def __init__(
        self,
        account_id: str,
        timestamp: datetime,
        payer: str | None = None,
        actor: str = "",
        reason: str = "",
    ) -> None:
        self.account_id = account_id
        self.opened_with = payer
        self.payer = payer
        self.suspended = False
        self.keys = 0
        self.hooks = 0

    @classmethod
    def open(
        cls, account_id: str, *, payer: str | None = None, at: datetime, by: Author = UNSAID
    ) -> "Account":
        require(ACCOUNT_ID, account_id, "account_id")
        if payer is not None:
            require(PAYER, payer, "payer")
        return cls(account_id, timestamp=at, payer=payer, actor=by.actor, reason=by.reason)

    def require_same(self, *, payer: str | None) -> None:
        """Accept a repeat of the opening, whatever was set since; another payer is refused."""
        if payer not in {None, self.opened_with}:
            raise AccountIdTaken(self.account_id)

    def suspend(self, reason: str, *, at: datetime, actor: str = "") -> None:
        require(REASON, reason, "reason")
        by = Author(actor, reason)
        if not self.suspended:
            self._suspended(self.account_id, reason, timestamp=at, actor=by.actor)

    def resume(self, *, at: datetime, by: Author = UNSAID) -> None:
        if self.suspended:
            self._resumed(self.account_id, timestamp=at, actor=by.actor, reason=by.reason)

    def set_payer(self, payer: str, *, at: datetime, by: Author = UNSAID) -> None:
        """Choose the payer of the keys to come. Clients of a key remember its payer's address."""
        require(PAYER, payer, "payer")
        if payer != self.payer:
            self._payer_set(self.account_id, payer, timestamp=at, actor=by.actor, reason=by.reason)

    def admit_key(self, *, at: datetime) -> None:
        """Count one more key; saved with it, so that a suspension cannot slip in between."""
        if self.suspended:
            raise AccountSuspended(self.account_id)
        if self.keys >= KEYS_MAX:
            raise TooManyKeys(self.account_id)
        self._key_admitted(timestamp=at)

    def admit_hook(self, *, at: datetime) -> None:
        """Count one more hook; saved with it."""
        if self.hooks >= HOOKS_MAX:
            raise TooManyHooks(self.account_id)
        self._hook_admitted(timestamp=at)

    def dismiss_hook(self, *, at: datetime) -> None:
        self._hook_dismissed(timestamp=at)

    @event(Suspended)
    def _suspended(self, account_id: str, reason: str, timestamp: datetime, actor: str = "") -> None:
        self.suspended = True

    @event(Resumed)
    def _resumed(self, account_id: str, timestamp: datetime, actor: str = "", reason: str = "") -> None:
        self.suspended = False

    @event(PayerSet)
    def _payer_set(
        self, account_id: str, payer: str, timestamp: datetime, actor: str = "", reason: str = ""
    ) -> None:
        self.payer = payer

    @event(KeyAdmitted)
    def _key_admitted(self, timestamp: datetime) -> None:
        self.keys += 1

    @event(HookAdmitted)
    def _hook_admitted(self, timestamp: datetime) -> None:
        self.hooks += 1

    @event(HookDismissed)
    def _hook_dismissed(self, timestamp: datetime) -> None:
        self.hooks -= 1


def require(pattern: re.Pattern[str], value: str, what: str) -> None:
    if not pattern.fullmatch(value):
        raise BadId(what)
