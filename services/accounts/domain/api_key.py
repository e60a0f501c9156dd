"""API keys: by which credential an account, or one of its users, is known.

Refused
├── KeyNotFound   no such key of this account
└── KeyIdTaken    the id belongs to a key with other content
"""

import re
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.accounts.domain.accounts import KEY_ID, UNSAID, Author, require
from shared.refusal import Refused

USER_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SECRET_HASH = re.compile(r"[0-9a-f]{64}")


class KeyNotFound(Refused):
    code = "key_not_found"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no key {key_id}")


class KeyIdTaken(Refused):
    code = "key_id_taken"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"another key has the id {key_id}")


class ApiKey(Aggregate):
    """A credential of an account, optionally of one user. The key itself never gets here.

    Its payer is its account's at the moment of issue, and stays.
    """

    TOPIC = "accounts.api_key"

    class Event(Aggregate.Event):
        TOPIC = "accounts.api_key.event"

    class Issued(Event, Aggregate.Created):
        TOPIC = "accounts.api_key_issued"
        account_id: str
        key_id: str
        user_id: str | None
        secret_hash: str
        payer: str | None = None  # events from before there were several payers have none
        actor: str = ""  # events from before changes had authors have neither
        reason: str = ""

    class Revoked(Event):
        TOPIC = "accounts.api_key_revoked"
        account_id: str
        key_id: str
        actor: str = ""
        reason: str = ""

    @staticmethod
    def create_id(key_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/api-keys/{key_id}")

    @event(Issued)
    def __init__(
        self,
        account_id: str,
        key_id: str,
        user_id: str | None,
        secret_hash: str,
        timestamp: datetime,
        payer: str | None = None,
        actor: str = "",
        reason: str = "",
    ) -> None:
        self.account_id = account_id
        self.key_id = key_id
        self.user_id = user_id
        self.secret_hash = secret_hash
        self.payer = payer
        self.revoked = False

    @classmethod
    def issue(
        cls,
        *,
        account_id: str,
        key_id: str,
        user_id: str | None,
        secret_hash: str,
        payer: str | None = None,
        at: datetime,
        by: Author = UNSAID,
    ) -> "ApiKey":
        require(KEY_ID, key_id, "key_id")
        require(SECRET_HASH, secret_hash, "secret_hash")
        if user_id is not None:
            require(USER_ID, user_id, "user_id")
        return cls(
            account_id,
            key_id,
            user_id,
            secret_hash,
            timestamp=at,
            payer=payer,
            actor=by.actor,
            reason=by.reason,
        )

    def require_same(self, *, account_id: str, user_id: str | None, secret_hash: str) -> None:
        """Accept a repeat of the issuing; the id with other content is refused."""
        if (self.account_id, self.user_id, self.secret_hash) != (account_id, user_id, secret_hash):
            raise KeyIdTaken(self.key_id)

    def revoke(self, *, at: datetime, by: Author = UNSAID) -> None:
        if not self.revoked:
            self._revoked(self.account_id, self.key_id, timestamp=at, actor=by.actor, reason=by.reason)

    @event(Revoked)
    def _revoked(
        self, account_id: str, key_id: str, timestamp: datetime, actor: str = "", reason: str = ""
    ) -> None:
        self.revoked = True
