"""What grants cost under limits, and the rules of many accounts their writer and a reader: figures as JSON.

python -m tests.bench.bench_limits [--accounts 100000]
"""

import argparse
import asyncio
import gc
import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from nats.js.api import KeyValueConfig

from contracts.deposit_watcher import FundsObserved
from contracts.limits import RULES, Rules, RulesEntry, Scoped, scope_entry
from contracts.message import LogEntry
from services.quota.application import Quota
from services.quota.domain.granting import Ask
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.spending import Rate
from services.quota.limiting import Limiting
from shared.bucket import BucketReader, BucketWriter
from shared.bus import connect
from shared.money import MicroUsd, Wei
from shared.store import postgres_env
from tests import infra

PUTS = 200
RUNS, GRANTS, ACCOUNTS = 5, 100, 4
PAYER = "0x" + "11" * 20


async def measure(url: str, accounts: int) -> dict[str, float]:
    client = await connect("admin", url)
    await client.jetstream().create_key_value(KeyValueConfig(RULES, history=1))
    writer, reader = BucketWriter(client, RULES), BucketReader(client, RULES)
    value = RulesEntry(rules=Rules(payments_per_second=20), plan="pro").model_dump_json(exclude_defaults=True)
    entries = {
        scope_entry(Scoped(account_id=f"account-{number}")): value.encode() for number in range(accounts)
    }
    gc.collect()
    before = _rss_mib()
    began = time.monotonic()
    tasks = [asyncio.create_task(writer.run(entries))]
    while not writer.written:
        await asyncio.sleep(0.01)
    written = time.monotonic() - began
    tasks.append(asyncio.create_task(reader.run()))
    began = time.monotonic()
    while not reader.ready:
        await asyncio.sleep(0.01)
    loaded = time.monotonic() - began
    delays = [await _seen_after(writer, reader, number) for number in range(PUTS)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()
    return {
        "accounts": accounts,
        "written_s": round(written, 2),
        "loaded_s": round(loaded, 2),
        "memory_mib": round(_rss_mib() - before, 1),
        "change_seen_p50_ms": round(sorted(delays)[PUTS // 2] * 1000, 2),
        "change_seen_p99_ms": round(sorted(delays)[PUTS * 99 // 100] * 1000, 2),
    }


async def _seen_after(writer: BucketWriter, reader: BucketReader, number: int) -> float:
    key, value = f"account.account-{number}", b'{"plan":"changed"}'
    began = time.monotonic()
    await writer.put(key, value)
    while reader.get(key) != value:
        await asyncio.sleep(0.0005)
    return time.monotonic() - began


def grants(dsn: str) -> Iterator[dict[str, float | str]]:
    """Asks of sessions that run, with and without limits of user and key beside the account's."""
    quota = Quota(Wei(10**24), postgres_env(dsn, "quota", create_tables=True))
    quota.create_tables()
    now = datetime.now(UTC)
    quota.observe_rate(Rate(MicroUsd(3_000_000_000), "settings", now))
    quota.follow_funds([_funded(now)], lambda _: None)
    limiting = Limiting(quota)
    author = Author("bench", "bench")
    for number in range(ACCOUNTS):
        limits = Limits(spend_per_day_wei=Wei(10**24), spend_per_month_micro_usd=MicroUsd(10**14))
        for scope in (Scope(f"limited-{number}"), Scope(f"limited-{number}", user_id="user")):
            limiting.set_limits(scope, limits, author, now)
        limiting.set_limits(Scope(f"limited-{number}", key_id="key"), limits, author, now)
    for kind in ("plain", "limited"):
        for asks in (1, 32):
            runs = [_granting(quota, kind, asks, run) for run in range(RUNS)]
            yield {
                "name": f"grant_{kind}_{asks}",
                "p50_ms": round(statistics.median(run[len(run) // 2] for run in runs) * 1000, 2),
                "p99_ms": round(statistics.median(run[len(run) * 99 // 100] for run in runs) * 1000, 2),
            }
    quota.close()


def _granting(quota: Quota, kind: str, asks: int, run: int) -> list[float]:
    """How long each of many batches took, sorted."""
    times = []
    for number in range(1, GRANTS + 1):
        wishes = [
            Ask(
                account_id=f"{kind}-{place % ACCOUNTS}",
                key_id="key",
                session_id=f"{asks}-{place}",
                number=run * GRANTS + number,
                payer=PAYER,
                needed=Wei(100),
                wanted=Wei(1000),
                user_id="user",
            )
            for place in range(asks)
        ]
        began = time.perf_counter()
        answers = quota.grant_all(wishes, datetime.now(UTC))
        times.append(time.perf_counter() - began)
        assert all(isinstance(answer, int) for answer in answers), answers
    return sorted(times)


def _funded(now: datetime) -> LogEntry:
    funds = FundsObserved(
        payer=PAYER,
        deposit=10**24,
        reserve=10**24,
        withdraw_round=0,
        pool_size=100,
        l1_block=1,
        block_hash="0x",
    )
    told = funds.model_dump(mode="json")
    return LogEntry(epoch=1, position=1, previous_position=0, subject=funds.subject, at=now, event=told)


def _rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--accounts", type=int, default=100_000)
    options = parser.parse_args()
    with infra.own_slot() as slot:
        with infra.run_postgres(slot) as server, server.database("quota") as database:
            for line in grants(database.dsn("quota")):
                sys.stdout.write(json.dumps(line) + "\n")
        with infra.run_nats(slot) as nats:
            rules = asyncio.run(measure(nats.url(), options.accounts))
            sys.stdout.write(json.dumps({"name": "rules", **rules}) + "\n")


if __name__ == "__main__":
    main()
