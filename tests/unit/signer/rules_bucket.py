"""The `rules` bucket in memory, written as quota writes it, and a signer that obeys it."""

from datetime import UTC, datetime
from typing import Any

from contracts.limits import Rules, RulesEntry, Scoped, plan_entry, scope_entry
from contracts.message import Message
from contracts.stops import StopKind, StopView, stop_entry
from services.signer.watched_rules import WatchedRules
from tests.unit.signer.client import Signer

ACCOUNT, USER, KEY, TOKEN = "account-1", "user-1", "key-1", "token-1"
SCOPES = {
    "account": Scoped(account_id=ACCOUNT),
    "user": Scoped(account_id=ACCOUNT, user_id=USER),
    "key": Scoped(account_id=ACCOUNT, key_id=KEY),
    "token": Scoped(account_id=ACCOUNT, token_id=TOKEN),
}
# Who asks in these tests, beside the account and the key.
WHO: dict[str, Any] = {"user": USER, "token_id": TOKEN}


class RulesBucket:
    """As a BucketReader, without NATS."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready
        self.entries: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: str, entry: Message) -> None:
        self.entries[key] = entry.model_dump_json(exclude_defaults=True).encode()

    def limit(self, level: str, **rules: Any) -> None:
        self.put(scope_entry(SCOPES[level]), RulesEntry(rules=Rules(**rules)))

    def give_plan(self, plan: str | None, **own: Any) -> None:
        self.put(scope_entry(SCOPES["account"]), RulesEntry(rules=Rules(**own), plan=plan))

    def set_plan(
        self, name: str, rules: Rules | None = None, user: Rules | None = None, key: Rules | None = None
    ) -> None:
        self.put(plan_entry(name), RulesEntry(rules=rules or Rules(), user_rules=user, key_rules=key))

    def stop(self, what: StopKind, value: str = "", *, expires_at: datetime | None = None) -> None:
        stop = StopView(
            what=what,
            value=value,
            reason="incident_42",
            actor="somebody",
            set_at=datetime(2026, 3, 1, tzinfo=UTC),
            expires_at=expires_at,
        )
        self.put(stop_entry(what, value), stop)

    def lift(self, what: StopKind, value: str = "") -> None:
        del self.entries[stop_entry(what, value)]

    def signer(self) -> Signer:
        return Signer(permits=WatchedRules(self, self))
