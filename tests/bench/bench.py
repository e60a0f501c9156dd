"""`make bench`: what a payment costs, on the whole system, as JSON lines.

Figures are medians of five within one run; compare within a run, not between machines or days.
"""

import asyncio
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import psycopg
import structlog

from services.signer.application import Signing
from services.signer.deciding import Grant
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.payer import Payer
from services.signer.rules import Limits
from services.signer.state import StateSeal
from shared.money import Wei
from shared.store import postgres_env
from tests.bench.histograms import Histogram, read_histogram
from tests.bench.load import Client, Task
from tests.bench.processes import cpu_seconds
from tests.bench.stops import stop_seconds
from tests.quotes import QuoteMaker, body, chain_view
from tilt.api import call
from tilt.chain import node
from tilt.chain import world as chain_world
from tilt.run import start
from tilt.slot import take
from tilt.supervisor import Supervisor
from tilt.world import Options, World

RUNS = 5
CLIENTS = 64
SECONDS = 5.0
OPEN_SECONDS = 10.0
OPEN_RATE = 100.0
ACCOUNTS = 4
LIMIT_ROUNDS = 40
BATCH = 32
PUBLISHERS = ("accounts", "deposit_watcher", "metering", "quota", "signer")


def say(name: str, value: float, unit: str) -> None:
    write({"name": name, "value": round(value, 3), "unit": unit})


def write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    slot = take(Path(tempfile.gettempdir()) / "clearinghouse-bench")
    slot.wipe()
    world = World(slot, Options(spend_limit_wei=10**18, log_level="warning"))
    world.prepare()
    try:
        async with Supervisor(slot.directory) as supervisor:
            await start(world, supervisor)
            await measure(world, supervisor)
    finally:
        slot.wipe()
        slot.release()


async def measure(world: World, supervisor: Supervisor) -> None:
    keys = [await open_account(world, number) for number in range(ACCOUNTS)]
    chain = await chain_now(world)

    async def load(kind: str, **how: Any) -> dict[str, Any]:
        task = Task(kind=kind, url=world.public_url, api_keys=keys, **{**chain, **how})
        return await run_load(task)

    closed = {"clients": CLIENTS, "seconds": SECONDS, "warm_up_seconds": 1.0}
    await load("warm", **closed)  # warms every cache once; not measured
    limit = limit_payments_per_second(world)
    before, bytes_before = cpu_seconds(supervisor), stored_bytes(world)
    seen_before = await histograms(world)
    warm = [await load("warm", **closed) for _ in range(RUNS)]
    seen = {name: after - seen_before[name] for name, after in (await histograms(world)).items()}
    await settle(world)
    payments = sum(run["statuses"].get("200", 0) for run in warm) + RUNS * CLIENTS * 2
    per_second = statistics.median(run["per_second"] for run in warm)
    say("payments_per_second", per_second, "1/s")
    say("limit_payments_per_second", limit, "1/s")
    say("ratio_to_limit", per_second / limit, "1")
    say("mean_batch_size", seen["batches"].sum / seen["batches"].count, "payments")
    say_grants(seen["grants"], seen["answers"])
    say("bytes_per_payment", (stored_bytes(world) - bytes_before) / payments, "bytes")
    for name, seconds in cpu_seconds(supervisor).items():
        say(f"cpu_us_per_payment_{name}", (seconds - before[name]) / payments * 1e6, "us")
    fresh = [await load("fresh", **closed) for _ in range(RUNS)]
    say("fresh_sessions_per_second", statistics.median(run["per_second"] for run in fresh), "1/s")
    await settle(world)
    latency = {"clients": 2 * CLIENTS, "seconds": OPEN_SECONDS, "warm_up_seconds": 1.0, "rate": OPEN_RATE}
    opened, beside = list[dict[str, Any]](), list[dict[str, Any]]()
    for _ in range(RUNS):
        opened.append(await load("open", **latency))
        async with reading(world):
            beside.append(await load("open", **latency))
    for name, runs in {"payment": opened, "payment_beside_reader": beside}.items():
        for share in ("p50_ms", "p99_ms"):
            say(f"{name}_{share}", statistics.median(run[share] for run in runs), "ms")
    one = Task(kind="warm", url=world.public_url, api_keys=keys, **{**chain, **closed})
    say("stop_to_refusal_ms", await stop_latency(one, world) * 1000, "ms")
    for run in [*warm, *fresh, *opened, *beside]:
        if set(run["statuses"]) - {"200", "480"}:
            write({"name": "unexpected_statuses", "value": run["statuses"]})


def account_name(number: int) -> str:
    return f"bench-{number}"


async def open_account(world: World, number: int) -> str:
    accounts, account_id = f"{world.public_url}/v1/accounts", account_name(number)
    await call("POST", accounts, key=world.admin_key, body={"account_id": account_id})
    issued = await call("POST", f"{accounts}/{account_id}/keys", key=world.admin_key, body={})
    return str(issued["api_key"])


async def chain_now(world: World) -> dict[str, Any]:
    """The head and the round, so that made-up quotes are current."""
    from tilt.chain.local_chain import LocalChain  # noqa: PLC0415 (web3 is slow to import)

    made = chain_world.load(world.chain_directory)
    assert made is not None
    block = await asyncio.to_thread(node.request, world.rpc_url, "eth_blockNumber")
    current = await asyncio.to_thread(LocalChain(world.rpc_url, made).current_round)
    return {"l1_block": int(block, 16), "round": current.number, "round_hash": current.block_hash.hex()}


async def run_load(task: Task) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(json.dumps(asdict(task)).encode()), 120)
    result: dict[str, Any] = json.loads(output)
    return result


async def histograms(world: World) -> dict[str, Histogram]:
    """What the edge and the signer have observed: payments answered, their batches, asks of quota."""

    def read() -> dict[str, Histogram]:
        signer, edge = world.health_url("signer"), world.health_url("edge")
        return {
            "batches": read_histogram(signer, "clearinghouse_batch_size", "payments"),
            "grants": read_histogram(signer, "clearinghouse_request_seconds", "allowance"),
            "answers": read_histogram(edge, "clearinghouse_request_seconds", "/generate-live-payment"),
        }

    return await asyncio.to_thread(read)


def say_grants(grants: Histogram, answers: Histogram) -> None:
    """What waiting for allowances costs: `share` is of all the time that payments took at the edge."""
    say("grants_per_payment", grants.count / answers.count, "1")
    say("grant_p50_ms", grants.quantile(0.5) * 1000, "ms")
    say("grant_p99_ms", grants.quantile(0.99) * 1000, "ms")
    say("grant_share_of_payment", grants.sum / answers.sum, "1")


@asynccontextmanager
async def reading(world: World) -> AsyncIterator[None]:
    """Meanwhile somebody reads the whole log over HTTP, again and again, as fast as it comes."""
    task = asyncio.create_task(_read_log(world))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _read_log(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.admin_key}"}
    async with aiohttp.ClientSession(world.public_url, headers=headers) as http:
        while True:
            page: dict[str, Any] = {"at_end": False}
            while not page["at_end"]:
                params = {"limit": "500", **({"after": page["next"]} if "next" in page else {})}
                async with http.get("/v1/events", params=params) as answer:
                    answer.raise_for_status()
                    page = await answer.json()


async def stop_latency(task: Task, world: World) -> float:
    """The median of some stops of the first account, in seconds."""
    client = Client(task, 0, Counter())
    await client.connect()
    stops = f"{world.public_url}/v1/stops"
    return statistics.median(
        [
            await stop_seconds(client, stops_url=stops, admin_key=world.admin_key, account_id=account_name(0))
            for _ in range(RUNS)
        ]
    )


def stored_bytes(world: World) -> int:
    """Everything all services have on disk in PostgreSQL, indexes included."""
    query = (
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ANY(%s) AND c.relkind = 'r'"
    )
    with psycopg.connect(world.dsn()) as connection:
        row = connection.execute(query, (list(PUBLISHERS),)).fetchone()
    assert row is not None
    return int(row[0])


async def settle(world: World) -> None:
    """Wait until the readers of the signer's log have caught up."""
    query = (
        "SELECT (SELECT max(notification_id) FROM signer.signer_events WHERE topic = 'signer.payment_signed')"
        " <= (SELECT least(q.position, m.position) FROM quota.positions q, metering.positions m"
        " WHERE q.reader = 'quota-follow-spend' AND m.reader = 'metering-record-usage')"
    )
    began = perf_counter()
    with psycopg.connect(world.dsn(), autocommit=True) as connection:
        while perf_counter() - began < 60:
            row = connection.execute(query).fetchone()
            if row is not None and row[0]:
                say("readers_caught_up_after", perf_counter() - began, "s")
                return
            await asyncio.sleep(0.1)
    say("readers_not_caught_up_after", 60, "s")


def limit_payments_per_second(world: World) -> float:
    """The same work in one process without bus and HTTP: decide, sign, save 32 at a time."""
    now = datetime.now(UTC)
    with psycopg.connect(world.dsn(), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS bench")
    signing = Signing(
        [Payer(LocalKey(b"\x11" * 32), lambda: chain_view(now))],
        StateSeal([b"k" * 32]),
        Limits(),
        postgres_env(world.dsn(), "bench", create_tables=True),
    )
    try:
        return statistics.median(_limit_run(signing, now) for _ in range(RUNS))
    finally:
        signing.close()


def _limit_run(signing: Signing, now: datetime) -> float:
    quotes = [QuoteMaker(now, price_per_unit=1000, ev=1000, face_value=10**6).text() for _ in range(BATCH)]

    def request(number: int, state: Mapping[str, str] | None) -> PaymentRequest:
        return PaymentRequest("bench", "key", None, None, body(quotes[number], state=state, app="bench"))

    requests = [request(number, None) for number in range(BATCH)]
    grants = {number: Grant(1, Wei(10**15)) for number in range(BATCH)}
    replies = signing.sign_all(requests, now, grants)
    seconds = 0.0
    for step in range(LIMIT_ROUNDS):
        states = [json.loads(reply)["state"] for reply in replies if isinstance(reply, str)]
        requests = [request(number, state) for number, state in enumerate(states)]
        began = perf_counter()
        replies = signing.sign_all(requests, now + timedelta(seconds=step + 1))
        seconds += perf_counter() - began
    assert all(isinstance(reply, str) for reply in replies)
    return LIMIT_ROUNDS * BATCH / seconds


if __name__ == "__main__":
    asyncio.run(main())
