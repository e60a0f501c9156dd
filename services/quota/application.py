"""Quota's use cases: grant allowances, follow what was spent, watch the pool.

Command handlers and the readers of other logs run in threads; one lock makes each use case whole.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from threading import RLock
from typing import ClassVar
from uuid import UUID

from eventsourcing.persistence import IntegrityError
from eventsourcing.utils import EnvType

from contracts.accounts import AccountOpened, AccountResumed, AccountSuspended, ApiKeyRevoked
from contracts.deposit_watcher import FundsObserved, RoundChanged
from contracts.message import LogEntry
from contracts.signer import PaymentSigned, SessionClosed, TicketRecovered
from services.quota.allowances import Allowances
from services.quota.domain.budget import Budget
from services.quota.domain.granting import Ask, lease
from services.quota.domain.key_watch import KeyWatch, Sensitivity
from services.quota.domain.limit_set import Scope
from services.quota.domain.limits import Limits
from services.quota.domain.plan import Plan
from services.quota.domain.pool import Pool
from services.quota.domain.rate import EthRate
from services.quota.domain.refusal import AllowanceRefusal
from services.quota.domain.shedding import check_pool
from services.quota.domain.spending import Rate
from services.quota.domain.streams import Streams
from services.quota.domain.sub_budget import SubBudget
from services.quota.outbox import public_of
from services.quota.rules import RulesTable
from services.quota.spends import Spends, book_late
from services.quota.stream_leases import StreamLeases
from services.quota.work import DEFAULT_PLAN, Defaults, Work, ids_of, scopes_of
from shared.audit import Audit, is_audited
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
    snapshotting_intervals: ClassVar = {
        Budget: 2000,
        Pool: 2000,
        SubBudget: 2000,
        Streams: 2000,
        KeyWatch: 500,
    }

    def __init__(
        self,
        default_spend_limit: Wei,
        env: EnvType | None = None,
        *,
        default_key_limits: Limits = Limits(),  # noqa: B008 (frozen)
        sensitivity: Sensitivity = Sensitivity(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(env)
        self._defaults = Defaults(default_spend_limit, default_key_limits, sensitivity)
        self._lock = RLock()
        self._plans = {DEFAULT_PLAN}  # those that accounts were seen to be on
        self.allowances = Allowances(self.recorder)
        self.rules = RulesTable(self.recorder)
        self.stream_leases = StreamLeases(self.recorder)
        self.audit = Audit(self.name, self.recorder)

    def create_tables(self) -> None:
        """Make what it keeps beside its log."""
        self.allowances.create_tables()
        self.rules.create_tables()
        self.stream_leases.create_tables()
        self.audit.create_tables()

    # Granting

    def grant_all(self, asks: Sequence[Ask], now: datetime) -> list[Answer]:
        """Answer all asks with one commit; a repeated ask gets the grant it got before."""

        def decide(work: Work) -> list[Answer]:
            return [self._grant(ask, work) for ask in asks]

        scopes = {Scope(ask.account_id) for ask in asks}.union(*map(scopes_of, asks))
        return self.decide(decide, now, scopes=scopes, payers={ask.payer for ask in asks})

    def _grant(self, ask: Ask, work: Work) -> Answer:
        budget = work.budget(ask.account_id)
        if (before := budget.granted_before(ask)) is not None:
            return before
        books = work.limited_books(ask)
        try:
            for each, conditions in books:
                work.check(each, ask, conditions)
            pool = work.known_pool(ask.payer)
            check_pool(pool, ask, work.terms(ask.account_id), budget, books[0][1])
        except AllowanceRefusal as refusal:
            return refusal
        wanted = min(lease(ask, each, conditions) for each, conditions in books)
        amount = Wei(max(ask.needed, min(wanted, pool.room())))
        work.lease(books, ask, amount)
        pool.hold(amount, work.now)
        return amount

    # Reading

    def read[R](
        self,
        look: Callable[[Work], R],
        now: datetime,
        *,
        scopes: Iterable[Scope] = (),
        also: Iterable[UUID] = (),
    ) -> R:
        """What an answer needs, as it is in the store now; nothing that `look` opens is kept."""
        with self._lock:
            return look(self._work(now, scopes=list(scopes), also=also))

    def budget(self, account_id: str, now: datetime) -> Budget:
        """The account's budget; one that was never asked for has the default limit."""
        return self.read(lambda work: work.budget(account_id), now, scopes=[Scope(account_id)])

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

    def observe_rate(self, rate: Rate) -> None:
        def decide(work: Work) -> None:
            known = work.eth_rate()
            if known is None:
                work.open_eth_rate(rate)
            else:
                known.observe(rate.micro_usd_per_eth, rate.source, rate.observed_at)

        self.decide(decide, rate.observed_at)

    # Following other services' logs: `done` moves the position in the same transaction

    def follow_spend(self, entries: Sequence[LogEntry], done: Effect) -> None:
        """Move held to spent, and free what closed sessions leave; entries in order."""

        def decide(work: Work) -> None:
            spends, recovered = Spends(), Spends(recovered=True)
            for entry in entries:
                if entry.subject == PaymentSigned.subject:
                    if not spends.may_take(entry.at):
                        spends.book(work)
                        spends = Spends()
                    spends.add(entry.event, entry.at)
                elif entry.subject == TicketRecovered.subject:
                    recovered.add(entry.event, entry.at)
                elif entry.subject == SessionClosed.subject:
                    spends.book(work)
                    spends = Spends()
                    work.free(SessionClosed.model_validate(entry.event), entry.at)
            spends.book(work)
            recovered.book(work)

        self._follow(decide, entries, done)

    def follow_late_spend(self, entries: Sequence[LogEntry], done: Effect) -> None:
        """What was buried, after those that followed it."""

        def decide(work: Work) -> None:
            for entry in entries:
                book_late(work, entry)

        self._follow(decide, entries, done)

    def follow_accounts(self, entries: Sequence[LogEntry], done: Effect) -> None:
        def decide(work: Work) -> None:
            for entry in entries:
                self._follow_account(entry, work)

        self._follow(decide, entries, done)

    def _follow_account(self, entry: LogEntry, work: Work) -> None:
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
                work.effects.append(self.allowances.withdraw(budget.account_id, key_id=key_id))

    def follow_funds(self, entries: Sequence[LogEntry], done: Effect) -> None:
        def decide(work: Work) -> None:
            for entry in entries:
                if entry.subject == FundsObserved.subject:
                    funds = FundsObserved.model_validate(entry.event)
                    work.observe_funds(funds, entry.at, self.allowances.payers())
                elif entry.subject == RoundChanged.subject:
                    changed = RoundChanged.model_validate(entry.event)
                    for payer in {*self.allowances.payers(), *work.payers}:
                        pool = work.pool(payer)
                        pool.change_round(changed.round, changed.ticket_validity_rounds, entry.at)

        self._follow(decide, entries, done)

    def _follow(self, decide: Callable[[Work], None], entries: Sequence[LogEntry], done: Effect) -> None:
        accounts = {entry.event.get("account_id") for entry in entries}
        payers = {entry.event.get("payer") for entry in entries}
        self.decide(
            decide,
            entries[-1].at,
            done,
            scopes=[Scope(account_id) for account_id in accounts if isinstance(account_id, str)],
            payers=[payer for payer in payers if isinstance(payer, str)],
        )

    # Deciding and saving as one

    def decide[R](
        self,
        decide: Callable[[Work], R],
        now: datetime,
        *effects: Effect,
        scopes: Iterable[Scope] = (),
        payers: Iterable[str] = (),
        also: Iterable[UUID] = (),
    ) -> R:
        """A version conflict with another replica decides anew.

        What other replicas have done to `scopes` and `payers` is read before, and to what is in `also`.
        """
        scopes, payers, also = list(scopes), list(payers), list(also)
        with self._lock:
            for attempt in range(ATTEMPTS):
                work = self._work(now, scopes=scopes, payers=payers, also=also)
                try:
                    result = decide(work)
                    tables = [*work.effects, *work.table_effects(), *self._audit_effects(work, now)]
                    self.save(*work.changed(), effects=[*effects, *tables])
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

    def _audit_effects(self, work: Work, now: datetime) -> list[Effect]:
        """Rows for what somebody changed, if it is that."""
        told = [public_of(stored, each) for each in work.changed() for stored in each.pending_events]
        return [self.audit.record(told, now)] if any(map(is_audited, filter(None, told))) else []

    def _work(
        self,
        now: datetime,
        *,
        scopes: Sequence[Scope],
        payers: Iterable[str] = (),
        also: Iterable[UUID] = (),
    ) -> Work:
        work = Work(self, self.allowances, self.rules, self._defaults, now)
        wanted: list[UUID] = [EthRate.create_id(), *map(Plan.create_id, self._plans), *also]
        wanted += [unique for scope in scopes for unique in ids_of(scope)]
        wanted += map(Pool.create_id, payers)
        # Budgets before limits: whoever tightens limits changes the budget too, and is noticed so.
        budgets = {Budget.create_id(scope.account_id) for scope in scopes}
        for known in budgets - self.absent(budgets):
            self.repository.get(known)
        work.look_up(wanted)
        plans = {work.plan_name(scope.account_id) for scope in scopes} - self._plans
        if plans:
            self._plans |= plans
            work.look_up(map(Plan.create_id, plans))
        return work
