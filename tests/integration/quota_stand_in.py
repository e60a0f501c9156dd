"""Answers what operators ask of quota and the signer, from memory, as quota does from its log."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts import limits as contract
from contracts.audit import AuditPage, AuditRow, ReadAudit, read_audit_subject
from contracts.credit import CreditRow, CreditView, GrantCredit, ReadCredit, VoidCredit
from contracts.message import Command, Message, Refusal
from contracts.quota import ListPools, PoolPage, PoolView, ReadPool
from contracts.signer import OrchestratorInfoSigned, SignOrchestratorInfo
from contracts.stops import LiftStops, ListStops, SetStops, StopPage, StopView
from contracts.stream_starts import (
    BeginStream,
    EndStream,
    ListStreams,
    StreamBegun,
    StreamPage,
    StreamView,
)

NOW = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)
PAYERS = ("0x" + "1a" * 20, "0x" + "2b" * 20)

ACTIONS: dict[type[contract.Authored], str] = {
    contract.SetLimits: "limits_set",
    contract.EndToken: "limits_set",
    contract.AssignPlan: "plan_assigned",
    contract.SetTimeZone: "time_zone_set",
    contract.SetPlan: "plan_set",
    GrantCredit: "credit_granted",
    VoidCredit: "credit_voided",
    SetStops: "stop_set",
    LiftStops: "stop_lifted",
}

type Scope = tuple[str, str | None, str | None]


class QuotaStandIn:
    """Keeps what was set.

    `commands` are all that were asked; a command of the type `silent_for` gets no answer.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._subscriptions: list[Subscription] = []
        self.commands: list[Command] = []
        self.silent_for: type[Command] | None = None
        self._running: dict[str, StreamView] = {}
        self._limits: dict[Scope, contract.Limits] = {}
        self._plan_of: dict[str, str | None] = {}
        self._zone_of: dict[str, str] = {}
        self._plans: dict[str, contract.Plan] = {}
        self._grants: dict[str, dict[str, CreditRow]] = {}
        self._stops: dict[str, StopView] = {}
        self._audit: list[AuditRow] = []

    async def serve(self) -> None:
        answers: dict[type[Command], Callable[[Any], Message]] = {
            contract.ReadLimits: self._view,
            contract.SetLimits: self._set_limits,
            contract.EndToken: self._end_token,
            contract.AssignPlan: self._assign_plan,
            contract.SetTimeZone: self._set_time_zone,
            contract.SetPlan: self._set_plan,
            contract.ListPlans: lambda _: contract.PlanPage(plans=self._plan_views()),
            GrantCredit: self._grant,
            VoidCredit: self._void,
            ReadCredit: lambda asked: self._credit(asked.account_id),
            SetStops: self._set_stops,
            LiftStops: self._lift_stops,
            ListStops: self._list_stops,
            ListStreams: lambda asked: StreamPage(streams=list(self._running.values())[: asked.limit]),
            BeginStream: self._begin_stream,
            EndStream: self._end_stream,
            ListPools: lambda _: PoolPage(pools=[_pool(payer) for payer in PAYERS]),
            ReadPool: lambda asked: _pool(asked.payer) if asked.payer in PAYERS else _NO_POOL,
            SignOrchestratorInfo: lambda _: OrchestratorInfoSigned(address="0x", signature="0x"),
            ReadAudit: self._read_audit,
        }
        for command, answer in answers.items():
            subject = read_audit_subject("quota") if command is ReadAudit else command.subject
            self._subscriptions.append(await self._client.subscribe(subject, cb=self._on(command, answer)))
        await self._client.flush()

    async def leave(self) -> None:
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()
        await self._client.flush()

    def _on(self, command: type[Command], answer: Callable[[Any], Message]) -> Callable[[Msg], Any]:
        async def on_message(message: Msg) -> None:
            asked = command.model_validate_json(message.data)
            if command is self.silent_for:
                return
            self.commands.append(asked)
            reply = answer(asked)
            if isinstance(asked, contract.Authored) and not isinstance(reply, Refusal):
                self._note(asked)
            await message.respond(reply.model_dump_json().encode())

        return on_message

    def _note(self, asked: contract.Authored) -> None:
        row = AuditRow(
            service="quota",
            position=len(self._audit) + 1,
            at=datetime.now(UTC),
            action=ACTIONS[type(asked)],
            account_id=getattr(asked, "account_id", None),
            actor=asked.actor,
            reason=asked.reason,
            details={},
        )
        self._audit.append(row)

    def _view(self, asked: contract.Scoped) -> contract.LimitsView:
        account_id = asked.account_id
        return contract.LimitsView(
            account_id=account_id,
            user_id=asked.user_id,
            key_id=asked.key_id,
            plan=self._plan_of.get(account_id),
            time_zone=self._zone_of.get(account_id, "UTC"),
            own=self._limits.get(_scope(asked), contract.Limits()),
            effective=self._limits.get(_scope(asked), contract.Limits()),
            rows=[
                contract.LimitRow(name="spend_limit_wei", limit=10**16, used=7, held=1, remaining=10**16 - 8)
            ],
            sessions=0,
            streams=len(self._running),
            suspended=False,
            most_micro_usd=self._most(account_id),
        )

    def _most(self, account_id: str) -> int | None:
        return self._limits.get((account_id, None, None), contract.Limits()).credit_limit_micro_usd

    def _set_limits(self, asked: contract.SetLimits) -> contract.LimitsView:
        self._limits[_scope(asked)] = asked.limits
        return self._view(asked)

    def _end_token(self, asked: contract.EndToken) -> contract.LimitsView:
        ended = contract.Limits(expires_at=NOW)
        view = self._view(contract.Scoped(account_id=asked.account_id))
        return view.model_copy(update={"token_id": asked.token_id, "own": ended, "effective": ended})

    def _assign_plan(self, asked: contract.AssignPlan) -> contract.LimitsView | Refusal:
        if asked.plan is not None and asked.plan not in self._plans:
            return Refusal(code="plan_not_found", message=f"there is no plan {asked.plan}")
        self._plan_of[asked.account_id] = asked.plan
        return self._view(contract.Scoped(account_id=asked.account_id))

    def _set_time_zone(self, asked: contract.SetTimeZone) -> contract.LimitsView:
        self._zone_of[asked.account_id] = asked.time_zone
        return self._view(contract.Scoped(account_id=asked.account_id))

    def _set_plan(self, asked: contract.SetPlan) -> contract.PlanView:
        self._plans[asked.name] = asked.plan
        return contract.PlanView(name=asked.name, plan=asked.plan)

    def _plan_views(self) -> list[contract.PlanView]:
        return [contract.PlanView(name=name, plan=plan) for name, plan in sorted(self._plans.items())]

    def _grant(self, asked: GrantCredit) -> CreditView | Refusal:
        row = CreditRow(
            grant_id=asked.grant_id,
            credit=asked.credit,
            amount_micro_usd=asked.amount_micro_usd,
            left_micro_usd=asked.amount_micro_usd,
            priority=asked.priority,
            expires_at=asked.expires_at,
        )
        grants = self._grants.setdefault(asked.account_id, {})
        if grants.setdefault(asked.grant_id, row) != row:
            return Refusal(code="credit_grant_id_taken", message="another grant has this id")
        return self._credit(asked.account_id)

    def _void(self, asked: VoidCredit) -> CreditView | Refusal:
        grants = self._grants.get(asked.account_id, {})
        if asked.grant_id not in grants:
            return Refusal(code="credit_grant_not_found", message=f"there is no grant {asked.grant_id}")
        grants[asked.grant_id] = grants[asked.grant_id].model_copy(update={"left_micro_usd": 0})
        return self._credit(asked.account_id)

    def _credit(self, account_id: str) -> CreditView:
        grants = list(self._grants.get(account_id, {}).values())
        return CreditView(
            account_id=account_id,
            grants=grants,
            prepaid_micro_usd=sum(grant.left_micro_usd for grant in grants),
            owed_micro_usd=0,
            credit_limit_micro_usd=None,
        )

    def _set_stops(self, asked: SetStops) -> StopPage:
        found = [
            StopView(
                what=stop.what,
                value=stop.value,
                reason=asked.reason,
                actor=asked.actor,
                set_at=NOW,
                expires_at=asked.expires_at,
            )
            for stop in asked.stops
        ]
        self._stops |= {f"{stop.what}:{stop.value}": stop for stop in found}
        return StopPage(stops=found)

    def _lift_stops(self, asked: LiftStops) -> StopPage:
        for stop in asked.stops:
            self._stops.pop(f"{stop.what}:{stop.value}", None)
        return StopPage(stops=[])

    def _list_stops(self, asked: ListStops) -> StopPage:
        found = [stop for key, stop in sorted(self._stops.items()) if key > asked.after]
        return StopPage(stops=found[: asked.limit])

    def _begin_stream(self, asked: BeginStream) -> StreamBegun:
        self._running[asked.stream_id] = StreamView(
            stream_id=asked.stream_id,
            account_id=asked.account_id,
            user_id=asked.user_id,
            key_id=asked.key_id,
            app=asked.app,
            job_type=asked.job_type,
            begun_at=NOW,
            lease_ends_at=NOW,
        )
        return StreamBegun(
            stream_id=asked.stream_id,
            account_id=asked.account_id,
            user_id=asked.user_id,
            begun_at=NOW,
            lease_ends_at=NOW,
            rows=[],
        )

    def _end_stream(self, asked: EndStream) -> StreamView | Refusal:
        stream = self._running.pop(asked.stream_id, None)
        if stream is None:
            return Refusal(code="stream_not_found", message=f"there is no stream {asked.stream_id}")
        ended = {"lease_ends_at": None, "ended_at": NOW, "ended_because": "ended"}
        return stream.model_copy(update=ended)

    def _read_audit(self, asked: ReadAudit) -> AuditPage:
        rows = [
            row
            for row in reversed(self._audit)
            if (asked.before is None or row.position < asked.before)
            and asked.account_id in (None, row.account_id)
        ]
        return AuditPage(rows=rows[: asked.limit])


_NO_POOL = Refusal(code="pool_not_found", message="there is no such payer")


def _pool(payer: str) -> PoolView:
    return PoolView(
        payer=payer,
        deposit=10**18,
        reserve=10**17,
        cover=10**18,
        exposure=7,
        held=1,
        round=3,
        observed_at=NOW,
    )


def _scope(asked: contract.Scoped) -> Scope:
    return asked.account_id, asked.user_id, asked.key_id
