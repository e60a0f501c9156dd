"""Decides by its seed what happens next, and lets processes die."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import cast

import psycopg
from eventsourcing.persistence import PersistenceError
from nats.errors import Error as NatsError

from contracts.streams import CONSUMERS, Consumer
from services.deposit_watcher.application import Watching
from services.deposit_watcher.domain.funds import Funds, Observation, Round, RoundClock
from shared.bus import CommandRefusedError, ServiceUnavailableError
from shared.clock import SetClock
from shared.money import Wei
from tests.faults.crashes.books import Books
from tests.faults.crashes.bus import Bus, Message, Published
from tests.faults.crashes.edge import Edge
from tests.faults.crashes.operator import Operator
from tests.faults.crashes.points import Crash, Points
from tests.faults.crashes.services import (
    KEY,
    AccountsProcess,
    Following,
    MeteringProcess,
    Process,
    QuotaProcess,
    RelayProcess,
    Signer,
    Surroundings,
    WatcherProcess,
)
from tests.infra import Database
from tests.quotes import L1_BLOCK, ROUND

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYER = "0x" + KEY.address.hex()
SERVICES: tuple[type[Process], ...] = (Signer, QuotaProcess, MeteringProcess, AccountsProcess, WatcherProcess)
RELAYED = ("signer", "accounts", "deposit_watcher")
BEFORE_TURN = timedelta(seconds=20)
FOLLOWING = tuple(
    consumer
    for consumer in CONSUMERS
    if consumer.service in {"quota", "metering"} and consumer.publisher in RELAYED
)
PASSED_MEANS = (6.0, 10.0, 20.0)  # points a process passes before it dies, in one world or another
FAULT_RATES = (0.0, 0.003, 0.01)  # of the uses of a connection
LOST = 0.08  # of the requests, and of the replies
COMES_AGAIN = 0.15  # of what a consumer was given
SETTLE_STEPS = 8  # of the loop, until everybody waits for the scheduler
DRAIN_ROUNDS = 60

# What a world that is broken for a moment answers.
BROKEN_WORLD = (PersistenceError, psycopg.Error, NatsError, TimeoutError, ServiceUnavailableError)


class Scheduler:
    """One world: the services on empty tables, their clients, and what happens to them."""

    def __init__(self, database: Database, random: Random, books: Books) -> None:
        self.random = random
        self.books = books
        self.counted: Counter[str] = Counter()
        self.clock = SetClock(START)
        self.bus = Bus(random, self._answer)
        self._database = database
        self._deaths: list[Points] = []
        self._cursors: dict[str, int] = defaultdict(int)
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Start the services, fund the pool, open accounts; nothing dies yet."""
        around = Surroundings(self._database, self.bus, self.clock)
        mean, rate = self.random.choice(PASSED_MEANS), self.random.choice(FAULT_RATES)
        self.processes = {kind.name: kind(around, self._points(kind.name, mean, rate)) for kind in SERVICES}
        self.relays = {
            name: RelayProcess(self.processes[name], self._points(f"relay of {name}", mean, 0.0))
            for name in RELAYED
        }
        accounts = cast("AccountsProcess", self.processes["accounts"])
        self.operator = Operator(self.random, self.clock, self._quota, accounts)
        self.edge = Edge(self.random, self.clock, self._signer, self.operator.customers)
        await self.operator.begin()
        self._observe()
        await self._drain_logs()
        self._arm(True)

    async def step(self) -> None:
        """One thing happens, and who died of it is built anew."""
        [action] = self.random.choices(list(self._actions), list(self._actions.values()))
        await self._do(action)

    async def drain(self) -> None:
        """Nothing dies or gets lost any more, everybody leaves: what was held has to come back."""
        self.books.check_all()
        self._arm(False)
        self.bus.losing = False
        for _ in range(DRAIN_ROUNDS):
            await self._drain_bus()
            await self._drain_logs()
            if not self._database_rows("SELECT 1 FROM quota.allowances LIMIT 1"):
                break
            self.clock.advance(timedelta(seconds=130))
            await self._do(self._close)
        self.books.check_end(self.operator.credit(), self.clock.now())

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for process in self.processes.values():
            await process.stop()

    @property
    def tried(self) -> Counter[str]:
        """Crashes and cut connections, by point."""
        return sum((points.crashed + points.faults for points in self._deaths), Counter())

    def _points(self, name: str, mean: float, rate: float) -> Points:
        points = Points(name, self.random, passed_mean=mean, fault_rate=rate)
        points.armed = False
        self._deaths.append(points)
        return points

    def _arm(self, armed: bool) -> None:  # noqa: FBT001
        for points in self._deaths:
            points.armed = armed

    async def _do(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except (Crash, *BROKEN_WORLD):
            self.counted["actions cut short"] += 1
        for _ in range(SETTLE_STEPS):
            await asyncio.sleep(0)
        self.edge.collect(self.books)
        await self._bury()

    async def _bury(self) -> None:
        """Whoever died begins anew, from the store alone; what is there now has to be right."""
        everybody: list[Process | RelayProcess] = [*self.processes.values(), *self.relays.values()]
        died = [process for process in everybody if process.points.dead]
        for process in died:
            await _start_anew(process)
        if died:
            self.books.check()

    # What may happen

    @property
    def _actions(self) -> dict[Callable[[], Awaitable[None]], float]:
        return {
            self.edge.pay: 30,
            self.edge.pay_again: 5 if self.edge.has_sent else 0,
            self._deliver: 40 if self.bus.waiting else 0,
            self._deliver_stale: 3 if self.bus.stale else 0,
            self._relay: 12,
            self._hand: 18,
            self._close: 4,
            self._wait: 6,
            self._turn: 0.4,
            self.operator.change_limits: 4,
            self.operator.change_rate: 0.3,
            self.operator.change_account: 1,
            self.operator.change_key: 0.5,
            self._observe_again: 0.5,
        }

    async def _deliver(self) -> None:
        request = self.random.choice(self.bus.waiting)
        choice = self.random.random()
        if choice < LOST:
            self.bus.lose(request)
        else:
            if choice > 1 - LOST:
                self.bus.stale.append(request)  # a copy comes later
            await self.bus.deliver(request, loses_reply=choice < 2 * LOST)

    async def _deliver_stale(self) -> None:
        """A request arrives whose asker has long gone on."""
        request = self.bus.stale.pop(self.random.randrange(len(self.bus.stale)))
        await self._answer(request.subject, request.data)
        self.counted["requests that came late"] += 1

    async def _relay(self) -> None:
        await self.random.choice(list(self.relays.values())).step()

    async def _hand(self) -> None:
        await self._hand_to(self.random.choice(FOLLOWING), self._some)

    async def _hand_to(
        self, consumer: Consumer, choose: Callable[[list[Published]], list[Published]]
    ) -> None:
        """Give a consumer what is new, or what `choose` makes of it."""
        process = self.processes[consumer.service]
        assert isinstance(process, Following)
        stream = self.bus.streams[consumer.publisher]
        given = choose(stream[self._cursors[consumer.durable] :])
        if self.random.random() >= COMES_AGAIN or not self.bus.losing:
            self._cursors[consumer.durable] = len(stream)  # else they come again
        messages = [Message(each.data, each.headers, process.points) for each in given]
        await process.hand(consumer.durable, messages)

    def _some(self, new: list[Published]) -> list[Published]:
        """What the bus makes of entries: some get lost, come twice, or in another order."""
        choice = self.random.random()
        if choice < 0.1:
            return [each for each in new if self.random.random() < 0.7]
        if choice < 0.2:
            return [each for each in new for _ in range(self.random.randint(1, 2))]
        if choice < 0.3:
            return self.random.sample(new, len(new))
        return new

    async def _close(self) -> None:
        self._spawn(self._quota.closing.close_due())

    async def _wait(self) -> None:
        seconds = self.random.choice((1, 3, 3, 5, 5, 20, 130))
        self.clock.advance(timedelta(seconds=seconds))

    async def _turn(self) -> None:
        """An hour is nearly over: what is leased now turns with it."""
        hour = self.clock.now().replace(minute=0, second=0) + timedelta(hours=1)
        self.clock.advance(max(hour - self.clock.now() - BEFORE_TURN, timedelta(0)))
        self.counted["turns of an hour"] += 1

    async def _observe_again(self) -> None:
        self._observe()

    def _observe(self) -> None:
        """The deposit moves a little."""
        deposit = Wei(10**15 + self.random.randint(0, 10**6))
        observation = Observation(
            chain_id=1,
            block=1,
            block_hash="0x" + "01" * 32,
            l1_block=L1_BLOCK,
            round=Round(ROUND, "0x" + "02" * 32, "0x" + "03" * 32, 2),
            pool_size=100,
            funds_by_payer={PAYER: Funds(deposit, Wei(10**15), 0)},
            round_clock=RoundClock(ROUND, L1_BLOCK, 5760),
        )
        self._watching.observe(observation, self.clock.now())

    # Parts of it

    def _spawn(self, work: Awaitable[object]) -> None:
        """What goes on while other things happen."""

        async def run() -> None:
            with suppress(Crash, CommandRefusedError, *BROKEN_WORLD):
                await work

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, subject: str, data: bytes) -> bytes:
        return await self.processes[subject.split(".")[1]].answer(subject, data)

    async def _drain_bus(self) -> None:
        while self.bus.waiting or self.bus.stale:
            await self._do(self._deliver_surely if self.bus.waiting else self._deliver_stale)

    async def _deliver_surely(self) -> None:
        await self.bus.deliver(self.bus.waiting[0], loses_reply=False)

    async def _drain_logs(self) -> None:
        """Every entry of every log is applied."""
        for relay in self.relays.values():
            await self._do(relay.step)
        for consumer in FOLLOWING:
            for choose in (list, _nothing):  # the second time it asks the log itself
                await self._do(partial(self._hand_to, consumer, choose))

    def _database_rows(self, query: str) -> Sequence[object]:
        return self.books.connection.execute(query.encode()).fetchall()

    @property
    def _signer(self) -> Signer:
        return cast("Signer", self.processes["signer"])

    @property
    def _quota(self) -> QuotaProcess:
        return cast("QuotaProcess", self.processes["quota"])

    @property
    def _watching(self) -> Watching:
        return cast("WatcherProcess", self.processes["deposit_watcher"]).watching


async def _start_anew(process: Process | RelayProcess) -> None:
    """Until it comes up, as a supervisor does."""
    while process.points.dead:
        await process.stop()
        with suppress(PersistenceError):
            process.start()
            return
        process.points.dead = True


def _nothing(_: list[Published]) -> list[Published]:
    return []
