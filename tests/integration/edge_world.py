"""The edge and accounts as processes, and stand-ins for the services behind them on the bus."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts import deposit_watcher, limits, metering, quota, signer
from contracts.discovery import ORCHESTRATORS, SNAPSHOT, Orchestrator, OrchestratorsObserved
from contracts.message import Message, Refusal
from shared.bucket import BucketWriter
from shared.bus import connect
from tests import infra
from tests.integration.service_process import (
    provision_accounts,
    provision_discovery,
    provision_rules,
    service,
)
from tilt.slot import Slot

ADMIN_KEY = "an-administrators-key-of-these-tests"
PEPPER = "a-pepper-of-these-tests-and-no-other-0123"
HOOK_KEY = "7e" * 32
NOW = datetime(2031, 5, 17, 8, tzinfo=UTC)
FIRST_PAYER, UNFUNDED_PAYER, KEYLESS_PAYER = ("0x" + two * 20 for two in ("ab", "3c", "4d"))
SECOND_PAYER_CHECKSUMMED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
SECOND_PAYER = SECOND_PAYER_CHECKSUMMED.lower()
POOLS = (FIRST_PAYER, SECOND_PAYER, KEYLESS_PAYER)
FUNDS = 2**100 + 1
ORPHAN = deposit_watcher.RedemptionRow(
    redemption_id="ab" * 16,
    redemption_kind="orphan",
    reason="",
    payer=FIRST_PAYER,
    recipient="0x01",
    recipient_rand_hash="0x02",
    sender_nonce=2**255,
    face_value=FUNDS,
    win_prob="0xff",
    paid=FUNDS,
    creation_round=7,
    tx_hash="0x03",
    log_index=1,
    block=9,
    seen_at=NOW,
)


class StandIns:
    """Signer, quota, metering and the watcher: they answer what the test asked for in the request itself."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.payments: list[signer.GeneratePayment] = []
        self.messages = 0
        self.usage_asked: list[metering.QueryUsage] = []
        self.meters_asked: list[metering.QueryMeter] = []
        self.closed: list[metering.CloseUsage] = []
        self.signatures_asked: list[signer.SignOrchestratorInfo] = []
        self.redemptions_asked: list[deposit_watcher.ReadRedemptions] = []
        self.limits_set: list[limits.SetLimits] = []
        self._subscriptions: dict[str, Subscription] = {}

    async def serve(self, name: str) -> None:
        self._subscriptions[name] = await self.client.subscribe(f"cmd.{name}.>", cb=self._on_message)
        await self.client.flush()

    async def leave(self, name: str) -> None:
        await self._subscriptions.pop(name).unsubscribe()
        await self.client.flush()

    async def _on_message(self, message: Msg) -> None:
        if message.subject.startswith(signer.GeneratePayments.subject):
            requests = signer.GeneratePayments.model_validate_json(message.data).requests
            self.payments += requests
            self.messages += 1
            for index, request in enumerate(requests):  # one answer a message: the hardest case
                if "hang" in request.body:
                    continue
                answers = signer.PaymentAnswers(answers=[_pay(index, request)])
                await message.respond(answers.model_dump_json().encode())
            return
        reply = self._answer(message.subject, message.data)
        await message.respond(reply.model_dump_json().encode())

    def _answer(self, subject: str, data: bytes) -> Message:  # noqa: C901, PLR0911
        match subject:
            case signer.SignOrchestratorInfo.subject:
                asked_info = signer.SignOrchestratorInfo.model_validate_json(data)
                self.signatures_asked.append(asked_info)
                return signed(asked_info.payer or FIRST_PAYER)
            case signer.ReadSession.subject:
                return _session(signer.ReadSession.model_validate_json(data))
            case limits.ReadLimits.subject | limits.SetLimits.subject:
                return self._limits(subject, data)
            case quota.SetSpendLimit.subject:
                command = quota.SetSpendLimit.model_validate_json(data)
                return _budget(command.account_id, command.spend_limit)
            case quota.ReadPool.subject:
                return _find_pool(quota.ReadPool.model_validate_json(data).payer)
            case quota.ListPools.subject:
                return quota.PoolPage(pools=[_pool(payer) for payer in POOLS])
            case metering.ListSessions.subject:
                return metering.SessionPage(sessions=[])
            case metering.QueryUsage.subject:
                asked = metering.QueryUsage.model_validate_json(data)
                self.usage_asked.append(asked)
                return _usage(asked)
            case metering.QueryMeter.subject:
                asked_meter = metering.QueryMeter.model_validate_json(data)
                self.meters_asked.append(asked_meter)
                return _metered(asked_meter)
            case metering.CloseUsage.subject:
                close = metering.CloseUsage.model_validate_json(data)
                self.closed.append(close)
                return metering.ClosedUsage(account_id=close.account_id, closed_until=close.until)
            case deposit_watcher.ReadRedemptions.subject:
                asked_redemptions = deposit_watcher.ReadRedemptions.model_validate_json(data)
                self.redemptions_asked.append(asked_redemptions)
                return deposit_watcher.RedemptionPage(redemptions=[ORPHAN])
        return Refusal(code="bad_command", message=f"nobody serves {subject}")

    def _limits(self, subject: str, data: bytes) -> limits.LimitsView:
        if subject == limits.ReadLimits.subject:
            return _limits(limits.ReadLimits.model_validate_json(data), limits.Limits(spend_limit_wei=7))
        command = limits.SetLimits.model_validate_json(data)
        self.limits_set.append(command)
        return _limits(command, command.limits)


def signed(payer: str) -> signer.OrchestratorInfoSigned | Refusal:
    """Stand in for a signer that has no key for one of the payers; its address is in upper case."""
    if payer == KEYLESS_PAYER:
        return Refusal(code="payer_unknown", message=f"there is no key of {payer}")
    address = payer.upper().replace("X", "x")
    return signer.OrchestratorInfoSigned(address=address, signature="0x" + "cd" * 65)


def _pay(index: int, request: signer.GeneratePayment) -> signer.PaymentAnswer:
    asked = json.loads(request.body)
    if "refuse" in asked:
        return signer.PaymentRefusedAnswer(
            index=index, reason="told_to", message="told to", **asked["refuse"]
        )
    return signer.PaymentSignedAnswer(index=index, body=json.dumps({"payment": asked.get("name")}))


def _session(asked: signer.ReadSession) -> Message:
    if asked.session_id != f"session-of-{asked.account_id}":
        return Refusal(code="session_not_found", message=f"there is no session {asked.session_id}")
    return signer.SessionView(
        session_id=asked.session_id,
        account_id=asked.account_id,
        user_id=None,
        stream_id="stream-1",
        key_id="keyNumberOne",
        manifest_id="manifest",
        app="",
        job_type="live",
        orchestrator="0x01",
        recipient="0x02",
        closed=False,
        payments=2,
        tickets=3,
        cost_wei=FUNDS,
        allowance_left_wei=5,
        timeline=[signer.TimelineEntry(at=NOW, event="refused", text="402: the limit is reached")],
    )


def _budget(account_id: str, limit: int) -> quota.BudgetView:
    return quota.BudgetView(
        account_id=account_id, spend_limit=limit, spent=3, held=1, remaining=limit - 4, suspended=False
    )


def _limits(scope: limits.Scoped, own: limits.Limits) -> limits.LimitsView:
    limit = own.spend_limit_wei or 0
    row = limits.LimitRow(name="spend_limit_wei", limit=limit, used=3, held=1, remaining=limit - 4)
    return limits.LimitsView(
        **scope.model_dump(include=set(limits.Scoped.model_fields)),
        plan=None,
        time_zone="UTC",
        own=own,
        effective=own,
        rows=[row],
        sessions=0,
        streams=0,
        suspended=False,
    )


def _find_pool(payer: str | None) -> Message:
    if payer is None:
        return Refusal(code="several_pools", message="say which payer's")
    if payer not in POOLS:
        return Refusal(code="pool_not_found", message=f"no funds of payer {payer} were observed")
    return _pool(payer)


def _pool(payer: str) -> quota.PoolView:
    return quota.PoolView(
        payer=payer, deposit=FUNDS, reserve=1, cover=2, exposure=3, held=4, round=5, observed_at=NOW
    )


def _usage(asked: metering.QueryUsage) -> metering.UsagePage:
    group: dict[str, str | None] = {key: f"{key}-1" for key in asked.group_by}
    row = metering.UsageRow(group=group, payments=1, tickets=2, cost_wei=FUNDS, ev_wei=4, fee_wei=5)
    return metering.UsagePage(rows=[row])


def _metered(asked: metering.QueryMeter) -> metering.MeterPage:
    group: dict[str, str | None] = {key: f"={key}" for key in asked.group_by}
    row = metering.MeterRow(
        window_start=NOW, window_end=NOW, group=group, value="-1.500", late=2, of=["2031-03", "2031-04"]
    )
    return metering.MeterPage(meter=asked.meter, rows=[row])


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]  # whatever their case
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class World:
    url: str
    operators_url: str
    session: aiohttp.ClientSession
    stand_ins: StandIns
    admin: Client
    log: Path

    async def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: Any = None,
        data: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        sent = {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        if body is not None:
            data = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.url + path, data=data, headers=sent) as response:
            return Answer(response.status, response.headers, await response.text())

    async def manage(self, method: str, path: str, body: Any = None) -> Answer:
        return await self.call(method, path, key=ADMIN_KEY, body=body)

    async def new_key(self, account_id: str, user_id: str | None = None) -> Any:
        """Open the account if need be, and issue a key that works."""
        await self.manage("POST", "/v1/accounts", {"account_id": account_id})
        issued = await self.manage("POST", f"/v1/accounts/{account_id}/keys", {"user_id": user_id})
        assert issued.status == 201, issued.text
        return issued.json

    async def until_status(self, status: int, key: str, path: str = "/v1/me") -> None:
        """Wait at most a second: what was commanded acts at once."""
        async with asyncio.timeout(1):
            while (await self.call("GET", path, key=key)).status != status:
                await asyncio.sleep(0.002)


@asynccontextmanager
async def observed(admin: Client) -> AsyncIterator[None]:
    """Stand in for discovery: one orchestrator was seen."""
    one = Orchestrator(address="https://one.example", capabilities=["live/a"], runners=[])
    seen = OrchestratorsObserved(observed_at_ms=int(NOW.timestamp() * 1000), orchestrators=[one])
    writer = BucketWriter(admin, ORCHESTRATORS)
    writing = asyncio.create_task(writer.run({SNAPSHOT: seen.model_dump_json().encode()}))
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@asynccontextmanager
async def ruled(admin: Client) -> AsyncIterator[None]:
    """Stand in for quota: no rules were set."""
    writing = asyncio.create_task(BucketWriter(admin, limits.RULES).run({}))
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@asynccontextmanager
async def running_edge(
    nats: infra.Nats, dsn: str, slot: Slot, directory: Path, *, knows_orchestrators: bool = True
) -> AsyncIterator[World]:
    admin = await connect("admin", nats.url())
    await provision_accounts(admin)
    await provision_discovery(admin)
    await provision_rules(admin)
    stand_ins = StandIns(admin)
    for name in ("signer", "quota", "metering", "deposit_watcher"):
        await stand_ins.serve(name)
    accounts = {"POSTGRES_DSN": dsn, "NATS_URL": nats.url("accounts"), "CREATE_TABLES": "true"}
    public_port, health_port = slot.port("edge-public"), slot.port("edge")
    edge = {
        "NATS_URL": nats.url("edge"),
        "PUBLIC_PORT": str(public_port),
        "PUBLIC_URL": f"http://127.0.0.1:{public_port}",
        "KEY_PEPPER": PEPPER,
        "ADMIN_KEY_HASHES": hashlib.sha256(ADMIN_KEY.encode()).hexdigest(),
        "PAYMENT_TIMEOUT_SECONDS": "2",
        "HOOK_KEYS": HOOK_KEY,
        "LOG_LEVEL": "debug",
    }
    log = directory / "edge.log"
    async with (
        observed(admin) if knows_orchestrators else nullcontext(),
        ruled(admin),
        service("accounts", slot.port("accounts"), accounts, directory / "accounts.log"),
        service("edge", health_port, edge, log),
        aiohttp.ClientSession() as session,
    ):
        yield World(edge["PUBLIC_URL"], f"http://127.0.0.1:{health_port}", session, stand_ins, admin, log)
    await admin.close()
