"""From the bus to quota's use cases and back."""

from datetime import datetime
from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts.message import LogPage, ReadLog, read_log_subject
from contracts.quota import (
    AllowanceAnswer,
    AllowanceAnswers,
    AllowanceAsk,
    AllowanceGrantedAnswer,
    AllowanceRefusedAnswer,
    BudgetView,
    GrantAllowances,
    ListPools,
    PoolPage,
    PoolView,
    ReadBudget,
    ReadPool,
    SetSpendLimit,
)
from services.quota.application import Answer, Quota
from services.quota.domain.granting import Ask
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.pool import Pool
from services.quota.limiting import Limiting
from services.quota.together import Together
from services.quota.work import Work
from shared.clock import Clock
from shared.log import PublicLog
from shared.money import Wei

COMMANDS_AT_ONCE = 8  # of asks; what they ask is one commit

router = NatsRouter()

type Grants = Together[Ask, Answer]
type GrantsHere = Annotated[Grants, Context("grants")]
type QuotaHere = Annotated[Quota, Context("quota")]
type ClockHere = Annotated[Clock, Context("clock")]


@router.subscriber(GrantAllowances.subject, queue="quota", max_workers=COMMANDS_AT_ONCE)
def grant_allowances(command: GrantAllowances, grants: GrantsHere, clock: ClockHere) -> AllowanceAnswers:
    answers = grants.ask([_ask(ask) for ask in command.asks], clock.now())
    return AllowanceAnswers(answers=[_answer(answer) for answer in answers])


@router.subscriber(SetSpendLimit.subject, queue="quota")
def set_spend_limit(
    command: SetSpendLimit, quota: QuotaHere, limiting: Annotated[Limiting, Context()], clock: ClockHere
) -> BudgetView:
    now = clock.now()
    author = Author(command.actor or "unnamed", command.reason or "unspecified")
    limiting.set_spend_limit(command.account_id, Wei(command.spend_limit), now, author)
    return _budget(quota, command.account_id, now)


@router.subscriber(ReadBudget.subject, queue="quota")
def read_budget(command: ReadBudget, quota: QuotaHere, clock: ClockHere) -> BudgetView:
    return _budget(quota, command.account_id, clock.now())


@router.subscriber(ReadPool.subject, queue="quota")
def read_pool(command: ReadPool, quota: QuotaHere) -> PoolView:
    return _pool(quota.pool(command.payer))


@router.subscriber(ListPools.subject, queue="quota")
def list_pools(quota: QuotaHere) -> PoolPage:
    return PoolPage(pools=[_pool(pool) for pool in quota.pools()])


@router.subscriber(read_log_subject("quota"), queue="quota")
def read_log(command: ReadLog, public_log: Annotated[PublicLog, Context()]) -> LogPage:
    return public_log.read(command)


def _ask(ask: AllowanceAsk) -> Ask:
    return Ask(
        account_id=ask.account_id,
        key_id=ask.key_id,
        session_id=ask.session_id,
        number=ask.number,
        payer=ask.payer,
        needed=Wei(ask.needed),
        wanted=Wei(ask.wanted),
        user_id=ask.user_id,
        token_id=ask.token_id,
    )


def _answer(answer: Answer) -> AllowanceAnswer:
    if isinstance(answer, int):
        return AllowanceGrantedAnswer(amount=answer)
    return AllowanceRefusedAnswer.model_validate(
        {
            "status": answer.status,
            "reason": answer.reason,
            "message": str(answer),
            "retry_after_seconds": answer.retry_after_seconds,
        }
    )


def _budget(quota: Quota, account_id: str, now: datetime) -> BudgetView:
    """What may be spent in all; without such a limit, what was spent is all there is to tell."""

    def look(work: Work) -> BudgetView:
        budget, limits = work.budget(account_id), work.limits(Scope(account_id))
        limit = limits.spend_limit_wei or Wei(0)
        return BudgetView(
            account_id=account_id,
            spend_limit=limit,
            spent=budget.spent,
            held=budget.held,
            remaining=max(0, limit - budget.spent - budget.held),
            suspended=bool(budget.suspended),
        )

    return quota.read(look, now, scopes=[Scope(account_id)])


def _pool(pool: Pool) -> PoolView:
    return PoolView(
        payer=pool.payer,
        deposit=pool.deposit,
        reserve=pool.reserve,
        cover=pool.cover,
        exposure=pool.exposure,
        held=pool.held,
        round=pool.round,
        observed_at=pool.observed_at or pool.created_on,
    )
