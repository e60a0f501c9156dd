"""From the bus to the use cases of limits, plans, credit and stops, and back."""

from datetime import datetime
from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts import limits as contract
from contracts.audit import AuditPage, ReadAudit, read_audit_subject
from contracts.credit import CreditView, GrantCredit, ReadCredit, VoidCredit
from contracts.stops import LiftStops, ListStops, SetStops, StopPage
from services.quota.domain.credit import CreditGrant, GrantKind
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.plan import Terms
from services.quota.domain.stops import StopKind
from services.quota.limiting import Limiting
from services.quota.rules import RulesTable
from services.quota.stopping import Stopping
from shared.audit import Audit
from shared.clock import Clock
from shared.money import MicroUsd

QUEUE = "quota"

router = NatsRouter()

type LimitingHere = Annotated[Limiting, Context("limiting")]
type StoppingHere = Annotated[Stopping, Context("stopping")]
type RulesHere = Annotated[RulesTable, Context("rules")]
type ClockHere = Annotated[Clock, Context("clock")]


@router.subscriber(contract.SetLimits.subject, QUEUE)
def set_limits(command: contract.SetLimits, limiting: LimitingHere, clock: ClockHere) -> contract.LimitsView:
    limits, author = _limits(command.limits), _author(command)
    return limiting.set_limits(_scope(command), limits, author, clock.now(), version=command.version)


@router.subscriber(contract.EndToken.subject, QUEUE)
def end_token(command: contract.EndToken, limiting: LimitingHere, clock: ClockHere) -> contract.LimitsView:
    scope = Scope(command.account_id, token_id=command.token_id)
    return limiting.end_token(scope, _author(command), clock.now())


@router.subscriber(contract.ReadLimits.subject, QUEUE)
def read_limits(
    command: contract.ReadLimits, limiting: LimitingHere, clock: ClockHere
) -> contract.LimitsView:
    return limiting.view(_scope(command), clock.now())


@router.subscriber(contract.AssignPlan.subject, QUEUE)
def assign_plan(
    command: contract.AssignPlan, limiting: LimitingHere, clock: ClockHere
) -> contract.LimitsView:
    return limiting.assign_plan(command.account_id, command.plan, _author(command), clock.now())


@router.subscriber(contract.SetTimeZone.subject, QUEUE)
def set_time_zone(
    command: contract.SetTimeZone, limiting: LimitingHere, clock: ClockHere
) -> contract.LimitsView:
    return limiting.set_time_zone(command.account_id, command.time_zone, _author(command), clock.now())


@router.subscriber(contract.SetPlan.subject, QUEUE)
def set_plan(command: contract.SetPlan, limiting: LimitingHere, clock: ClockHere) -> contract.PlanView:
    plan = command.plan
    terms = Terms(
        limits=_limits(plan.limits),
        user_limits=_limits(plan.user_limits),
        key_limits=_limits(plan.key_limits),
        rank=plan.rank,
        trial=plan.trial,
    )
    return limiting.set_plan(command.name, terms, _author(command), clock.now(), version=command.version)


@router.subscriber(contract.ListPlans.subject, QUEUE)
def list_plans(limiting: LimitingHere, rules: RulesHere, clock: ClockHere) -> contract.PlanPage:
    return contract.PlanPage(plans=limiting.plans(rules.plan_names(), clock.now()))


@router.subscriber(GrantCredit.subject, QUEUE)
def grant_credit(command: GrantCredit, limiting: LimitingHere, clock: ClockHere) -> CreditView:
    grant = CreditGrant(
        grant_id=command.grant_id,
        kind=GrantKind(command.credit),
        amount=MicroUsd(command.amount_micro_usd),
        priority=command.priority,
        expires=_seconds(command.expires_at),
    )
    return limiting.grant_credit(command.account_id, grant, _author(command), clock.now())


@router.subscriber(VoidCredit.subject, QUEUE)
def void_credit(command: VoidCredit, limiting: LimitingHere, clock: ClockHere) -> CreditView:
    return limiting.void_credit(command.account_id, command.grant_id, _author(command), clock.now())


@router.subscriber(ReadCredit.subject, QUEUE)
def read_credit(command: ReadCredit, limiting: LimitingHere, clock: ClockHere) -> CreditView:
    return limiting.credit(command.account_id, clock.now())


@router.subscriber(SetStops.subject, QUEUE)
def set_stops(command: SetStops, stopping: StoppingHere, clock: ClockHere) -> StopPage:
    stops = [(StopKind(stop.what), stop.value) for stop in command.stops]
    set_now = stopping.set_stops(stops, _author(command), expires_at=command.expires_at, now=clock.now())
    return StopPage(stops=set_now)


@router.subscriber(LiftStops.subject, QUEUE)
def lift_stops(command: LiftStops, stopping: StoppingHere, clock: ClockHere) -> StopPage:
    stops = [(StopKind(stop.what), stop.value) for stop in command.stops]
    stopping.lift_stops(stops, _author(command), clock.now())
    return StopPage(stops=[])


@router.subscriber(ListStops.subject, QUEUE)
def list_stops(command: ListStops, stopping: StoppingHere, clock: ClockHere) -> StopPage:
    return StopPage(stops=stopping.stops(command.after, command.limit, clock.now()))


@router.subscriber(read_audit_subject(QUEUE), QUEUE)
def read_audit(command: ReadAudit, audit: Annotated[Audit, Context()]) -> AuditPage:
    return audit.read(command)


def _scope(scoped: contract.Scoped) -> Scope:
    """The narrowest that is named."""
    if scoped.token_id is not None:
        return Scope(scoped.account_id, token_id=scoped.token_id)
    if scoped.key_id is not None:
        return Scope(scoped.account_id, key_id=scoped.key_id)
    return Scope(scoped.account_id, user_id=scoped.user_id)


def _limits(told: contract.Limits) -> Limits:
    return Limits.of({**told.model_dump(), "expires_at": _seconds(told.expires_at)})


def _author(command: contract.Authored) -> Author:
    return Author(command.actor, command.reason)


def _seconds(at: datetime | None) -> int | None:
    return int(at.timestamp()) if at is not None else None
