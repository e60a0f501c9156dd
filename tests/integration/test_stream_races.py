"""Two processes of metering get the same deliveries at the same moment: each is recorded once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import batched
from threading import Barrier
from typing import cast

import psycopg

from services.metering.app import make_tables
from services.metering.application import Metering
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.metering.replay import replay
from services.metering.stream_tables import StreamStore
from services.metering.streaming import Arrival, Streaming
from shared.log import PublicLog
from shared.meter import Progress
from shared.store import ThinRecorder, postgres_env
from tests import infra
from tests.faults.deliveries.storm import GRACE, NOW, storm

SECONDS = 100


def test_what_two_processes_race_for_is_recorded_once(database: Callable[..., infra.Database]) -> None:
    told, made = storm(7, 30), database("metering")
    pages = [list(page) for page in batched(told.arrivals, 9)]
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        processes = [_streaming(stack, made) for _ in range(2)]
        barrier = Barrier(2)
        counts = list(pool.map(lambda process: _record(process, pages, barrier), processes))

    keys = {arrival.key for arrival in told.arrivals}
    with psycopg.connect(made.dsn()) as connection:
        kept = connection.execute("SELECT count(*) FROM metering.deliveries").fetchone()
        found = connection.execute("SELECT stream_id, elapsed_ms FROM metering.streams").fetchall()
    assert sum(counts) == len(keys)
    assert kept == (len(keys),)
    elapsed = {str(row[0]): row[1] for row in found}
    assert all(
        elapsed[show.stream_id] == show.elapsed_ms for show in told.shows if show.stream_id in told.whole
    )
    assert replay.verify(made.dsn("metering"), _silently).differing == {}


def _streaming(stack: ExitStack, database: infra.Database) -> Streaming:
    env = postgres_env(database.dsn("metering"), "metering", create_tables=True)
    metering = stack.enter_context(Metering(usage_tables("metering"), env))
    make_tables(metering, PublicLog(metering, MeteringOutbox(metering)))
    store = StreamStore(cast("ThinRecorder", metering.recorder).datastore)
    return Streaming(metering, store, grace=GRACE, raw_days=1)


def _record(process: Streaming, pages: Sequence[Sequence[Arrival]], barrier: Barrier) -> int:
    recorded = 0
    for page in pages:
        barrier.wait(SECONDS)
        recorded += process.record(page, NOW)
    return recorded


def _silently(_: Progress) -> None:
    pass
