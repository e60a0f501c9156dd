"""A day of pushed usage, from HTTP batches to queryable hours, and told again by the log: figures as JSON.

python -m tests.bench.bench_events [events]

A batch is answered once its records, keys and sums are committed, so the rate of answers is the rate of
queryable usage. Client, edge, metering and PostgreSQL share the machine: the CPU of each by event says
what bounds the rate. Queries are asked over HTTP one after the other, by an account or the house.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from services.metering.replay import replay
from tests.bench.bench import account_name, open_account, write
from tests.bench.processes import cpu_seconds
from tilt.api import call
from tilt.run import start
from tilt.slot import take
from tilt.supervisor import Supervisor
from tilt.world import Options, World

EVENTS = 1_000_000
BATCH = 500
ACCOUNTS, CLIENTS = 20, 4
USERS, MODELS, REGIONS = 30, 5, 3
PROCESSES = ("edge", "metering", "postgres", "nats")
METERS: dict[str, dict[str, Any]] = {
    "tokens": {"aggregation": "sum", "value": "tokens", "group_by": ["model", "region"]},
    "busy": {"aggregation": "time", "value": "seconds", "group_by": ["model"]},
    "models": {"aggregation": "unique", "value": "model"},
}
QUERIES = {
    "account, day": "tokens",
    "account, day by hours": "tokens&window=hour",
    "account, day by hours and model": "tokens&window=hour&group_by=model",
    "account, day by user": "tokens&group_by=user",
    "account, day by user and region": "tokens&group_by=user&group_by=region",
    "account, day, models there were by hours": "models&window=hour",
    "house, day by account": "tokens&group_by=account",
    "house, day by hours and model": "busy&window=hour&group_by=model",
}
TIMES = 200
HEADERS = {"Content-Type": "application/cloudevents-batch+json"}


def batch(number: int, begin: datetime, step: timedelta) -> bytes:
    """The events of one batch: a stretch of the day, of many users."""
    first = number * BATCH
    return (
        "[" + ",".join(_event(each, begin + each * step) for each in range(first, first + BATCH)) + "]"
    ).encode()


def _event(number: int, at: datetime) -> str:
    return (
        f'{{"specversion":"1.0","id":"job-{number}","source":"bench","type":"job.run","time":"{at.isoformat()}",'
        f'"subject":"user-{number % USERS}","data":{{"tokens":{number % 977}.25,"seconds":{number % 60},'
        f'"model":"model-{number % MODELS}","region":"region-{number % REGIONS}"}}}}'
    )


async def push(world: World, keys: list[str], events: int) -> Counter[str]:
    """Push all, some at a time; return how many events there are of each status."""
    statuses: Counter[str] = Counter()
    begin, step = datetime.now(UTC) - timedelta(days=1), timedelta(days=1) / events
    numbers = iter(range(events // BATCH))

    async def client(http: aiohttp.ClientSession) -> None:
        for number in numbers:
            headers = {**HEADERS, "Authorization": f"Bearer {keys[number % len(keys)]}"}
            body = batch(number, begin, step)
            async with http.post("/v1/usage/events", data=body, headers=headers) as answer:
                told = await answer.json()
                statuses.update(
                    [each["status"] for each in told["events"]] if answer.ok else [str(answer.status)]
                )

    async with aiohttp.ClientSession(world.public_url) as http:
        await asyncio.gather(*(client(http) for _ in range(CLIENTS)))
    return statuses


async def ask(world: World, keys: list[str]) -> None:
    """Ask each query many times; each account has its turn."""
    async with aiohttp.ClientSession(world.public_url) as http:
        for kind, query in QUERIES.items():
            taken = list[float]()
            for number in range(TIMES):
                account = account_name(number % ACCOUNTS)
                key = keys[number % ACCOUNTS] if kind.startswith("account") else world.admin_key
                path = f"/v1/accounts/{account}/usage" if kind.startswith("account") else "/v1/usage"
                headers = {"Authorization": f"Bearer {key}"}
                began = time.perf_counter()
                async with http.get(f"{path}?meter={query}", headers=headers) as answer:
                    rows = (await answer.json())["usage"]
                taken.append(1000 * (time.perf_counter() - began))
            p50, p99 = (statistics.quantiles(taken, n=100)[share - 1] for share in (50, 99))
            write({"bench": kind, "rows": len(rows), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1)})


async def measure(world: World, supervisor: Supervisor, events: int) -> None:
    keys = [await open_account(world, number) for number in range(ACCOUNTS)]
    for name, told in METERS.items():
        meter = {"event_type": "job.run", **told}
        await call("PUT", f"{world.public_url}/v1/meters/{name}", key=world.admin_key, body=meter)
    before, began, client = cpu_seconds(supervisor), time.perf_counter(), time.process_time()
    statuses = await push(world, keys, events)
    seconds, client = time.perf_counter() - began, time.process_time() - client
    after = cpu_seconds(supervisor)
    cpu = {name: round((after[name] - before[name]) / events * 1e6, 1) for name in PROCESSES}
    write(
        {
            "bench": "events",
            "statuses": statuses,
            "events_per_second": round(events / seconds),
            "cpu_us_per_event": {"client": round(client / events * 1e6, 1), **cpu},
        }
    )
    await ask(world, keys)
    for action in (replay.verify, replay.rebuild):
        report = await asyncio.to_thread(action, world.dsn("metering"), lambda _: None)
        rate = round(events / report.seconds)
        write({"bench": f"replay {report.action}", "records_per_second": rate, "differing": report.differing})


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    slot = take(Path(tempfile.gettempdir()) / "clearinghouse-bench")
    slot.wipe()
    world = World(slot, Options(log_level="warning"))
    world.prepare()
    try:
        async with Supervisor(slot.directory) as supervisor:
            await start(world, supervisor)
            await measure(world, supervisor, events)
    finally:
        slot.wipe()
        slot.release()


if __name__ == "__main__":
    asyncio.run(main())
