"""What recording a payment as usage costs: `python -m tests.bench.bench_metering [batches]`.

Entries as they come from the bus, bytes of JSON, go through the inbox into PostgreSQL. Prints one
JSON line.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from nats.aio.client import Client

from contracts.message import LogEntry
from contracts.signer import PaymentSigned
from services.metering.app import CONSUMERS_BY_PUBLISHER, make_tables
from services.metering.application import Metering
from services.metering.entries import PUBLISHER, READS
from services.metering.handlers import recording
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from shared.clock import Clock
from shared.inbox import BATCH, Inbox
from shared.log import PublicLog
from shared.positions import Positions
from shared.store import ThinRecorder, postgres_env
from tests import infra

SESSIONS = 1000
ACCOUNTS = 20
ORCHESTRATORS = 30
START = datetime(2026, 7, 1, 11, 59, tzinfo=UTC)
TICKS = os.sysconf("SC_CLK_TCK")


def payments(count: int, random: Random) -> list[bytes]:
    """Entries of many sessions at once, in the shape the relay publishes."""
    return [_entry(number, random).model_dump_json().encode() for number in range(count)]


def _entry(number: int, random: Random) -> LogEntry:
    session = random.randrange(SESSIONS)
    orchestrator = session % ORCHESTRATORS
    face_value, win_prob = 10**16 + orchestrator, (2**256 - 1) // (10**4 + orchestrator)
    tickets = random.randint(1, 3)
    signed = PaymentSigned(
        account_id=f"account-{session % ACCOUNTS}",
        session_id=f"{session:032x}",
        user_id=f"user-{session % 200}" if session % 3 else None,
        app="daydream",
        job_type="lv2v",
        recipient=f"0x{orchestrator:040x}",
        payer="0x" + "ab" * 20,
        tickets=tickets,
        cost=tickets * face_value // 10**4,
        face_value=face_value,
        win_prob=hex(win_prob),
        units=random.randrange(27_000_000, 90_000_000),
        price_per_unit=1200 + orchestrator,
        pixels_per_unit=1 if orchestrator % 2 else 1_000_000,
        creation_round=3456,
        key_id=f"key{session % ACCOUNTS:09}",
        capability="live-video-to-video/streamdiffusion",
    )
    return LogEntry(
        epoch=1,
        position=2 * number + 3,  # beside NoncesTaken, which is not public
        previous_position=2 * number + 1 if number else 0,
        subject=PaymentSigned.subject,
        at=START + timedelta(microseconds=333 * number),
        event=signed.model_dump(mode="json"),
    )


def measure(dsn: str, raw: Sequence[bytes]) -> dict[str, object]:
    metering = Metering(usage_tables("metering"), postgres_env(dsn, "metering", create_tables=True))
    make_tables(metering, PublicLog(metering, MeteringOutbox(metering)))
    consumer = CONSUMERS_BY_PUBLISHER[PUBLISHER]
    Positions(metering).get(consumer.durable)
    inbox = Inbox(consumer, Client(), metering, recording(metering, Clock()), READS)
    warm, rest = raw[:BATCH], raw[BATCH:]
    _apply(inbox, warm)

    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(rest), BATCH):
        _apply(inbox, rest[start : start + BATCH])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stored, server_cpu = _store(metering)
    metering.close()
    return {
        "bench": "metering",
        "payments": len(rest),
        "payments_per_second": round(len(rest) / wall),
        "cpu_us_per_payment": round(cpu / len(rest) * 1e6, 1),
        "postgres_cpu_us_per_payment": round(server_cpu / len(raw) * 1e6, 1),
        "event_bytes_per_payment": round(stored / len(raw), 1),
    }


def _apply(inbox: Inbox, raw: Sequence[bytes]) -> None:
    inbox._apply_batch([LogEntry.model_validate_json(data) for data in raw])  # noqa: SLF001


def _store(metering: Metering) -> tuple[int, float]:
    """Bytes of the stored events, and CPU seconds of the server's processes for us."""
    recorder = metering.recorder
    assert isinstance(recorder, ThinRecorder)
    with recorder.datastore.get_connection() as connection:
        size = connection.execute("SELECT sum(length(state)) AS size FROM metering.metering_events")
        activity = connection.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'metering'")
        seconds = sum(_cpu(row["pid"]) for row in activity)
        row = size.fetchone()
    assert row is not None
    return int(row["size"]), seconds


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def main() -> None:
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    raw = payments(batches * BATCH, Random(1))
    with (
        infra.own_slot() as slot,
        infra.run_postgres(slot) as server,
        server.database("metering") as database,
    ):
        sys.stdout.write(json.dumps(measure(database.dsn("metering"), raw)) + "\n")


if __name__ == "__main__":
    main()
