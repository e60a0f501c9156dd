"""What quota's log says of limits: who may spend what, and what of it was held and spent, as rows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

TOPICS = (
    "quota.budget_opened",
    "quota.allowance_granted",
    "quota.spend_recorded",
    "quota.allowance_freed",
    "quota.credit_granted",
    "quota.credit_voided",
    "quota.limit_set_opened",
    "quota.limits_set",
    "quota.plan_assigned",
    "quota.time_zone_set",
    "quota.plan_set",
    "quota.sub_budget_opened",
    "quota.sub_budget_held",
    "quota.sub_budget_spent",
    "quota.stop_set",
    "quota.stop_lifted",
    "quota.eth_rate_observed_first",
    "quota.eth_rate_observed",
)
OPENING = {"budget_opened", "limit_set_opened", "sub_budget_opened"}
LEVELS = ("user", "key", "token")
LOG = """
SELECT notification_id, originator_id, topic, state FROM quota.quota_events
WHERE topic = ANY(%s) AND notification_id > %s ORDER BY notification_id
"""


class Scope(NamedTuple):
    """An account, or one of its users, keys or session tokens."""

    account_id: str
    level: str = "account"
    unique: str = ""


NOBODY = Scope("")  # of what holds for all: plans, stops, the rate


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of quota's log."""

    position: int
    kind: str  # the topic without its service
    scope: Scope
    at: datetime
    state: dict[str, Any]


class LimitLog:
    """Reads on from where it was."""

    def __init__(self) -> None:
        self._owners: dict[Any, Scope] = {}
        self._position = 0

    def read(self, cursor: psycopg.Cursor[Any]) -> Iterator[Entry]:
        for position, aggregate, topic, stored in cursor.execute(LOG, (list(TOPICS), self._position)):
            kind, state = topic.partition(".")[2], json.loads(bytes(stored))
            if kind in OPENING:
                self._owners[aggregate] = _owner(state)
            self._position = position
            at = datetime.fromisoformat(state["timestamp"])
            yield Entry(position, kind, self._owners.get(aggregate, NOBODY), at, state)


def read_limits(dsn: str) -> list[Entry]:
    """All entries up to now; raises psycopg.Error if the server is away."""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        return list(LimitLog().read(connection.cursor()))


def scopes_of(account_id: str, state: dict[str, Any]) -> list[Scope]:
    """The user, key and session token that a grant names."""
    named = ((level, state.get(f"{level}_id")) for level in LEVELS)
    return [Scope(account_id, level, unique) for level, unique in named if unique is not None]


def _owner(state: dict[str, Any]) -> Scope:
    """The narrowest that is named."""
    found = scopes_of(state["account_id"], state)
    return found[-1] if found else Scope(state["account_id"])
