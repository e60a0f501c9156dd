"""Quota's tables, told by its log: `python -m services.quota.replay [--verify]`."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, cast
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from contracts.message import Event
from services.quota.allowances import CREATE_TABLES, AllowanceRow
from services.quota.domain.budget import Budget
from services.quota.domain.foreign import ForeignSession
from services.quota.domain.limit_set import LimitSet, Scope
from services.quota.domain.plan import Plan
from services.quota.domain.pool import Pool
from services.quota.domain.rate import EthRate
from services.quota.domain.stops import Stops
from services.quota.domain.streams import Streams
from services.quota.outbox import public_of
from services.quota.rules import CREATE_RULES_TABLE, entry_of, entry_of_stop
from services.quota.stream_leases import CREATE_STREAMS_TABLE
from shared.audit import AUDIT_TABLE, CREATE_AUDIT_TABLE, ToldAs, with_audit
from shared.folding import ByAggregate, DomainEvent, Events, Fold
from shared.replay import Replay, main
from shared.table_copies import Table

# Of the changes that somebody made, and of whose they are.
AUDITED = (
    Budget.Opened.TOPIC,
    Budget.CreditGranted.TOPIC,
    Budget.CreditVoided.TOPIC,
    LimitSet.Opened.TOPIC,
    LimitSet.LimitsSet.TOPIC,
    LimitSet.PlanAssigned.TOPIC,
    LimitSet.TimeZoneSet.TOPIC,
    Plan.Opened.TOPIC,
    Plan.TermsSet.TOPIC,
    Stops.StopSet.TOPIC,
    Stops.StopLifted.TOPIC,
)
INSERT_ALLOWANCES = """
INSERT INTO {} (account_id, session_id, key_id, payer, number, granted, spent, last_at, user_id,
    token_id, ends_at, withdrawn)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::numeric[],
    %s::numeric[], %s::timestamptz[], %s::text[], %s::text[], %s::timestamptz[], %s::boolean[])
"""


class Allowance(NamedTuple):
    account_id: str
    session_id: str
    key_id: str
    payer: str
    number: int
    granted: int
    spent: int
    last_at: datetime
    user_id: str | None
    token_id: str | None
    ends_at: datetime | None
    withdrawn: bool


class BudgetFold:
    """The allowances of one account: those its budget has, and since when they are idle."""

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.allowances: dict[str, Allowance] = {}
        self._budget: Budget | None = None

    def apply(self, event: DomainEvent) -> None:
        self._budget = cast("Any", event).mutate(self._budget)
        match event:
            case Budget.AllowanceGranted() | Budget.AllowanceFreed() | Budget.EstimatesCorrected():
                self._touch([event.session_id], event.timestamp)
            case Budget.SpendRecorded():
                self._touch(event.spends, event.timestamp)
            case Budget.Suspended():
                self._withdraw(Scope(self.account_id))
            case Budget.KeyRevoked():
                self._withdraw(Scope(self.account_id, key_id=event.key_id))
            case Budget.LeasesTakenBack():
                self._withdraw(Scope(self.account_id, event.user_id, event.key_id, event.token_id))

    def _touch(self, session_ids: Iterable[str], at: datetime) -> None:
        assert self._budget is not None
        for session_id in session_ids:
            session = self._budget.sessions.get(session_id)
            before = self.allowances.get(session_id)
            if session is None:
                self.allowances.pop(session_id, None)
                continue
            row = AllowanceRow.of(self.account_id, session_id, session, at)
            withdrawn = before is not None and before.withdrawn
            self.allowances[session_id] = Allowance(**asdict(row), withdrawn=withdrawn)

    def _withdraw(self, scope: Scope) -> None:
        for session_id, held in self.allowances.items():
            if scope.has(held._asdict()):
                self.allowances[session_id] = held._replace(withdrawn=True)


class RulesFold:
    """The entries of the `rules` table that an aggregate stands for."""

    def __init__(self) -> None:
        self._aggregate: LimitSet | Plan | Stops | None = None

    def apply(self, event: DomainEvent) -> None:
        self._aggregate = cast("Any", event).mutate(self._aggregate)

    def entries(self) -> list[tuple[str, str]]:
        match self._aggregate:
            case Stops() as stops:
                return [entry_of_stop(stop) for stop in stops.stops.values()]
            case LimitSet() | Plan() as found:
                return [entry for entry in (entry_of(found),) if entry[1]]
        return []


class StreamsFold:
    """The streams of one account that run."""

    def __init__(self) -> None:
        self._streams: Streams | None = None

    def apply(self, event: DomainEvent) -> None:
        self._streams = cast("Any", event).mutate(self._streams)

    def rows(self) -> list[tuple[object, ...]]:
        """What heartbeats said is lost: leases begin anew."""
        assert self._streams is not None
        return [
            (
                self._streams.account_id,
                stream_id,
                *(stream[name] for name in ("user_id", "key_id", "token_id", "app", "job_type")),
                datetime.fromtimestamp(stream["begun"], UTC),
            )
            for stream_id, stream in self._streams.running.items()
        ]


class PoolFold:
    def __init__(self, payer: str) -> None:
        self.payer = payer

    def apply(self, event: DomainEvent) -> None:
        """A payer's row is told by the first event."""


def start(event: DomainEvent) -> Fold | None:
    match event:
        case Budget.Opened():
            return BudgetFold(event.account_id)
        case Pool.Opened():
            return PoolFold(event.payer)
        case Streams.Opened():
            return StreamsFold()
        case LimitSet.Opened() | Plan.Opened() | Stops.Opened():
            return RulesFold()
        case ForeignSession.Opened() | EthRate.Observed():
            pass  # no table tells of them, but the log does
    return None


def quota_filling(events: Events, names: Mapping[str, Identifier]) -> ByAggregate:
    return ByAggregate(events, start, partial(_write, names))


def _write(names: Mapping[str, Identifier], cursor: Cursor[DictRow], folds: Sequence[Fold]) -> None:
    budgets = [fold for fold in folds if isinstance(fold, BudgetFold)]
    payers = [fold.payer for fold in folds if isinstance(fold, PoolFold)]
    delete = SQL("DELETE FROM {} WHERE account_id = ANY(%s)").format(names["allowances"])
    cursor.execute(delete, ([budget.account_id for budget in budgets],))
    rows = [row for budget in budgets for row in budget.allowances.values()]
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        cursor.execute(SQL(INSERT_ALLOWANCES).format(names["allowances"]), columns)
    insert = SQL("INSERT INTO {} SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING").format(names["payers"])
    cursor.execute(insert, (payers,))
    entries = [entry for fold in folds if isinstance(fold, RulesFold) for entry in fold.entries()]
    if entries:
        insert = SQL("INSERT INTO {} VALUES (%s, %s)").format(names["rules"])
        cursor.executemany(insert, entries)
    streams = [row for fold in folds if isinstance(fold, StreamsFold) for row in fold.rows()]
    if streams:
        insert = SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, %s, %s, %s, %s)").format(names["streams"])
        cursor.executemany(insert, streams)


def telling() -> ToldAs:
    """Tell what was changed by somebody, and of whom: their aggregates' first events come before."""
    known: dict[UUID, DomainEvent] = {}

    def told(stored: DomainEvent) -> Event | None:
        first = known.setdefault(stored.originator_id, stored)
        return public_of(stored, first)

    return told


replay = Replay(
    "quota",
    # `tried_at` says when a close was last asked for: a pause between tries, not a fact.
    tables=[
        Table("payers", ("payer",)),
        Table("allowances", ("account_id", "session_id"), untold=("tried_at",)),
        Table("rules", ("entry",)),
        Table("streams", ("account_id", "stream_id"), untold=("lease_seconds", "lease_ends_at")),
        AUDIT_TABLE,
    ],
    create=CREATE_TABLES + CREATE_RULES_TABLE + CREATE_STREAMS_TABLE + CREATE_AUDIT_TABLE,
    fill=with_audit(quota_filling, AUDITED, telling),
)

if __name__ == "__main__":
    sys.exit(main(replay))
