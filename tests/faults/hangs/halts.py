"""One halt under load: what clients saw of it, what it took, and how soon all was normal again."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.acceptance.checks import settled
from tests.acceptance.signer_log import TicketId
from tests.acceptance.system import System
from tests.acceptance.wire import Payer
from tests.faults.hangs.clients import Newcomers, Observed, Operator, PayingClient, Timed
from tests.faults.hangs.halting import halted
from tests.faults.hangs.resources import Resources, Watch
from tilt.supervisor import Supervisor
from tilt.world import World

CLIENTS = 6
SPEND_LIMIT_WEI = 10**17
START_SECONDS = 30.0
RECOVERY_SECONDS = 60.0  # given up then
PROBE_SECONDS = 0.2
SILENT_PROBES = 3  # Kubernetes' default
PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2)
SERVED = frozenset({200, 429, 480, 482, 503})  # what a client may see while a part of us is away
RETRIED = frozenset({429, 503})
PLAIN = ("discovery", "provisioner")  # processes without replicas

# Bounds of what is recorded.
ANSWER_SECONDS = 2.0
NORMAL_SECONDS = 5.0
THREADS_MAX = 64
FILES_MORE_MAX = 200
MEMORY_MORE_KIB_MAX = 64 * 1024
BACKENDS_MAX = 190  # of 200 that the server takes


@dataclass(frozen=True)
class Halt:
    """What is halted at once."""

    name: str
    processes: Sequence[str]


@dataclass
class Outcome:
    """What came of a halt; times in seconds."""

    halt: Halt
    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)  # of answers while it was halted
    unanswered: int = 0
    longest: float = 0.0
    longest_path: str = ""
    payments: int = 0
    normal_in: float = 0.0  # what it took to see that all is normal, before
    normal_after: float = 0.0  # for clients and operators
    ready_after: float = 0.0  # each process, also those that were restarted
    lag: float = 0.0  # of this machine, which all times have in them
    restarted: list[str] = field(default_factory=list)
    not_ready: set[str] = field(default_factory=set)
    first: dict[str, Resources] = field(default_factory=dict)
    most: dict[str, Resources] = field(default_factory=dict)
    backends: int = 0
    faults: list[str] = field(default_factory=list)  # wrong on any machine
    excesses: list[str] = field(default_factory=list)  # above a bound, which a busy machine may explain

    @property
    def violations(self) -> list[str]:
        return [*self.faults, *self.excesses]

    def row(self) -> str:
        threads = max(used.threads for used in self.most.values())
        memory = max(self.most[name].memory_kib - self.first[name].memory_kib for name in self.most)
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"| {self.halt.name} | {self.seconds:.0f} s | {self.payments} | {statuses}"
            f"{f', none: {self.unanswered}' if self.unanswered else ''} | {self.longest:.2f} s"
            f" {self.longest_path} | {self.lag:.2f} s | {self.normal_in:.1f} s | {self.normal_after:.1f} s"
            f" | {self.ready_after:.1f} s | {', '.join(self.restarted)} | {threads}"
            f" | {memory / 1024:+.0f} MiB | {self.backends} | {', '.join(sorted(self.not_ready))} |"
        )


HEADER = (
    "| halted | for | payments | answers | longest | lag | normal in, before | normal after | ready after"
    " | restarted | threads | memory | backends | not ready |\n" + "|---" * 14 + "|"
)


def matrix(world: World) -> list[Halt]:
    """Every dependency and each of our processes, one replica and both."""
    replicated = ("signer", "quota", "accounts", "metering", "signer-relay", "deposit_watcher")
    halts = [Halt(name, [name]) for name in ("postgres", "nats", "anvil", *PLAIN, "edge")]
    for name in replicated:
        replicas = world.replicas_of(name)
        halts.append(Halt(f"{name}, one of two", replicas[:1]))
        halts.append(Halt(f"{name}, both", replicas))
    return halts


def processes(world: World) -> list[str]:
    """All of ours."""
    replicated = ("edge", "signer", "quota", "accounts", "metering", "signer-relay", "deposit_watcher")
    return [*PLAIN, *(replica for name in replicated for replica in world.replicas_of(name))]


class Load:
    """Clients of one account at all edges, and what they saw."""

    def __init__(self, world: World, supervisor: Supervisor, http: aiohttp.ClientSession) -> None:
        self.timed: list[Timed] = []
        self.system = System(world, supervisor, http)
        self._views = [Observed(world, supervisor, http, self.timed, edge) for edge in range(CLIENTS)]
        self.clients: list[PayingClient] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.account = await self.system.open_account(SPEND_LIMIT_WEI)
        self.clients = [PayingClient(Payer(view, self.account)) for view in self._views]
        self.newcomers = Newcomers(Payer(self._views[0], self.account))
        self.operator = Operator(self._views[1], self.account)
        runs = [*(client.run() for client in self.clients), self.newcomers.run(), self.operator.run()]
        self.tasks = [asyncio.create_task(run) for run in runs]
        await self.until_served(seconds=START_SECONDS)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def until_served(self, *, seconds: float) -> bool:
        """Until each session and a new one were paid for, and all can be read; False if never."""
        wanted = [client.payments + 2 for client in self.clients]
        reader = Operator(self.system, self.account, pause_seconds=0)
        newcomers = Newcomers(Payer(self.system, self.account))
        try:
            async with asyncio.timeout(seconds):
                while not all(c.payments >= least for c, least in zip(self.clients, wanted, strict=True)):
                    self.check_running()
                    await asyncio.sleep(PROBE_SECONDS)
                while not (await newcomers.open_one() and await reader.look()):
                    await asyncio.sleep(PROBE_SECONDS)
        except TimeoutError:
            return False
        finally:
            self.newcomers.receipts |= newcomers.receipts
        return True

    def check_running(self) -> None:
        for task in self.tasks:
            if task.done():
                task.result()

    @property
    def receipts(self) -> dict[TicketId, bytes]:
        all_of_them = [client.receipts for client in self.clients]
        return {t: s for some in [*all_of_them, self.newcomers.receipts] for t, s in some.items()}

    @property
    def problems(self) -> list[str]:
        return [*(p for client in self.clients for p in client.problems), *self.newcomers.problems]


@asynccontextmanager
async def load(world: World, supervisor: Supervisor) -> AsyncIterator[Load]:
    connector = aiohttp.TCPConnector(limit=0, ssl=False)  # orchestrators sign their certificates themselves
    async with aiohttp.ClientSession(connector=connector) as http:
        running = Load(world, supervisor, http)
        try:
            await running.start()
            yield running
        finally:
            await running.stop()


async def try_halt(running: Load, halt: Halt, seconds: float, *, compares: bool = True) -> Outcome:
    """Halt, look on, let go, and wait until all is normal; then judge.

    `compares` with how long it takes before to see that all is normal; else that counts as nothing.
    """
    system = running.system
    watch = Watch(system.supervisor, processes(system.world))
    outcome = Outcome(halt, seconds)
    paid = sum(client.payments for client in running.clients)
    if compares:
        began = time.monotonic()
        if not await running.until_served(seconds=RECOVERY_SECONDS):
            outcome.faults.append(f"{halt.name}: not normal before")
        outcome.normal_in = time.monotonic() - began
    restarts = {name: system.supervisor.restarts(name) for name in processes(system.world)}
    probing = (watch.run(), watch.feel(), _probe(running, halt, outcome, restarts))
    probes = [asyncio.create_task(probe) for probe in probing]
    halted_at = time.monotonic()
    try:
        with halted(system.supervisor, halt.processes):
            await asyncio.sleep(seconds)
        released_at = time.monotonic()
        outcome.payments = sum(client.payments for client in running.clients) - paid
        if not await running.until_served(seconds=RECOVERY_SECONDS):
            outcome.faults.append(f"{halt.name}: not normal after {RECOVERY_SECONDS:g} s")
        outcome.normal_after = time.monotonic() - released_at
        await _until_ready(system, released_at + RECOVERY_SECONDS)
        outcome.ready_after = time.monotonic() - released_at
    finally:
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
    outcome.first, outcome.most, outcome.backends = watch.first, watch.most, watch.most_backends
    outcome.lag = watch.lag
    outcome.restarted = [name for name, count in restarts.items() if system.supervisor.restarts(name) > count]
    _judge(running, outcome, halted_at)
    return outcome


async def check_books(running: Load) -> list[str]:
    """What is wrong with what was signed, released and booked; nothing, one hopes."""
    await running.stop()
    system, account = running.system, running.account
    wrong = [f"a client was told to stop: {problem}" for problem in running.problems]
    try:
        await settled(system, account, seconds=RECOVERY_SECONDS)
    except AssertionError as problem:
        wrong.append(f"the books do not agree: {problem} {getattr(problem, '__notes__', '')}")
    signed = (await system.log()).of(account.account_id).tickets()
    lost = [ticket for ticket, signature in running.receipts.items() if signed.get(ticket) != signature]
    if lost:
        wrong.append(f"{len(lost)} tickets in hand are not what is in the log, such as {lost[0]}")
    return wrong


def _judge(running: Load, outcome: Outcome, halted_at: float) -> None:
    """Only what was sent since the halt counts."""
    name, world = outcome.halt.name, running.system.world
    silent = {
        url for edge, url in zip(world.replicas_of("edge"), world.public_urls, strict=True)
        if edge in outcome.halt.processes
    }  # fmt: skip
    for timed in running.timed:
        if timed.at < halted_at:
            continue
        if timed.status == 0:
            outcome.unanswered += 1
            if timed.edge not in silent:
                outcome.faults.append(f"{name}: {timed.path} was not answered")
            continue
        outcome.statuses[timed.status] += 1
        if timed.seconds > outcome.longest and timed.edge not in silent:
            outcome.longest, outcome.longest_path = timed.seconds, timed.path
        if timed.status not in SERVED and not (timed.status == 401 and "unknown" in timed.text):
            outcome.faults.append(f"{name}: {timed.path} was answered {timed.status} {timed.text}")
        if timed.status in RETRIED and not timed.says_when:
            outcome.faults.append(f"{name}: {timed.path}: {timed.status} without Retry-After")
    outcome.excesses += _too_much(outcome)
    running.timed.clear()


def _too_much(outcome: Outcome) -> list[str]:
    """What is above its bound: times and resources."""
    name, found = outcome.halt.name, []
    if outcome.longest - outcome.lag > ANSWER_SECONDS:
        found.append(f"{name}: an answer took {outcome.longest:.2f} s ({outcome.longest_path})")
    if outcome.normal_after - outcome.normal_in > NORMAL_SECONDS:
        found.append(f"{name}: normal after {outcome.normal_after:.1f} s")
    if outcome.backends > BACKENDS_MAX:
        found.append(f"{name}: {outcome.backends} connections at PostgreSQL")
    for process, most in outcome.most.items():
        first = outcome.first[process]
        if most.threads > THREADS_MAX:
            found.append(f"{name}: {process} had {most.threads} threads")
        if most.files - first.files > FILES_MORE_MAX:
            found.append(f"{name}: {process} had {most.files} files open, {first.files} before")
        if most.memory_kib - first.memory_kib > MEMORY_MORE_KIB_MAX:
            found.append(f"{name}: {process} grew from {first.memory_kib} KiB to {most.memory_kib}")
    return found


async def _probe(running: Load, halt: Halt, outcome: Outcome, restarts: dict[str, int]) -> None:
    """Ask who is not halted whether it lives and is ready.

    A liveness probe does not fail three times in a row, as that would have the process killed,
    unless it has ended by itself, as holders of a lease do.
    """
    world, supervisor = running.system.world, running.system.supervisor
    silent: Counter[str] = Counter()
    asked = [process for process in processes(world) if process not in halt.processes]
    while True:
        for process in asked:
            await asyncio.sleep(PROBE_SECONDS / len(asked))
            url = world.health_url(process)
            if await _status(running.system, f"{url}/readyz") != 200:
                outcome.not_ready.add(process)
            silent[process] += 1
            if await _status(running.system, f"{url}/livez") == 200 or not supervisor.pid(process):
                silent[process] = 0
            if silent[process] == SILENT_PROBES and supervisor.restarts(process) == restarts[process]:
                outcome.excesses.append(f"{halt.name}: {process} did not answer /livez")


async def _until_ready(system: System, deadline: float) -> None:
    for process in processes(system.world):
        while await _status(system, f"{system.world.health_url(process)}/readyz") != 200:
            assert time.monotonic() < deadline, f"{process} does not become ready"
            await asyncio.sleep(PROBE_SECONDS)


async def _status(system: System, url: str) -> int:
    try:
        async with system.http.get(url, timeout=PROBE_TIMEOUT) as answer:
            return answer.status
    except (OSError, aiohttp.ClientError):
        return 0
