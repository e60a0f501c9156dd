"""The services, each as one process that may die and is then built anew from its store."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, cast

from faststream import ContextRepo
from nats.aio.client import Client as NatsClient

from contracts.credit import GrantCredit, VoidCredit
from contracts.limits import AssignPlan, SetLimits, SetPlan, SetTimeZone
from contracts.message import Command, Message, ReadLog, read_log_subject
from contracts.quota import GrantAllowances
from contracts.signer import CloseSessions
from services.accounts.application import Accounts
from services.accounts.directory import PostgresDirectory
from services.accounts.outbox import AccountsOutbox
from services.deposit_watcher.application import Watching
from services.deposit_watcher.outbox import WatchingOutbox
from services.metering import app as metering_app
from services.metering.application import Metering
from services.metering.entries import PUBLISHER, READS
from services.metering.handlers import recording
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.quota import app as quota_app
from services.quota import handlers as quota_handlers
from services.quota import limit_handlers
from services.quota.application import Quota
from services.quota.closing import Closing
from services.quota.domain.budget import Budget
from services.quota.domain.pool import Pool
from services.quota.domain.sub_budget import SubBudget
from services.quota.limiting import Limiting
from services.quota.outbox import QuotaOutbox
from services.quota.together import Together
from services.signer import handlers as signer_handlers
from services.signer.application import Signing
from services.signer.domain.session import PaymentSession
from services.signer.handlers import Payments
from services.signer.keys import LocalKey
from services.signer.outbox import SignerOutbox
from services.signer.payer import Payer
from services.signer.rules import Limits
from services.signer.state import StateSeal
from shared.bus import Answering
from shared.clock import SetClock
from shared.inbox import Inbox
from shared.log import PublicLog
from shared.money import Wei
from shared.positions import Positions
from shared.store import EventSourced
from tests.faults.crashes.bus import Bus, Client, Consumption, Published
from tests.faults.crashes.points import Crash, Points
from tests.faults.crashes.store import environment
from tests.infra import Database
from tests.quotes import chain_view

KEY = LocalKey(b"\x11" * 32)
SEAL = b"k" * 32
IDLE_SECONDS, RETRY_SECONDS = 120, 5
DEFAULT_LIMIT = Wei(20_000)
STEP_SECONDS = 60.0  # what a step of an inbox may take on a busy machine

LOOK_SECONDS = 0.0003

LIMITING: dict[type[Command], Callable[..., Message]] = {
    SetLimits: limit_handlers.set_limits,
    SetPlan: limit_handlers.set_plan,
    AssignPlan: limit_handlers.assign_plan,
    SetTimeZone: limit_handlers.set_time_zone,
    GrantCredit: limit_handlers.grant_credit,
    VoidCredit: limit_handlers.void_credit,
}

type Handler = Callable[[bytes], Awaitable[Message] | Message]


@dataclass(frozen=True)
class Surroundings:
    """What a process finds outside of itself."""

    database: Database
    bus: Bus
    clock: SetClock


class Process:
    """One process of a service. `start` builds everything from the store; nothing else is kept."""

    name: ClassVar[str]

    def __init__(self, around: Surroundings, points: Points) -> None:
        self.around = around
        self.points = points
        self.env = environment(around.database, self.name, points)
        self.handlers: dict[str, Handler] = {}
        self.start()

    def start(self) -> None:
        self.points.begin()
        self.client = Client(self.around.bus, self.points)
        self.build()
        self.env = {**self.env, "CREATE_TABLE": "n"}

    def build(self) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        """Let go of what waited for others; it is as good as dead."""
        self.points.dead = True
        self.around.bus.forget(self.client)

    async def answer(self, subject: str, data: bytes) -> bytes:
        """The reply to a command, as the bus would get it."""

        async def handle(_: object) -> Any:
            answered = self.handlers[subject](data)
            return answered if isinstance(answered, Message) else await answered

        answering = Answering(None, context=ContextRepo())
        where = SimpleNamespace(raw_message=SimpleNamespace(subject=subject))
        reply = await answering.consume_scope(handle, where)
        self.points.reach("before the reply")
        return cast("bytes", reply.model_dump_json().encode())

    def serve_log(self, public_log: PublicLog) -> None:
        self.public_log = public_log
        if self.env["CREATE_TABLE"] == "y":
            public_log.create_tables()

        def read(data: bytes) -> Message:
            return public_log.read(ReadLog.model_validate_json(data))

        self.handlers[read_log_subject(self.name)] = read


class Key:
    """The payer's key, and the moments around its use."""

    address = KEY.address

    def __init__(self, points: Points) -> None:
        self._points = points

    def sign(self, digest: bytes) -> bytes:
        self._points.reach("before signing")
        signature = KEY.sign(digest)
        self._points.reach("after signing")
        return signature


class OftenKept(Signing):
    """Sessions are restored from a snapshot nearly each time."""

    name = "signer"
    snapshotting_intervals: ClassVar = {PaymentSession: 7}


class Signer(Process):
    name = "signer"

    def build(self) -> None:
        around = self.around
        payer = Payer(Key(self.points), lambda: chain_view(around.clock.now()))
        self.signing = OftenKept([payer], StateSeal([SEAL]), Limits(), self.env)
        self.serve_log(PublicLog(self.signing, SignerOutbox(self.signing)))
        self.released: list[tuple[str, bytes]] = []
        self.payments = Payments(
            self.signing, cast("Any", self), cast("NatsClient", self.client), around.clock, 2.0
        )
        self.handlers[CloseSessions.subject] = self._close

    async def publish(self, data: bytes, reply_to: str) -> None:
        """Answers leave: what is in them is out in the world."""
        self.points.reach("before the reply")
        self.released.append((reply_to, data))
        self.points.reach("after the reply")

    async def _close(self, data: bytes) -> Message:
        command = CloseSessions.model_validate_json(data)
        return await signer_handlers.close_sessions(command, self.signing, self.around.clock)


class Following(Process):
    """A process that follows logs."""

    def follow(self, inboxes: Sequence[Inbox]) -> None:
        self.inboxes = [asyncio.ensure_future(inbox.run()) for inbox in inboxes]

    async def hand(self, durable: str, messages: Sequence[Any]) -> None:
        """Let an inbox take a step, and wait until it is through or its process died."""
        consumption = await self._idle(durable)
        consumption.hand(messages)
        await self._idle(durable)

    async def _idle(self, durable: str) -> Consumption:
        async with asyncio.timeout(STEP_SECONDS):
            while True:
                for inbox in self.inboxes:
                    if inbox.done():
                        inbox.result()
                consumption = self.client.consumers.get(durable)
                if consumption is not None and consumption.idle.is_set():
                    return consumption
                await asyncio.sleep(0 if consumption is None else LOOK_SECONDS)

    async def stop(self) -> None:
        await super().stop()
        for inbox in self.inboxes:
            inbox.cancel()
        for inbox in self.inboxes:
            with suppress(asyncio.CancelledError, Crash):
                await inbox


class OftenKeptQuota(Quota):
    """Budgets and pools are restored from a snapshot nearly each time."""

    name = "quota"
    snapshotting_intervals: ClassVar = {Budget: 9, Pool: 11, SubBudget: 7}


class ClosingNow(Closing):
    async def close_due(self) -> int:
        """What the service does five times a second."""
        due = self._due()
        if due:
            await self._close(due)
        return len(due)


class QuotaProcess(Following):
    name = "quota"

    def build(self) -> None:
        self.quota = OftenKeptQuota(DEFAULT_LIMIT, self.env)
        if self.env["CREATE_TABLE"] == "y":
            Positions(self.quota).create_tables()
            self.quota.create_tables()
        self.serve_log(PublicLog(self.quota, QuotaOutbox(self.quota)))
        client = cast("NatsClient", self.client)
        self.closing = ClosingNow(
            self.quota.allowances,
            client,
            self.around.clock,
            idle_seconds=IDLE_SECONDS,
            retry_seconds=RETRY_SECONDS,
        )
        self.grants = Together(self.quota.grant_all, most=quota_app.ASKS_TOGETHER)
        self.handlers[GrantAllowances.subject] = self._grant
        for kind, handle in LIMITING.items():
            self.handlers[kind.subject] = partial(self._limit, kind, handle)
        self.follow(quota_app.inboxes(self.quota, client))

    def _grant(self, data: bytes) -> Message:
        command = GrantAllowances.model_validate_json(data)
        return quota_handlers.grant_allowances(command, self.grants, self.around.clock)

    def _limit(self, kind: type[Command], handle: Callable[..., Message], data: bytes) -> Message:
        return handle(kind.model_validate_json(data), Limiting(self.quota), self.around.clock)

    def credit(self, account_id: str) -> dict[str, Any]:
        """What it says of an account's credit."""
        return Limiting(self.quota).credit(account_id, self.around.clock.now()).model_dump()


class MeteringProcess(Following):
    name = "metering"

    def build(self) -> None:
        metering = Metering(usage_tables(self.name), self.env)
        self.serve_log(PublicLog(metering, MeteringOutbox(metering)))
        if self.env["CREATE_TABLE"] == "y":
            metering_app.make_tables(metering, self.public_log)
        apply = recording(metering, self.around.clock)
        client = cast("NatsClient", self.client)
        self.follow([Inbox(metering_app.CONSUMERS_BY_PUBLISHER[PUBLISHER], client, metering, apply, READS)])


class AccountsProcess(Process):
    name = "accounts"

    def build(self) -> None:
        self.accounts = Accounts(self._directory, self.env)
        self.serve_log(PublicLog(self.accounts, AccountsOutbox(self.accounts.mapper)))

    def _directory(self, application: EventSourced) -> PostgresDirectory:
        directory = PostgresDirectory(application)
        if self.env["CREATE_TABLE"] == "y":
            directory.create_tables()
        return directory


class WatcherProcess(Process):
    name = "deposit_watcher"

    def build(self) -> None:
        self.watching = Watching(self.env)
        self.serve_log(PublicLog(self.watching, WatchingOutbox(self.watching)))


class RelayProcess:
    """Publishes a service's log as relays do, and may die by itself; the mark outlives it.

    The pages are the log's own. The relay of `shared` needs NATS, and is killed in the kill matrix.
    """

    def __init__(self, publisher: Process, points: Points) -> None:
        self.publisher = publisher
        self.points = points
        self._mark = 0
        self.start()

    def start(self) -> None:
        self.points.begin()
        self._position = self._mark

    async def step(self) -> None:
        self.points.reach("before it reads the log")
        page = self.publisher.public_log.read(ReadLog(after=self._position))
        stream = self.publisher.around.bus.streams[self.publisher.name]
        for entry in page.entries:
            self.points.reach("before a publish")
            stream.append(Published(entry.model_dump_json().encode(), None))
            self._position = entry.position
        self.points.reach("between publish and mark")
        self._mark = self._position

    async def stop(self) -> None:
        """Nothing of it is left."""
