"""How long quota takes to write the rules of many accounts, and what they cost a reader: figures as JSON.

python -m tests.bench.bench_rules [--accounts 100000]
"""

import argparse
import asyncio
import gc
import json
import resource
import sys
import time

from nats.js.api import KeyValueConfig

from contracts.limits import RULES, Rules, RulesEntry, Scoped, scope_entry
from shared.bucket import BucketReader, BucketWriter
from shared.bus import connect
from tests import infra

PUTS = 200


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


def _rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--accounts", type=int, default=100_000)
    options = parser.parse_args()
    with infra.own_slot() as slot, infra.run_nats(slot) as nats:
        sys.stdout.write(json.dumps(asyncio.run(measure(nats.url(), options.accounts))) + "\n")


if __name__ == "__main__":
    main()
