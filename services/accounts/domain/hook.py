"""Hooks of accounts: where Livepeer Studio delivers, and which version of its secret is valid.

Refused
├── HookNotFound   no such hook of this account
├── HookIdTaken    the id belongs to another account's hook, or to one that was removed
└── BadOverlap     a secret would stay valid for longer than may be
"""

from datetime import datetime, timedelta
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.accounts.domain.accounts import KEY_ID, UNSAID, Author, require
from shared.refusal import Refused

OVERLAP_MAX = timedelta(days=7)


class HookNotFound(Refused):
    code = "hook_not_found"

    def __init__(self, hook_id: str) -> None:
        super().__init__(f"there is no hook {hook_id}")


class HookIdTaken(Refused):
    code = "hook_id_taken"

    def __init__(self, hook_id: str) -> None:
        super().__init__(f"another hook has the id {hook_id}")


class BadOverlap(Refused):
    code = "bad_overlap"

    def __init__(self) -> None:
        super().__init__(f"a secret stays valid for at most {OVERLAP_MAX.days} days after its successor")


class Hook(Aggregate):
    """Its secret is derived from its id and `version`; the secret itself never gets here."""

    TOPIC = "accounts.hook"

    class Event(Aggregate.Event):
        TOPIC = "accounts.hook.event"

    class Added(Event, Aggregate.Created):
        TOPIC = "accounts.hook_added"
        account_id: str
        hook_id: str
        actor: str
        reason: str

    class Rotated(Event):
        TOPIC = "accounts.hook_rotated"
        account_id: str
        hook_id: str
        version: int
        previous_until_at: datetime
        actor: str
        reason: str

    class Removed(Event):
        TOPIC = "accounts.hook_removed"
        account_id: str
        hook_id: str
        actor: str
        reason: str

    @staticmethod
    def create_id(hook_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/hooks/{hook_id}")

    @event(Added)
    def __init__(self, account_id: str, hook_id: str, actor: str, reason: str, timestamp: datetime) -> None:
        self.account_id = account_id
        self.hook_id = hook_id
        self.version = 1
        self.previous_until_at: datetime | None = None
        self.removed = False

    @classmethod
    def add(cls, *, account_id: str, hook_id: str, at: datetime, by: Author = UNSAID) -> "Hook":
        require(KEY_ID, hook_id, "hook_id")
        return cls(account_id, hook_id, by.actor, by.reason, timestamp=at)

    def require_same(self, *, account_id: str) -> None:
        """Accept a repeat of the adding."""
        if self.account_id != account_id or self.removed:
            raise HookIdTaken(self.hook_id)

    def rotate(self, overlap: timedelta, *, at: datetime, by: Author = UNSAID) -> None:
        if self.removed:
            raise HookNotFound(self.hook_id)
        if not timedelta() <= overlap <= OVERLAP_MAX:
            raise BadOverlap
        self._rotated(
            self.account_id, self.hook_id, self.version + 1, at + overlap, by.actor, by.reason, timestamp=at
        )

    def remove(self, *, at: datetime, by: Author = UNSAID) -> None:
        if not self.removed:
            self._removed(self.account_id, self.hook_id, by.actor, by.reason, timestamp=at)

    @event(Rotated)
    def _rotated(
        self,
        account_id: str,
        hook_id: str,
        version: int,
        previous_until_at: datetime,
        actor: str,
        reason: str,
        timestamp: datetime,
    ) -> None:
        self.version = version
        self.previous_until_at = previous_until_at

    @event(Removed)
    def _removed(self, account_id: str, hook_id: str, actor: str, reason: str, timestamp: datetime) -> None:
        self.removed = True
