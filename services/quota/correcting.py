"""Follows metering's log: what payments of a signer that is not ours cost, by their own events.

They take the place of what was estimated when the signer asked `/authorize`, held or counted as spent
already. A payment that nobody estimated counts as spend when it is heard of.
"""

from collections.abc import Sequence
from datetime import datetime

from contracts.message import LogEntry
from contracts.signed_tickets import SignedTicketsRecorded
from services.quota.application import Quota
from services.quota.domain.foreign import Correction, ForeignSession, Paid
from services.quota.domain.limit_set import Scope
from services.quota.spends import record_below
from services.quota.work import Work
from shared.money import Wei
from shared.store import Effect


class Correcting:
    def __init__(self, quota: Quota) -> None:
        self._quota = quota

    def follow_tickets(self, entries: Sequence[LogEntry], done: Effect) -> None:
        """Correct estimates; `done` moves the position in the same transaction."""
        told = [(SignedTicketsRecorded.model_validate(entry.event), entry.at) for entry in entries]

        def decide(work: Work) -> None:
            for recorded, at in told:
                for state_id, payments in _by_session(recorded).items():
                    _correct(work, recorded.account_id, state_id, payments, at)
                work.budget(recorded.account_id).warn(work.conditions(Scope(recorded.account_id), at))

        scopes = {
            Scope(recorded.account_id, user_id=user_id)
            for recorded, _ in told
            for user_id in (None, *(payment.user_id for payment in recorded.payments))
        }
        also = {
            ForeignSession.create_id(recorded.account_id, payment.state_id)
            for recorded, _ in told
            for payment in recorded.payments
        }
        self._quota.decide(decide, entries[-1].at, done, scopes=scopes, also=also)


def _by_session(recorded: SignedTicketsRecorded) -> dict[str, list[Paid]]:
    found: dict[str, list[Paid]] = {}
    for told in recorded.payments:
        paid = Paid(told.sequence, Wei(told.fee), told.signed_at, told.user_id)
        found.setdefault(told.state_id, []).append(paid)
    return found


def _correct(work: Work, account_id: str, state_id: str, payments: list[Paid], now: datetime) -> None:
    session = work.known_foreign_session(account_id, state_id)
    if session is None:  # `/authorize` was never asked
        session = ForeignSession(account_id, state_id, timestamp=now)
    for correction in session.correct(payments, now):
        _book(work, account_id, session.session_id, correction, now)


def _book(work: Work, account_id: str, session_id: str, correction: Correction, now: datetime) -> None:
    budget, zone = work.budget(account_id), work.zone(account_id)
    rate = correction.counted.rate if correction.counted is not None else work.rate
    scopes = _counting(work, account_id, session_id, correction)
    budget.correct(
        session_id,
        correction.freed,
        correction.spent,
        counted_at=correction.at,
        rate=rate,
        zone=zone,
        now=now,
    )
    by_scope = {scope: {session_id: correction.spent} for scope in scopes}
    record_below(work, budget, by_scope, rate=rate, zone=zone, at=correction.at)
    if session_id in budget.sessions:
        work.touch(account_id, session_id, now)


def _counting(work: Work, account_id: str, session_id: str, correction: Correction) -> Sequence[Scope]:
    """Whose budgets below the account's count it: those that counted the estimate, if there was one."""
    if correction.counted is not None:
        return correction.counted.scopes
    budget = work.budget(account_id)
    if session_id in budget.sessions:
        return budget.counting(session_id)
    user = Scope(account_id, user_id=correction.user_id)
    is_limited = correction.user_id is not None and work.limits(user).count_spend
    return [user] if is_limited else []
