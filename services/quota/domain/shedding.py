"""Who goes without first when a pool is short: trials, overage, new sessions by plan; running ones last.

Each has to leave a part of the cover to those after it, so that never all are refused at once.
"""

from services.quota.domain.budget import Budget
from services.quota.domain.credit import is_trial
from services.quota.domain.granting import Ask, Conditions
from services.quota.domain.plan import UNSHED, Terms
from services.quota.domain.pool import Pool
from services.quota.domain.refusal import RETRY_AFTER_SECONDS, AllowanceRefusal

# Percent of the cover that has to stay.
TRIALS_LEAVE = 20
OVERAGE_LEAVES = 15
NEW_SESSIONS_LEAVE = UNSHED  # of the lowest rank; a point less for each above


def check_pool(pool: Pool, ask: Ask, terms: Terms, budget: Budget, conditions: Conditions) -> None:
    """Raise AllowanceRefusal if the pool has no room, or what room it has is for others."""
    pool.check_may_hold(ask.needed)
    left = pool.cover * leaves(ask, terms, budget, conditions) // 100
    if pool.exposure + ask.needed + left > pool.cover:
        raise AllowanceRefusal(503, "pool_short", "Service Unavailable Error", RETRY_AFTER_SECONDS)


def leaves(ask: Ask, terms: Terms, budget: Budget, conditions: Conditions) -> int:
    """Percent of the cover."""
    if terms.trial or is_trial(budget.credit, conditions.now):
        return TRIALS_LEAVE
    if conditions.limits.overage and _is_over(budget, conditions):
        return OVERAGE_LEAVES
    return NEW_SESSIONS_LEAVE - terms.rank if ask.is_new else 0


def _is_over(budget: Budget, conditions: Conditions) -> bool:
    return any(not standing.remaining for standing in budget.standings(conditions))
