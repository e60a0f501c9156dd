"""Quota's tables, told by its log: `python -m services.quota.replay [--verify]`."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, cast

from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from services.quota.allowances import CREATE_TABLES
from services.quota.domain.budget import Budget
from services.quota.domain.pool import Pool
from shared.folding import ByAggregate, DomainEvent, Events, Fold
from shared.replay import Replay, main
from shared.table_copies import Table

INSERT_ALLOWANCES = """
INSERT INTO {} (account_id, session_id, key_id, payer, number, granted, spent, last_at, withdrawn)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::numeric[],
    %s::numeric[], %s::timestamptz[], %s::boolean[])
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
            case Budget.AllowanceGranted() | Budget.AllowanceFreed():
                self._touch([event.session_id], event.timestamp)
            case Budget.SpendRecorded():
                self._touch(event.spends, event.timestamp)
            case Budget.Suspended():
                self._withdraw(self.allowances)
            case Budget.KeyRevoked():
                held = [held for held in self.allowances.values() if held.key_id == event.key_id]
                self._withdraw([held.session_id for held in held])

    def _touch(self, session_ids: Iterable[str], at: datetime) -> None:
        assert self._budget is not None
        for session_id in session_ids:
            session = self._budget.sessions.get(session_id)
            before = self.allowances.get(session_id)
            if session is None:
                self.allowances.pop(session_id, None)
                continue
            self.allowances[session_id] = Allowance(
                account_id=self.account_id,
                session_id=session_id,
                **{name: session[name] for name in ("key_id", "payer", "number", "granted", "spent")},
                last_at=at,
                withdrawn=before is not None and before.withdrawn,
            )

    def _withdraw(self, session_ids: Iterable[str]) -> None:
        for session_id in list(session_ids):
            self.allowances[session_id] = self.allowances[session_id]._replace(withdrawn=True)


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


replay = Replay(
    "quota",
    # `tried_at` says when a close was last asked for: a pause between tries, not a fact.
    tables=[
        Table("payers", ("payer",)),
        Table("allowances", ("account_id", "session_id"), untold=("tried_at",)),
    ],
    create=CREATE_TABLES,
    fill=quota_filling,
)

if __name__ == "__main__":
    sys.exit(main(replay))
