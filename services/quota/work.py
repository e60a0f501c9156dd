"""The aggregates and effects of one use case: each aggregate once, all saved together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.deposit_watcher import FundsObserved
from contracts.signer import SessionClosed
from services.quota.allowances import AllowanceRow, Allowances
from services.quota.domain.budget import Budget
from services.quota.domain.foreign import ForeignSession
from services.quota.domain.granting import Ask, Conditions
from services.quota.domain.key_watch import KeyWatch, Sensitivity
from services.quota.domain.limit_set import LimitSet, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.plan import UNSHED, Plan, Terms
from services.quota.domain.pool import Pool, PoolUnknown
from services.quota.domain.rate import EthRate
from services.quota.domain.refusal import SpendLimitReached
from services.quota.domain.spending import Rate
from services.quota.domain.stops import Stops
from services.quota.domain.streams import Streams
from services.quota.domain.sub_budget import SubBudget
from services.quota.rules import RulesTable
from shared.money import Wei
from shared.store import Effect, EventSourced

DEFAULT_PLAN = "default"  # of accounts that are on none, if there is one of that name

type Stored = (
    Budget | SubBudget | LimitSet | Plan | Pool | EthRate | Stops | Streams | ForeignSession | KeyWatch
)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where neither anybody nor a plan has said anything."""

    spend_limit: Wei  # of an account, in all
    key_limits: Limits = field(default_factory=Limits)
    sensitivity: Sensitivity = field(default_factory=Sensitivity)


class Work:
    def __init__(
        self,
        store: EventSourced,
        allowances: Allowances,
        rules: RulesTable,
        defaults: Defaults,
        now: datetime,
    ) -> None:
        self._store = store
        self._allowances = allowances
        self.rules = rules
        self._defaults = defaults
        self.now = now
        self._loaded: dict[UUID, Stored] = {}
        self._absent: set[UUID] = set()
        self._looked_up: set[UUID] = set()
        self._touched: dict[tuple[str, str], datetime] = {}
        self.effects: list[Effect] = []
        self.payers: set[str] = set()

    def look_up(self, aggregate_ids: Iterable[UUID]) -> None:
        """Find out which of these there are, and where other replicas have brought them: two queries.

        Each once: what others do afterwards, the store's version check notices.
        """
        wanted = set(aggregate_ids).difference(self._loaded, self._looked_up)
        self._looked_up |= wanted
        self._store.catch_up(wanted)
        self._absent |= self._store.absent(wanted)

    # Aggregates

    def budget(self, account_id: str) -> Budget:
        found = self._find(Budget.create_id(account_id), Budget)
        return found or self._keep(Budget(account_id, self._defaults.spend_limit, timestamp=self.now))

    def sub_budget(self, scope: Scope) -> SubBudget:
        found = self._find(SubBudget.create_id(*scope.ids), SubBudget)
        return found or self._keep(SubBudget(*scope.ids, timestamp=self.now))

    def known_sub_budget(self, scope: Scope) -> SubBudget | None:
        return self._find(SubBudget.create_id(*scope.ids), SubBudget)

    def limit_set(self, scope: Scope) -> LimitSet:
        found = self.known_limit_set(scope)
        return found or self._keep(LimitSet(*scope.ids, timestamp=self.now))

    def known_limit_set(self, scope: Scope) -> LimitSet | None:
        return self._find(LimitSet.create_id(*scope.ids), LimitSet)

    def plan(self, name: str) -> Plan:
        return self.known_plan(name) or self._keep(Plan(name, timestamp=self.now))

    def known_plan(self, name: str) -> Plan | None:
        return self._find(Plan.create_id(name), Plan)

    def stops(self) -> Stops:
        return self._find(Stops.create_id(), Stops) or self._keep(Stops(timestamp=self.now))

    def streams(self, account_id: str) -> Streams:
        found = self._find(Streams.create_id(account_id), Streams)
        return found or self._keep(Streams(account_id, timestamp=self.now))

    def key_watch(self, key: Scope) -> KeyWatch:
        found = self.known_key_watch(key)
        return found or self._keep(KeyWatch(key.account_id, key.key_id or "", timestamp=self.now))

    def known_key_watch(self, key: Scope) -> KeyWatch | None:
        return self._find(KeyWatch.create_id(key.account_id, key.key_id or ""), KeyWatch)

    def known_foreign_session(self, account_id: str, state_id: str) -> ForeignSession | None:
        return self._find(ForeignSession.create_id(account_id, state_id), ForeignSession)

    def foreign_session(self, account_id: str, state_id: str) -> ForeignSession:
        found = self.known_foreign_session(account_id, state_id)
        return found or self._keep(ForeignSession(account_id, state_id, timestamp=self.now))

    def known_stops(self) -> dict[str, dict[str, Any]]:
        found = self._find(Stops.create_id(), Stops)
        return found.stops if found is not None else {}

    def books(self, scope: Scope) -> Budget | SubBudget | None:
        """The budget of a scope; of users, keys and tokens there is none before a limit on spend holds."""
        return self.budget(scope.account_id) if scope.level == "account" else self.known_sub_budget(scope)

    def eth_rate(self) -> EthRate | None:
        return self._find(EthRate.create_id(), EthRate)

    def open_eth_rate(self, rate: Rate) -> None:
        self._keep(EthRate(rate.micro_usd_per_eth, rate.source, timestamp=rate.observed_at))

    def pool(self, payer: str) -> Pool:
        found = self._find(Pool.create_id(payer), Pool)
        if found is None:
            found = self._keep(Pool(payer, timestamp=self.now))
            self.effects.append(self._allowances.know_payer(payer))
        self.payers.add(payer)
        return found

    def known_pool(self, payer: str) -> Pool:
        """The pool of a payer that was heard of; an ask does not open one."""
        found = self._find(Pool.create_id(payer), Pool)
        if found is None:
            raise PoolUnknown(payer)
        self.payers.add(payer)
        return found

    # What is decided with

    @property
    def sensitivity(self) -> Sensitivity:
        return self._defaults.sensitivity

    @property
    def rate(self) -> Rate | None:
        observed = self.eth_rate()
        return observed.rate if observed is not None else None

    def plan_name(self, account_id: str) -> str:
        own = self.known_limit_set(Scope(account_id))
        return (own.plan if own is not None else None) or DEFAULT_PLAN

    def terms(self, account_id: str) -> Terms:
        """Those of the account's plan, or of the default one."""
        plan = self.known_plan(self.plan_name(account_id))
        return plan.terms if plan is not None else Terms(rank=UNSHED)

    def zone(self, account_id: str) -> str:
        own = self.known_limit_set(Scope(account_id))
        return own.time_zone if own is not None else "UTC"

    def limits(self, scope: Scope) -> Limits:
        """What holds for a scope by itself: its own, then its plan's; of accounts a limit in all."""
        set_here = self.known_limit_set(scope)
        own = set_here.limits if set_here is not None else Limits()
        terms = self.terms(scope.account_id)
        match scope:
            case Scope(token_id=str()):
                return own
            case Scope(key_id=str()):
                return own.over(terms.key_limits).over(self._defaults.key_limits)
            case Scope(user_id=str()):
                return own.over(terms.user_limits)
        in_all = Limits(spend_limit_wei=self.budget(scope.account_id).spend_limit)
        return own.over(terms.limits).over(in_all)

    def conditions(self, scope: Scope, at: datetime | None = None) -> Conditions:
        return Conditions(
            limits=self.limits(scope),
            rate=self.rate,
            zone=self.zone(scope.account_id),
            now=at or self.now,
            keeps_for_running=self.terms(scope.account_id).rank != UNSHED,
        )

    # Granting

    def limited_books(self, ask: Ask) -> list[tuple[Budget | SubBudget, Conditions]]:
        """The account's budget first, then those of its user, key and token whose spend is limited."""
        budget, account = self.budget(ask.account_id), Scope(ask.account_id)
        found: list[tuple[Budget | SubBudget, Conditions]] = [(budget, self.conditions(account))]
        for scope in scopes_of(ask):
            if self.limits(scope).count_spend:
                sub = self.sub_budget(scope)
                brought = budget.held_by(ask.session_id) - sub.sessions.get(ask.session_id, 0)
                found.append((sub, replace(self.conditions(scope), brought=brought)))
        return found

    def check(self, books: Budget | SubBudget, ask: Ask, conditions: Conditions) -> None:
        """Raise AllowanceRefusal; a limit that was reached is noted."""
        try:
            reached = books.check_may_grant(ask, conditions)
        except SpendLimitReached as refusal:
            books.reach(refusal.standing, self.now)
            raise
        if reached is not None:  # the session has its grace
            books.reach(reached, self.now)

    def lease(self, books: Sequence[tuple[Budget | SubBudget, Conditions]], ask: Ask, amount: Wei) -> None:
        """Have the session hold so much more, until the first window of a limit turns."""
        budget = self.budget(ask.account_id)
        counted_before = set(budget.counting(ask.session_id))
        subs = [each for each, _ in books if isinstance(each, SubBudget)]
        turns = [turn for each, terms in books if (turn := each.turns_at(terms)) is not None]
        counted_by = [sub.scope.level for sub in subs]
        budget.grant(ask, amount, self.now, ends_at=min(turns, default=None), counted_by=counted_by)
        for sub in subs:
            sub.hold(ask.session_id, budget.held_by(ask.session_id), self.now)
        left = counted_before - set(budget.counting(ask.session_id))  # as with another session token
        self.look_up(unique for scope in left for unique in ids_of(scope))
        for scope in left:
            self.sub_budget(scope).hold(ask.session_id, Wei(0), self.now)
        self.touch(ask.account_id, ask.session_id, self.now)

    # Rows beside the events

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
        table = self._allowances
        return [*([table.put(rows)] if rows else []), *([table.drop(gone)] if gone else [])]

    # Changes that several use cases make

    def free(self, closed: SessionClosed, at: datetime) -> None:
        budget = self.budget(closed.account_id)
        session = budget.sessions.get(closed.session_id)
        counting = budget.counting(closed.session_id)
        amount = budget.free(closed.session_id, closed.ask_number, at)
        if session is not None:
            self.pool(session["payer"]).hold(Wei(-amount), at)
            self.look_up(unique for scope in counting for unique in ids_of(scope))
            for scope in counting:
                self.sub_budget(scope).hold(closed.session_id, budget.held_by(closed.session_id), at)
        self.touch(closed.account_id, closed.session_id, at)

    def observe_funds(self, funds: FundsObserved, at: datetime, payers: Sequence[str]) -> None:
        pool = self.pool(funds.payer.lower())
        if not pool.round:
            # Tell a payer that came later the round which the others know: the next change is a day away.
            newest = max((self.pool(payer) for payer in payers), key=lambda each: each.round, default=pool)
            pool.change_round(newest.round, newest.validity, at)
        pool.observe_funds(
            deposit=Wei(funds.deposit),
            reserve=Wei(funds.reserve),
            withdraw_round=funds.withdraw_round,
            now=at,
        )

    # Saving

    def changed(self) -> list[Stored]:
        return [aggregate for aggregate in self._loaded.values() if aggregate.pending_events]

    def forget(self) -> None:
        self._store.forget(*self._loaded)

    def _find[A: Stored](self, aggregate_id: UUID, kind: type[A]) -> A | None:
        if aggregate_id not in self._loaded:
            if aggregate_id in self._absent or self._store.absent([aggregate_id]):
                self._absent.add(aggregate_id)
                return None
            self._loaded[aggregate_id] = self._store.repository.get(aggregate_id)
        found = self._loaded[aggregate_id]
        assert isinstance(found, kind)
        return found

    def _keep[A: Stored](self, aggregate: A) -> A:
        self._loaded[aggregate.id] = aggregate
        self._absent.discard(aggregate.id)
        return aggregate


def scopes_of(ask: Ask) -> list[Scope]:
    return scopes_of_ids(ask.account_id, ask.user_id, ask.key_id, ask.token_id)


def scopes_of_ids(
    account_id: str, user_id: str | None, key_id: str | None, token_id: str | None
) -> list[Scope]:
    """Who may have limits of his own: the user, the key, the session token."""
    found = []
    if user_id is not None:
        found.append(Scope(account_id, user_id=user_id))
    if key_id is not None:
        found.append(Scope(account_id, key_id=key_id))
    if token_id is not None:
        found.append(Scope(account_id, token_id=token_id))
    return found


def ids_of(scope: Scope) -> list[UUID]:
    """What has to be looked up to decide for a scope."""
    own = [LimitSet.create_id(*scope.ids)]
    is_account = scope == Scope(scope.account_id)
    return [*own, Budget.create_id(scope.account_id) if is_account else SubBudget.create_id(*scope.ids)]
