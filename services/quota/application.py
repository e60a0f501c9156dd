"""Quota's use cases: grant allowances, follow what was spent, watch the pool.

Command handlers and the readers of other logs run in threads; one lock makes each use case whole.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from threading import RLock
from typing import Any, ClassVar
from uuid import UUID

from eventsourcing.persistence import IntegrityError
from eventsourcing.utils import EnvType

from contracts.accounts import AccountOpened, AccountResumed, AccountSuspended, ApiKeyRevoked
from contracts.deposit_watcher import FundsObserved, RoundChanged
from contracts.message import LogEntry
from contracts.signer import PaymentSigned, SessionClosed, TicketRecovered
from services.quota.allowances import AllowanceRow, Allowances
from services.quota.domain.budget import Ask, Budget
from services.quota.domain.pool import Pool, PoolUnknown
from services.quota.domain.refusal import AllowanceRefusal
from shared.money import Wei
from shared.refusal import Refused
from shared.store import Effect, EventSourced

ATTEMPTS = 5

type Answer = Wei | AllowanceRefusal


class PoolNotFound(Refused):
    code = "pool_not_found"

    def __init__(self, payer: str | None) -> None:
        super().__init__(f"no funds of payer {payer} were observed" if payer else "there is no pool yet")


class SeveralPools(Refused):
    code = "several_pools"

    def __init__(self, pools: int) -> None:
        super().__init__(f"there are {pools} pools: say which payer's")


class Quota(EventSourced):
    name = "quota"
    # A budget with thousands of open sessions is large: written rarely, as it is read after a start only.
    snapshotting_intervals: ClassVar = {Budget: 2000, Pool: 2000}

    def __init__(self, default_spend_limit: Wei, env: EnvType | None = None) -> None:
        super().__init__(env)
        self._default_spend_limit = default_spend_limit
        self._lock = RLock()
        self.allowances = Allowances(self.recorder)

    # Granting

    def grant_all(self, asks: Sequence[Ask], now: datetime) -> list[Answer]:
        """Answer all asks with one commit; a repeated ask gets the grant it got before."""

        def decide(work: "Work") -> list[Answer]:
            return [self._grant(ask, work, now) for ask in asks]

        accounts = {Budget.create_id(ask.account_id) for ask in asks}
        return self._do(decide, now, touched=accounts | {Pool.create_id(ask.payer) for ask in asks})

    def _grant(self, ask: Ask, work: "Work", now: datetime) -> Answer:
        budget = work.budget(ask.account_id)
        if (before := budget.granted_before(ask)) is not None:
            return before
        try:
            budget.check_may_grant(ask)
            pool = work.known_pool(ask.payer)
            pool.check_may_hold(ask.needed)
        except AllowanceRefusal as refusal:
            if refusal.reason == "spend_limit_reached":
                budget.reach_limit(now)
            return refusal
        amount = Wei(max(ask.needed, min(ask.wanted, budget.remaining, pool.room())))
        budget.grant(ask, amount, now)
        pool.hold(amount, now)
        work.touch(ask.account_id, ask.session_id, now)
        return amount

    def set_spend_limit(self, account_id: str, spend_limit: Wei, now: datetime) -> Budget:
        def decide(work: "Work") -> Budget:
            budget = work.budget(account_id)
            budget.set_spend_limit(spend_limit, now)
            return budget

        return self._do(decide, now, touched=[Budget.create_id(account_id)])

    # Reading

    def budget(self, account_id: str, now: datetime) -> Budget:
        """The account's budget; one that was never asked for has the default limit."""
        with self._lock:
            self.catch_up([Budget.create_id(account_id)])
            return Work(self, self._default_spend_limit, now).budget(account_id)

    def pool(self, payer: str | None) -> Pool:
        """The pool of this payer, or the only one there is; those whose funds were observed."""
        pools = [self._find_pool(payer)] if payer else self.pools()
        match pools:
            case [Pool() as found]:
                return found
            case [] | [None]:
                raise PoolNotFound(payer)
        raise SeveralPools(len(pools))

    def pools(self) -> Sequence[Pool]:
        """Every pool, by payer."""
        found = [self._find_pool(payer) for payer in self.allowances.payers()]
        return [pool for pool in found if pool is not None]

    def _find_pool(self, payer: str) -> Pool | None:
        with self._lock:
            pool_id = Pool.create_id(payer)
            if self.absent([pool_id]):
                return None
            self.catch_up([pool_id])
            found: Pool = self.repository.get(pool_id)
            return found if found.observed_at is not None else None

    # Following other services' logs: `done` moves the position in the same transaction

    def follow_spend(self, entries: Sequence[LogEntry], done: Effect) -> None:
        """Move held to spent, and free what closed sessions leave; entries in order."""

        def decide(work: "Work") -> None:
            spends, recovered = Spends(), Spends(recovered=True)
            for entry in entries:
                if entry.subject == PaymentSigned.subject:
                    spends.add(entry.event, entry.at)
                elif entry.subject == TicketRecovered.subject:
                    recovered.add(entry.event, entry.at)
                elif entry.subject == SessionClosed.subject:
                    spends.book(work)
                    spends = Spends()
                    work.free(SessionClosed.model_validate(entry.event), entry.at)
            spends.book(work)
            recovered.book(work)

        self._do(decide, entries[-1].at, done, touched=_touched(entries))

    def follow_accounts(self, entries: Sequence[LogEntry], done: Effect) -> None:
        def decide(work: "Work") -> None:
            for entry in entries:
                self._follow_account(entry, work)

        self._do(decide, entries[-1].at, done, touched=_touched(entries))

    def _follow_account(self, entry: LogEntry, work: "Work") -> None:
        budget = work.budget(str(entry.event["account_id"]))
        match entry.subject:
            case AccountOpened.subject:
                pass  # its budget is open now
            case AccountSuspended.subject:
                budget.suspend(str(entry.event["reason"]), entry.at)
                work.effects.append(self.allowances.withdraw(budget.account_id))
            case AccountResumed.subject:
                budget.resume(entry.at)
            case ApiKeyRevoked.subject:
                key_id = str(entry.event["key_id"])
                budget.revoke_key(key_id, entry.at)
                work.effects.append(self.allowances.withdraw(budget.account_id, key_id))

    def follow_funds(self, entries: Sequence[LogEntry], done: Effect) -> None:
        def decide(work: "Work") -> None:
            for entry in entries:
                if entry.subject == FundsObserved.subject:
                    work.observe_funds(FundsObserved.model_validate(entry.event), entry.at)
                elif entry.subject == RoundChanged.subject:
                    changed = RoundChanged.model_validate(entry.event)
                    for payer in {*self.allowances.payers(), *work.payers}:
                        pool = work.pool(payer)
                        pool.change_round(changed.round, changed.ticket_validity_rounds, entry.at)

        self._do(decide, entries[-1].at, done)

    def _do[R](
        self,
        decide: Callable[["Work"], R],
        now: datetime,
        *effects: Effect,
        touched: Iterable[UUID] = (),
    ) -> R:
        """Decide and save as one; a version conflict with another replica decides anew.

        What other replicas have done to the aggregates that are `touched` is read before.
        """
        with self._lock:
            self.catch_up(touched)
            for attempt in range(ATTEMPTS):
                work = Work(self, self._default_spend_limit, now)
                try:
                    result = decide(work)
                    self.save(*work.changed(), effects=[*effects, *work.effects, *work.table_effects()])
                except IntegrityError:
                    work.forget()
                    if attempt == ATTEMPTS - 1:
                        raise
                except BaseException:
                    work.forget()
                    raise
                else:
                    return result
        raise AssertionError  # the loop returns or raises


def _touched(entries: Sequence[LogEntry]) -> set[UUID]:
    """The budgets and pools that entries of the signer or of accounts name."""
    budgets = {Budget.create_id(str(entry.event.get("account_id"))) for entry in entries}
    payers = {entry.event.get("payer") for entry in entries}
    return budgets | {Pool.create_id(payer) for payer in payers if isinstance(payer, str)}


class Work:
    """The aggregates and effects of one use case; each aggregate once."""

    def __init__(self, quota: Quota, default_spend_limit: Wei, now: datetime) -> None:
        self._quota = quota
        self._default_spend_limit = default_spend_limit
        self._now = now
        self._loaded: dict[UUID, Budget | Pool] = {}
        self._touched: dict[tuple[str, str], datetime] = {}
        self.effects: list[Effect] = []
        self.payers: set[str] = set()

    def budget(self, account_id: str) -> Budget:
        budget_id = Budget.create_id(account_id)
        found = self._find(budget_id) or Budget(account_id, self._default_spend_limit, timestamp=self._now)
        assert isinstance(found, Budget)
        return self._keep(found)

    def pool(self, payer: str) -> Pool:
        found = self._find(Pool.create_id(payer)) or Pool(payer, timestamp=self._now)
        assert isinstance(found, Pool)
        if found.version == 1 and found.pending_events:
            self.effects.append(self._quota.allowances.know_payer(payer))
        self.payers.add(payer)
        return self._keep(found)

    def known_pool(self, payer: str) -> Pool:
        """The pool of a payer that was heard of; an ask does not open one."""
        found = self._find(Pool.create_id(payer))
        if not isinstance(found, Pool):
            raise PoolUnknown(payer)
        self.payers.add(payer)
        return self._keep(found)

    def free(self, closed: SessionClosed, at: datetime) -> None:
        budget = self.budget(closed.account_id)
        session = budget.sessions.get(closed.session_id)
        amount = budget.free(closed.session_id, closed.ask_number, at)
        if session is not None:
            self.pool(session["payer"]).hold(Wei(-amount), at)
        self.touch(closed.account_id, closed.session_id, at)

    def touch(self, account_id: str, session_id: str, at: datetime) -> None:
        """The table's row of this session is to be what its budget says in the end."""
        self._touched[account_id, session_id] = at

    def table_effects(self) -> list[Effect]:
        """Rows of sessions that hold or spent something, and the removal of those that ended."""
        rows, gone = [], []
        for (account_id, session_id), at in self._touched.items():
            session = self.budget(account_id).sessions.get(session_id)
            if session is None:
                gone.append((account_id, session_id))
            else:
                rows.append(AllowanceRow.of(account_id, session_id, session, at))
        table = self._quota.allowances
        return [*([table.put(rows)] if rows else []), *([table.drop(gone)] if gone else [])]

    def observe_funds(self, funds: FundsObserved, at: datetime) -> None:
        pool = self.pool(funds.payer.lower())
        if not pool.round:
            self._catch_up(pool, at)
        pool.observe_funds(
            deposit=Wei(funds.deposit),
            reserve=Wei(funds.reserve),
            withdraw_round=funds.withdraw_round,
            now=at,
        )

    def _catch_up(self, pool: Pool, at: datetime) -> None:
        """Tell a payer that came later the round which the others know: the next change is a day away."""
        others = [self.pool(payer) for payer in self._quota.allowances.payers()]
        newest = max(others, key=lambda other: other.round, default=pool)
        pool.change_round(newest.round, newest.validity, at)

    def changed(self) -> list[Budget | Pool]:
        return [aggregate for aggregate in self._loaded.values() if aggregate.pending_events]

    def forget(self) -> None:
        self._quota.forget(*self._loaded)

    def _find(self, aggregate_id: UUID) -> Budget | Pool | None:
        if aggregate_id in self._loaded:
            return self._loaded[aggregate_id]
        if self._quota.absent([aggregate_id]):
            return None
        found: Budget | Pool = self._quota.repository.get(aggregate_id)
        return found

    def _keep[A: (Budget, Pool)](self, aggregate: A) -> A:
        self._loaded[aggregate.id] = aggregate
        return aggregate


class Spends:
    """Sums of a run of payments, so that a batch is one event a budget and one a pool."""

    def __init__(self, *, recovered: bool = False) -> None:
        self._recovered = recovered  # what they spent nobody holds any more
        self._by_account: dict[str, dict[str, Wei]] = {}
        self._by_payer: dict[str, dict[str, Wei]] = {}
        self._payer_of: dict[str, str] = {}
        self._at: datetime | None = None

    def add(self, payment: dict[str, Any], at: datetime) -> None:
        """Read field by field: this runs once per payment. A field amiss raises, to be buried."""
        cost = int(payment["cost"])
        session_id, payer = str(payment["session_id"]), str(payment["payer"])
        sessions = self._by_account.setdefault(str(payment["account_id"]), {})
        sessions[session_id] = Wei(sessions.get(session_id, 0) + cost)
        rounds = self._by_payer.setdefault(payer, {})
        made = str(int(payment["creation_round"]))
        rounds[made] = Wei(rounds.get(made, 0) + cost)
        self._payer_of[session_id] = payer
        self._at = at

    def book(self, work: Work) -> None:
        """Put the sums into events."""
        if self._at is None:
            return
        released: dict[str, int] = defaultdict(int)
        for account_id, sessions in self._by_account.items():
            budget = work.budget(account_id)
            if self._recovered:
                budget.record_recovered(sessions, self._at)
                continue
            for session_id, released_wei in _record(budget, sessions, self._at):
                released[self._payer_of[session_id]] += released_wei
            for session_id in sessions:
                work.touch(account_id, session_id, self._at)
        for payer, costs in self._by_payer.items():
            work.pool(payer).spend(costs, Wei(released[payer]), self._at)


def _record(budget: Budget, sessions: dict[str, Wei], at: datetime) -> Iterable[tuple[str, int]]:
    """Record the spends; how much of what was held each released."""
    before = {session_id: budget.held_by(session_id) for session_id in sessions}
    budget.record_spend(sessions, at)
    return [(session_id, held - budget.held_by(session_id)) for session_id, held in before.items()]
