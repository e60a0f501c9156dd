"""What limits, plans and credit look like to who asks."""

from datetime import UTC, datetime

from contracts import limits as contract
from contracts.credit import CreditRow, CreditView
from services.quota.domain import credit
from services.quota.domain.budget import Budget
from services.quota.domain.limit_set import Scope
from services.quota.domain.limits import Limits
from services.quota.domain.plan import Plan
from services.quota.domain.spending import WORTH, Standing, Worth, micro_usd
from services.quota.outbox import limits_told, plan_told
from services.quota.rules import scoped
from services.quota.work import Work


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


def plan_view(plan: Plan) -> contract.PlanView:
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
    return max(limits.credit_limit_micro_usd, micro_usd(credit.owed(budget.credit)))


def credit_view(work: Work, account_id: str, now: datetime) -> CreditView:
    found = work.budget(account_id).credit
    rows = [
        CreditRow(
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
    return CreditView(
        account_id=account_id,
        grants=rows,
        prepaid_micro_usd=credit.prepaid(found, now) // WORTH,
        owed_micro_usd=micro_usd(credit.owed(found)),
        credit_limit_micro_usd=work.limits(Scope(account_id)).credit_limit_micro_usd,
    )
