"""The use case behind `/authorize`: payments of a go-livepeer signer that is not ours.

What a payment is estimated to cost is held like an allowance, and counts as spent once its session is
idle, or a window turns. Where its own event is told, that takes the place of the estimate
(`services.quota.correcting`).
"""

import asyncio
from datetime import datetime, timedelta
from fractions import Fraction

import structlog
from eventsourcing.persistence import PersistenceError

from contracts.stream_starts import AuthorizePayment, PaymentAuthorized
from services.quota.allowances import FOREIGN, AllowanceRow
from services.quota.application import Quota
from services.quota.domain.foreign import PREFIX, Counted, ForeignSession, Told
from services.quota.domain.granting import Ask
from services.quota.domain.limit_set import Scope
from services.quota.domain.refusal import AllowanceRefusal
from services.quota.spends import record
from services.quota.work import Work, scopes_of_ids
from shared.clock import Clock
from shared.money import Wei
from shared.refusal import Refused

log = structlog.get_logger()

SETTLE_SECONDS = 1.0
SETTLE_MAX = 100
INSUFFICIENT_BALANCE = 483  # as the community's webhooks say it (protocol §8.2)
PAYMENT_REQUIRED = 402


class BadBalance(Refused):
    code = "bad_balance"


class Authorizing:
    def __init__(self, quota: Quota, *, idle_seconds: int) -> None:
        self._quota = quota
        self._idle = timedelta(seconds=idle_seconds)

    def authorize(self, asked: AuthorizePayment, now: datetime) -> PaymentAuthorized:
        """Raises BadBalance."""
        told = _told(asked)
        scopes = [Scope(asked.account_id)]
        scopes += scopes_of_ids(asked.account_id, asked.user_id, asked.key_id, asked.token_id)

        def decide(work: Work) -> PaymentAuthorized:
            session = work.foreign_session(asked.account_id, asked.state_id)
            estimate = session.estimate_of(told)
            try:
                self._hold(work, asked, session, estimate, now)
            except AllowanceRefusal as refusal:
                status = INSUFFICIENT_BALANCE if refusal.status == PAYMENT_REQUIRED else refusal.status
                return PaymentAuthorized(status=status, reason=f"{refusal.reason}: {refusal}")
            session.tell(told, estimate, now)
            return PaymentAuthorized(status=200, estimate=estimate)

        also = [ForeignSession.create_id(asked.account_id, asked.state_id)]
        return self._quota.decide(decide, now, scopes=scopes, also=also)

    def _hold(
        self, work: Work, asked: AuthorizePayment, session: ForeignSession, estimate: Wei, now: datetime
    ) -> None:
        """Raise AllowanceRefusal if limits have no room for it; a repeat only has to be let in still."""
        budget = work.budget(asked.account_id)
        budget.check_open(asked.key_id)
        if not estimate:
            return
        ask = Ask(
            account_id=asked.account_id,
            key_id=asked.key_id,
            session_id=session.session_id,
            number=asked.sequence + 1,
            payer=FOREIGN,
            needed=estimate,
            wanted=estimate,
            user_id=asked.user_id,
            token_id=asked.token_id,
        )
        books = work.limited_books(ask)
        for each, conditions in books:
            work.check(each, ask, conditions)
        work.lease(books, ask, estimate)
        work.touch(asked.account_id, session.session_id, now)

    async def settle(self, clock: Clock) -> None:
        """Have what idle sessions hold count as spent, for ever."""
        while True:
            try:
                await asyncio.to_thread(self._settle_idle, clock.now())
            except PersistenceError as problem:
                log.warning("estimates_wait", problem=repr(problem))
            await asyncio.sleep(SETTLE_SECONDS)

    def _settle_idle(self, now: datetime) -> None:
        for row in self._quota.allowances.foreign_due(now, now - self._idle, SETTLE_MAX):
            self._settle(row, now)

    def _settle(self, row: AllowanceRow, now: datetime) -> None:
        scope = Scope(row.account_id)
        state_id = row.session_id.removeprefix(PREFIX)

        def decide(work: Work) -> None:
            budget = work.budget(row.account_id)
            held = budget.held_by(row.session_id)
            counting = budget.counting(row.session_id)
            if held:
                record(work, budget, {row.session_id: held}, work.zone(row.account_id), row.last_at)
            # Whatever was granted since the row was read, too: all that is held counts as spent now.
            number = max(row.number, budget.sessions.get(row.session_id, {}).get("number", 0))
            budget.free(row.session_id, number, now)
            for each in counting:
                work.sub_budget(each).hold(row.session_id, budget.held_by(row.session_id), now)
            session = work.foreign_session(row.account_id, state_id)
            session.settle(Counted(row.last_at, work.rate, tuple(counting)), now)
            work.touch(row.account_id, row.session_id, now)

        also = [ForeignSession.create_id(row.account_id, state_id)]
        self._quota.decide(decide, now, scopes=[scope], also=also)


def _told(asked: AuthorizePayment) -> Told:
    try:
        balance = Fraction(asked.balance)
    except (ValueError, ZeroDivisionError) as problem:
        raise BadBalance("balance: a ratio of whole numbers is expected") from problem
    return Told(
        sequence=asked.sequence,
        balance=balance,
        price=Fraction(asked.price_per_unit, asked.pixels_per_unit),
        job_type=asked.job_type,
        last_update=asked.last_update_ns,
    )
