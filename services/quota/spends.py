"""Sums of a run of payments, so that a batch is one event a budget and one a pool."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.message import LogEntry
from contracts.signer import SessionClosed, TicketRecovered
from services.quota.alarms import see_recipients, see_spend
from services.quota.domain.budget import Budget
from services.quota.domain.key_watch import KeyWatch
from services.quota.domain.limit_set import Scope
from services.quota.domain.spending import Rate
from services.quota.domain.windows import grain
from services.quota.work import Work, ids_of
from shared.money import Wei


class Spends:
    """Sums of a run of payments, so that a batch is one event a budget and one a pool."""

    def __init__(self, *, recovered: bool = False) -> None:
        self._recovered = recovered  # what they spent nobody holds any more
        self._by_account: dict[str, dict[str, Wei]] = {}
        self._by_payer: dict[str, dict[str, Wei]] = {}
        self._payer_of: dict[str, str] = {}
        self._paid: set[tuple[str, str, str, str]] = set()  # account, session, recipient, key or ""
        self._at: datetime | None = None

    def may_take(self, at: datetime) -> bool:
        """Whether a payment of this time lies in the same windows as the others, whatever the time zone."""
        return self._at is None or grain(at) == grain(self._at)

    def add(self, payment: dict[str, Any], at: datetime) -> None:
        """Read field by field: this runs once per payment. A field amiss raises, to be buried."""
        cost = int(payment["cost"])
        session_id, payer = str(payment["session_id"]), str(payment["payer"])
        account_id, recipient = str(payment["account_id"]), str(payment["recipient"])
        sessions = self._by_account.setdefault(account_id, {})
        sessions[session_id] = Wei(sessions.get(session_id, 0) + cost)
        rounds = self._by_payer.setdefault(payer, {})
        made = str(int(payment["creation_round"]))
        rounds[made] = Wei(rounds.get(made, 0) + cost)
        self._payer_of[session_id] = payer
        self._paid.add((account_id, session_id, recipient, str(payment.get("key_id", ""))))
        self._at = at

    def book(self, work: Work) -> None:
        """Put the sums into events."""
        if self._at is None:
            return
        recipients = {} if self._recovered else self._recipients_by_key(work)
        work.look_up(self._narrow_ids(work, recipients))
        for key, paid in recipients.items():
            see_recipients(work, key, paid, self._at)
        released: dict[str, int] = defaultdict(int)
        for account_id, sessions in self._by_account.items():
            budget, zone = work.budget(account_id), work.zone(account_id)
            if self._recovered:
                budget.record_recovered(sessions, work.rate, zone, self._at)
            else:
                for session_id, released_wei in record(work, budget, sessions, zone, self._at):
                    released[self._payer_of[session_id]] += released_wei
                    work.touch(account_id, session_id, self._at)
            budget.warn(work.conditions(Scope(account_id), self._at))
        for payer, costs in self._by_payer.items():
            work.pool(payer).spend(costs, Wei(released[payer]), self._at)

    def _recipients_by_key(self, work: Work) -> Mapping[Scope, set[str]]:
        """Where a payment does not tell whose key it is of, its session's last allowance does."""
        found: dict[Scope, set[str]] = defaultdict(set)
        for account_id, session_id, recipient, told in self._paid:
            session = work.budget(account_id).sessions.get(session_id)
            key_id = told or (session["key_id"] if session is not None else None)
            if key_id is not None:
                found[Scope(account_id, key_id=key_id)].add(recipient)
        return found

    def _narrow_ids(self, work: Work, keys: Iterable[Scope]) -> Iterator[UUID]:
        """What of users, keys and tokens is needed, so that it is looked up for all accounts at once."""
        for key in keys:
            yield KeyWatch.create_id(key.account_id, key.key_id or "")
        for account_id, sessions in self._by_account.items():
            budget = work.budget(account_id)
            for session_id in sessions:
                for scope in budget.counting(session_id):
                    yield from ids_of(scope)


def book_late(work: Work, entry: LogEntry) -> None:
    """Book an entry that was buried, whatever was booked since.

    A session that closed has given back all it held: a payment of before is spent, and nobody holds it
    any more. A closing frees what no later one has freed.
    """
    account_id, session_id = str(entry.event["account_id"]), str(entry.event["session_id"])
    ended = work.budget(account_id).ended
    if entry.subject == SessionClosed.subject:
        closed = SessionClosed.model_validate(entry.event)
        if closed.ask_number > ended.get(session_id, 0):
            work.free(closed, entry.at)
        return
    spends = Spends(recovered=entry.subject == TicketRecovered.subject or session_id in ended)
    spends.add(entry.event, entry.at)
    spends.book(work)


def record(
    work: Work, budget: Budget, sessions: dict[str, Wei], zone: str, at: datetime
) -> Iterable[tuple[str, int]]:
    """Record the spends; how much of what was held each released."""
    before = {session_id: budget.held_by(session_id) for session_id in sessions}
    budget.record_spend(sessions, work.rate, zone, at)
    by_scope: dict[Scope, dict[str, Wei]] = defaultdict(dict)
    for session_id, spent in sessions.items():
        for scope in budget.counting(session_id):
            by_scope[scope][session_id] = spent
    record_below(work, budget, by_scope, rate=work.rate, zone=zone, at=at)
    return [(session_id, held - budget.held_by(session_id)) for session_id, held in before.items()]


def record_below(
    work: Work,
    budget: Budget,
    by_scope: Mapping[Scope, dict[str, Wei]],
    *,
    rate: Rate | None,
    zone: str,
    at: datetime,
) -> None:
    """Record spends, by session, in the budgets of users, keys and session tokens that count them."""
    if by_scope:
        work.look_up(unique for scope in by_scope for unique in ids_of(scope))
    for scope, spends in by_scope.items():
        held = {session_id: budget.held_by(session_id) for session_id in spends}
        sub = work.sub_budget(scope)
        sub.record_spend(spends, held, zone=zone, rate=rate, now=at)
        conditions = work.conditions(scope, at)
        sub.warn(conditions)
        if scope.level == "key":
            see_spend(work, sub, conditions)
