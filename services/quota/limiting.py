"""The use cases that change what may be spent: limits, plans, credit."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from eventsourcing.persistence import PersistenceError

from contracts import limits as contract
from contracts.credit import CreditView
from services.quota.application import Quota
from services.quota.domain.credit import CreditGrant
from services.quota.domain.limit_set import Author, LimitSet, Scope, require_version
from services.quota.domain.limits import Limits
from services.quota.domain.plan import Plan, PlanNotFound, Terms
from services.quota.domain.streams import Streams
from services.quota.limit_views import credit_view, plan_view, view
from services.quota.rules import entry_of
from services.quota.work import Work
from shared.clock import Clock
from shared.money import Wei

DROP_SECONDS, DROP_MAX = 30.0, 500
TOKEN_LIFE_MAX = timedelta(days=1)  # an edge makes no token for longer
EXPIRED = Author("quota", "token_expired")
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
        """Forget the limits of session tokens that have expired, for ever."""
        while True:
            try:
                await asyncio.to_thread(self._drop_expired_tokens, clock.now())
            except PersistenceError as problem:
                log.warning("expired_tokens_wait", problem=repr(problem))
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
            return plan_view(plan)

        return self._quota.decide(decide, now, also=[Plan.create_id(name)])

    def plans(self, names: Sequence[str], now: datetime) -> list[contract.PlanView]:
        def look(work: Work) -> list[contract.PlanView]:
            return [plan_view(plan) for name in names if (plan := work.known_plan(name)) is not None]

        return self._quota.read(look, now, also=map(Plan.create_id, names))

    def view(self, scope: Scope, now: datetime) -> contract.LimitsView:
        def look(work: Work) -> contract.LimitsView:
            return view(work, scope)

        also = [Streams.create_id(scope.account_id)]
        return self._quota.read(look, now, scopes=[Scope(scope.account_id), scope], also=also)

    # Credit

    def grant_credit(self, account_id: str, grant: CreditGrant, author: Author, now: datetime) -> CreditView:
        """Raises CreditGrantIdTaken or TooManyCreditGrants."""

        def decide(work: Work) -> CreditView:
            work.budget(account_id).grant_credit(grant, author, now)
            return credit_view(work, account_id, now)

        return self._quota.decide(decide, now, scopes=[Scope(account_id)])

    def void_credit(self, account_id: str, grant_id: str, author: Author, now: datetime) -> CreditView:
        """Raises CreditGrantNotFound."""

        def decide(work: Work) -> CreditView:
            work.budget(account_id).void_credit(grant_id, author, now)
            _take_back(self._quota, work, Scope(account_id), now)
            return credit_view(work, account_id, now)

        return self._quota.decide(decide, now, scopes=[Scope(account_id)])

    def credit(self, account_id: str, now: datetime) -> CreditView:
        def look(work: Work) -> CreditView:
            return credit_view(work, account_id, now)

        return self._quota.read(look, now, scopes=[Scope(account_id)])

    # What they have in common

    def _publish(self, work: Work, found: LimitSet | Plan) -> None:
        work.effects.append(self._quota.rules.change(dict([entry_of(found)])))


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
