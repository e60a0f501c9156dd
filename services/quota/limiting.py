"""The use cases that change what may be spent, and that stop signing; and what they look like."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog
from eventsourcing.persistence import PersistenceError

from contracts import limits as contract
from contracts.limits import stop_entry
from services.quota.application import Quota
from services.quota.domain import credit
from services.quota.domain.budget import Budget
from services.quota.domain.credit import CreditGrant
from services.quota.domain.limit_set import Author, LimitSet, Scope, require_version
from services.quota.domain.limits import Limits
from services.quota.domain.plan import Plan, PlanNotFound, Terms
from services.quota.domain.spending import WORTH, Standing, Worth, micro_usd
from services.quota.domain.stops import StopKind, Stops
from services.quota.domain.stops import key as stop_key
from services.quota.domain.streams import Streams
from services.quota.outbox import limits_told, plan_told
from services.quota.rules import entry_of, entry_of_stop, scoped, stop_view
from services.quota.work import Work
from shared.clock import Clock
from shared.money import Wei

DROP_SECONDS, DROP_MAX = 30.0, 500
TOKEN_LIFE_MAX = timedelta(days=1)  # an edge makes no token for longer
EXPIRED, STOP_EXPIRED = Author("quota", "token_expired"), Author("quota", "stop_expired")
LEASED_UNDER = ("spend_", "credit_", "sessions_")
log = structlog.get_logger()

UNNAMED = Author("unnamed", "unspecified")  # of commands that do not tell


class Limiting:
    def __init__(self, quota: Quota) -> None:
        self._quota = quota

    # Limits

    def set_limits(
        self, scope: Scope, limits: Limits, author: Author, now: datetime, *, version: int | None = None
    ) -> contract.LimitsView:
        """Replace what was set; leases that may not fit any more are taken back, and asked for anew.

        Raises LimitsChanged if another version than the expected one is set.
        """

        def decide(work: Work) -> contract.LimitsView:
            require_version(work.known_limit_set(scope), version)
            self._set_limits(work, scope, limits, author, now)
            return view(work, scope)

        return self._quota.decide(decide, now, scopes=[Scope(scope.account_id), scope])

    def set_spend_limit(
        self, account_id: str, spend_limit: Wei, now: datetime, author: Author = UNNAMED
    ) -> None:
        """Set what may be spent in all, and leave the other limits."""
        account = Scope(account_id)

        def decide(work: Work) -> None:
            known = work.known_limit_set(account)
            own = known.limits if known is not None else Limits()
            if work.limits(account).spend_limit_wei != spend_limit:
                self._set_limits(work, account, replace(own, spend_limit_wei=spend_limit), author, now)

        self._quota.decide(decide, now, scopes=[account])

    def _set_limits(self, work: Work, scope: Scope, limits: Limits, author: Author, now: datetime) -> None:
        before = work.limits(scope)
        limit_set = work.limit_set(scope)
        limit_set.set_limits(limits, author, now)
        self._publish(work, limit_set)
        if tightens(before, work.limits(scope)):
            _take_back(self._quota, work, scope, now)

    def end_token(self, scope: Scope, author: Author, now: datetime) -> contract.LimitsView:
        """Have a session token expire now: edges and signers refuse it, and its leases are taken back."""

        def decide(work: Work) -> contract.LimitsView:
            own, ends = work.limit_set(scope).limits, int(now.timestamp())
            if own.expires_at is None or own.expires_at > ends:
                self._set_limits(work, scope, replace(own, expires_at=ends), author, now)
                _take_back(self._quota, work, scope, now)
            return view(work, scope)

        return self._quota.decide(decide, now, scopes=[Scope(scope.account_id), scope])

    async def drop_expired(self, clock: Clock) -> None:
        """Forget for ever stops that have expired, and the limits of session tokens that have."""
        while True:
            try:
                await asyncio.to_thread(self._drop_expired_tokens, clock.now())
                await asyncio.to_thread(self.lift_expired_stops, clock.now())
            except PersistenceError as problem:
                log.warning("expired_ones_wait", problem=repr(problem))
            await asyncio.sleep(DROP_SECONDS)

    def _drop_expired_tokens(self, now: datetime) -> None:
        """A token that was ended early may be shown until its own end: then its entry has to be there."""
        for scope in self._quota.rules.expired_tokens(now - TOKEN_LIFE_MAX, DROP_MAX):
            self.set_limits(scope, Limits(), EXPIRED, now)

    def assign_plan(
        self, account_id: str, plan: str | None, author: Author, now: datetime
    ) -> contract.LimitsView:
        """Raises PlanNotFound."""
        account = Scope(account_id)

        def decide(work: Work) -> contract.LimitsView:
            if plan is not None and work.known_plan(plan) is None:
                raise PlanNotFound(plan)
            limit_set = work.limit_set(account)
            limit_set.assign_plan(plan, author, now)
            self._publish(work, limit_set)
            _take_back(self._quota, work, account, now)
            return view(work, account)

        return self._quota.decide(decide, now, scopes=[account])

    def set_time_zone(
        self, account_id: str, time_zone: str, author: Author, now: datetime
    ) -> contract.LimitsView:
        """Raises BadTimeZone."""
        account = Scope(account_id)

        def decide(work: Work) -> contract.LimitsView:
            work.limit_set(account).set_time_zone(time_zone, author, now)
            _take_back(self._quota, work, account, now)
            return view(work, account)

        return self._quota.decide(decide, now, scopes=[account])

    def set_plan(
        self, name: str, terms: Terms, author: Author, now: datetime, *, version: int | None = None
    ) -> contract.PlanView:
        """Running sessions meet it with their next lease, within about a minute.

        Raises LimitsChanged if another version than the expected one is set.
        """

        def decide(work: Work) -> contract.PlanView:
            require_version(work.known_plan(name), version)
            plan = work.plan(name)
            plan.set_terms(terms, author, now)
            self._publish(work, plan)
            return _plan_view(plan)

        return self._quota.decide(decide, now, also=[Plan.create_id(name)])

    def plans(self, names: Sequence[str], now: datetime) -> list[contract.PlanView]:
        def look(work: Work) -> list[contract.PlanView]:
            return [_plan_view(plan) for name in names if (plan := work.known_plan(name)) is not None]

        return self._quota.read(look, now, also=map(Plan.create_id, names))

    def view(self, scope: Scope, now: datetime) -> contract.LimitsView:
        def look(work: Work) -> contract.LimitsView:
            return view(work, scope)

        also = [Streams.create_id(scope.account_id)]
        return self._quota.read(look, now, scopes=[Scope(scope.account_id), scope], also=also)

    # Credit

    def grant_credit(
        self, account_id: str, grant: CreditGrant, author: Author, now: datetime
    ) -> contract.CreditView:
        """Raises CreditGrantIdTaken or TooManyCreditGrants."""

        def decide(work: Work) -> contract.CreditView:
            work.budget(account_id).grant_credit(grant, author, now)
            return credit_view(work, account_id, now)

        return self._quota.decide(decide, now, scopes=[Scope(account_id)])

    def void_credit(
        self, account_id: str, grant_id: str, author: Author, now: datetime
    ) -> contract.CreditView:
        """Raises CreditGrantNotFound."""

        def decide(work: Work) -> contract.CreditView:
            work.budget(account_id).void_credit(grant_id, author, now)
            _take_back(self._quota, work, Scope(account_id), now)
            return credit_view(work, account_id, now)

        return self._quota.decide(decide, now, scopes=[Scope(account_id)])

    def credit(self, account_id: str, now: datetime) -> contract.CreditView:
        def look(work: Work) -> contract.CreditView:
            return credit_view(work, account_id, now)

        return self._quota.read(look, now, scopes=[Scope(account_id)])

    # Stops

    def set_stops(
        self,
        stops: Sequence[tuple[StopKind, str]],
        author: Author,
        *,
        expires_at: datetime | None,
        now: datetime,
    ) -> list[contract.StopView]:
        """Raises TooManyStops."""

        def decide(work: Work) -> list[contract.StopView]:
            found = work.stops()
            for what, value in stops:
                found.put(what, value, author, expires_at=expires_at, now=now)
            set_now = {stop_key(*stop): found.stops[stop_key(*stop)] for stop in stops}
            self._change_rules(work, dict(map(entry_of_stop, set_now.values())))
            return [stop_view(stop) for stop in set_now.values()]

        return self._quota.decide(decide, now, also=[Stops.create_id()])

    def lift_stops(self, stops: Sequence[tuple[StopKind, str]], author: Author, now: datetime) -> None:
        def decide(work: Work) -> None:
            found = work.stops()
            for what, value in stops:
                found.lift(what, value, author, now)
            self._change_rules(work, {stop_entry(*stop): "" for stop in stops})

        self._quota.decide(decide, now, also=[Stops.create_id()])

    def lift_expired_stops(self, now: datetime) -> None:
        """They stop nothing any more; here they would count as stops for ever."""

        def decide(work: Work) -> None:
            expired = [
                (StopKind(stop["what"]), stop["value"])
                for stop in work.known_stops().values()
                if stop["expires"] is not None and stop["expires"] <= now.timestamp()
            ][:DROP_MAX]
            for what, value in expired:
                work.stops().lift(what, value, STOP_EXPIRED, now)
            if expired:
                self._change_rules(work, {stop_entry(*stop): "" for stop in expired})

        self._quota.decide(decide, now, also=[Stops.create_id()])

    def stops(self, after: str, limit: int, now: datetime) -> list[contract.StopView]:
        def look(work: Work) -> list[contract.StopView]:
            found = work.known_stops()
            following = sorted(key for key in found if key > after)[:limit]
            return [stop_view(found[key]) for key in following]

        return self._quota.read(look, now, also=[Stops.create_id()])

    # What they have in common

    def _publish(self, work: Work, found: LimitSet | Plan) -> None:
        self._change_rules(work, dict([entry_of(found)]))

    def _change_rules(self, work: Work, entries: Mapping[str, str]) -> None:
        work.effects.append(self._quota.rules.change(entries))


def _take_back(quota: Quota, work: Work, scope: Scope, now: datetime) -> None:
    work.budget(scope.account_id).take_back(scope, now)
    withdraw = quota.allowances.withdraw
    account_id, user_id, key_id, token_id = scope.ids
    work.effects.append(withdraw(account_id, user_id=user_id, key_id=key_id, token_id=token_id))


def tightens(before: Limits, after: Limits) -> bool:
    """Whether what was leased under the limits before may be too much now, or be counted otherwise."""
    old, new = before.set_ones(), after.set_ones()
    names = {name for name in (*old, *new) if name.startswith(LEASED_UNDER)}
    return any(_is_tighter(old.get(name), new.get(name)) for name in names)


def _is_tighter(old: int | None, new: int | None) -> bool:
    return new is not None and (old is None or new < old)


# What is shown


def view(work: Work, scope: Scope) -> contract.LimitsView:
    account = Scope(scope.account_id)
    books = work.books(scope)
    conditions = work.conditions(scope)
    known = work.known_limit_set(scope)
    budget = work.budget(scope.account_id)
    rows = [row_of(standing) for standing in books.standings(conditions)] if books is not None else []
    own = known.limits.set_ones() if known is not None else {}
    account_set = work.known_limit_set(account)
    return contract.LimitsView(
        **dict(scoped(scope)),
        plan=account_set.plan if account_set is not None else None,
        time_zone=conditions.zone,
        own=limits_told(own),
        effective=limits_told(conditions.limits.set_ones()),
        rows=rows,
        sessions=len(books.sessions) if books is not None else 0,
        streams=work.streams(scope.account_id).count(scope),
        suspended=bool(budget.suspended),
        most_micro_usd=_most(budget, conditions.limits) if scope == account else None,
        version=known.version if known is not None else 0,
        micro_usd_per_eth=work.rate.micro_usd_per_eth if work.rate is not None else None,
    )


def _plan_view(plan: Plan) -> contract.PlanView:
    return contract.PlanView(name=plan.name, plan=plan_told(plan.stored), version=plan.version)


def row_of(standing: Standing) -> contract.LimitRow:
    """What is used is rounded up, what is left down."""

    def shown(amount: int) -> int:
        return micro_usd(Worth(amount)) if standing.in_usd else amount

    return contract.LimitRow(
        name=standing.name,
        limit=standing.limit // WORTH if standing.in_usd else standing.limit,
        used=shown(standing.spent),
        held=shown(standing.held),
        remaining=standing.remaining // WORTH if standing.in_usd else standing.remaining,
        resets_at=standing.resets_at,
    )


def _most(budget: Budget, limits: Limits) -> int | None:
    """The most an account can cost us: what it may owe, or owes if that is more already."""
    if limits.credit_limit_micro_usd is None:
        return None
    return max(limits.credit_limit_micro_usd, micro_usd(Worth(budget.credit["owed"])))


def credit_view(work: Work, account_id: str, now: datetime) -> contract.CreditView:
    found = work.budget(account_id).credit
    rows = [
        contract.CreditRow(
            grant_id=grant_id,
            credit=grant["kind"],
            amount_micro_usd=grant["amount"],
            left_micro_usd=grant["left"] // WORTH if credit.is_valid(grant, now) else 0,
            priority=grant["priority"],
            expires_at=datetime.fromtimestamp(grant["expires"], UTC)
            if grant["expires"] is not None
            else None,
        )
        for grant_id, grant in found["grants"].items()
    ]
    return contract.CreditView(
        account_id=account_id,
        grants=rows,
        prepaid_micro_usd=credit.prepaid(found, now) // WORTH,
        owed_micro_usd=micro_usd(Worth(found["owed"])),
        credit_limit_micro_usd=work.limits(Scope(account_id)).credit_limit_micro_usd,
    )
