"""Reading the broker's logs with a cursor on real PostgreSQL: each block once, whatever fails."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from eventsourcing.postgres import PostgresDatastore

from contracts.message import ReadLog
from services.deposit_watcher.application import Watching
from services.deposit_watcher.chain import ChainUnreachableError
from services.deposit_watcher.cursor import CursorMovedError, LogCursor, Mark
from services.deposit_watcher.domain.funds import Deposit, Funds, Observation, Round, RoundClock, Rounds
from services.deposit_watcher.domain.redemption import RedeemedTicket, Redemption
from services.deposit_watcher.outbox import WatchingOutbox
from services.deposit_watcher.redemptions import RedemptionTable
from services.deposit_watcher.scan import Scan
from shared.clock import SetClock
from shared.log import PublicLog
from shared.money import Wei
from shared.store import ThinRecorder, postgres_env
from tests import infra

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PAYER = "0x" + "aa" * 20
BROKER = "0x" + "01" * 20
TICKET = RedeemedTicket(
    payer=PAYER,
    recipient="0x" + "bb" * 20,
    recipient_rand_hash="0x" + "22" * 32,
    sender_nonce=7,
    face_value=Wei(10**18 + 3),
    win_prob="0xff",
    aux_data="0x",
    paid=Wei(5),
    tx_hash="0x" + "44" * 32,
    log_index=3,
    block=0,
    block_hash="0x",
)


class FakeLogs:
    """A broker with one redemption in each tenth block; refuses what is too long."""

    def __init__(self, longest: int = 1000) -> None:
        self.longest = longest
        self.asked: list[tuple[int, int]] = []

    async def source(self) -> tuple[int, str]:
        return 42161, BROKER

    async def block_hash(self, number: int) -> str:
        return f"0x{number:064x}"

    async def redemptions(self, first: int, last: int) -> list[RedeemedTicket]:
        self.asked.append((first, last))
        if last - first >= self.longest:
            raise ChainUnreachableError("query returned more than 10000 results")
        return [
            replace(TICKET, block=block, tx_hash=f"0x{block:064x}")
            for block in range(first, last + 1)
            if block % 10 == 0
        ]


@pytest.fixture
def watching(database: Callable[..., infra.Database]) -> Iterator[Watching]:
    env = postgres_env(
        database("deposit_watcher").dsn("deposit_watcher"), "deposit_watcher", create_tables=True
    )
    with Watching(env) as made:
        cursor_of(made).create_tables()
        RedemptionTable(datastore_of(made)).create_tables()
        PublicLog(made, WatchingOutbox(made)).create_tables()
        yield made


def datastore_of(watching: Watching) -> PostgresDatastore:
    assert isinstance(watching.recorder, ThinRecorder)
    return watching.recorder.datastore


def cursor_of(watching: Watching) -> LogCursor:
    return LogCursor(datastore_of(watching))


def scan_of(watching: Watching, logs: FakeLogs, *, first_block: int = 95, blocks_max: int = 8) -> Scan:
    return Scan(
        chain=logs,
        watching=watching,
        cursor=cursor_of(watching),
        clock=SetClock(NOW),
        first_block=first_block,
        blocks_max=blocks_max,
    )


def redeemed_blocks(watching: Watching) -> list[int]:
    stored = watching.recorder.select_notifications(1, 1000, topics=[Redemption.Seen.TOPIC])
    events = [watching.mapper.to_domain_event(notification) for notification in stored]
    return [event.block for event in events if isinstance(event, Redemption.Seen)]


async def test_ranges_follow_each_other_up_to_the_head(watching: Watching) -> None:
    logs = FakeLogs()
    scan = scan_of(watching, logs)

    more = [await scan.step(112) for _ in range(4)]

    assert more == [True, True, False, False]
    assert logs.asked == [(95, 102), (103, 110), (111, 112)]
    assert redeemed_blocks(watching) == [100, 110]


async def test_a_new_process_goes_on_where_the_old_one_was(watching: Watching) -> None:
    await scan_of(watching, FakeLogs()).step(112)

    logs = FakeLogs()
    await scan_of(watching, logs, first_block=0).step(104)

    assert logs.asked == [(103, 104)]
    assert cursor_of(watching).get(f"42161:{BROKER}", Mark(0, "")) == Mark(104, f"0x{104:064x}")


async def test_another_broker_is_read_from_the_start(watching: Watching) -> None:
    await scan_of(watching, FakeLogs()).step(112)

    assert cursor_of(watching).get("42161:0x02", Mark(5, "")) == Mark(5, "")


async def test_what_a_provider_refuses_is_asked_in_parts(watching: Watching) -> None:
    logs = FakeLogs(longest=3)
    scan = scan_of(watching, logs)
    failures = 0
    async with asyncio.timeout(10):
        while True:
            try:
                if not await scan.step(131):
                    break
            except ChainUnreachableError:
                failures += 1

    assert failures
    assert redeemed_blocks(watching) == [100, 110, 120, 130]


async def test_a_chain_that_went_back_is_waited_for(watching: Watching) -> None:
    scan = scan_of(watching, FakeLogs())
    await scan.step(102)

    assert await scan.step(50) is False
    assert cursor_of(watching).get(f"42161:{BROKER}", Mark(0, "")).block == 102


async def test_of_two_that_read_the_same_range_one_gives_up(watching: Watching) -> None:
    cursor, contract = cursor_of(watching), f"42161:{BROKER}"
    mark = cursor.get(contract, Mark(94, ""))
    first, second = (cursor.advance(contract, mark, Mark(102, "0x")) for _ in range(2))
    watching.record_redemptions(42161, [TICKET], NOW, first)

    with pytest.raises(CursorMovedError):
        watching.record_redemptions(42161, [replace(TICKET, log_index=9)], NOW, second)

    assert redeemed_blocks(watching) == [0]


async def test_funds_are_remembered_over_snapshots_and_restarts(watching: Watching) -> None:
    observation = Observation(
        chain_id=42161,
        block=700,
        block_hash="0x11",
        l1_block=500,
        round=Round(9, "0x99", "0x88", 2),
        pool_size=100,
        funds_by_payer={PAYER: Funds(Wei(10**30), Wei(7), 0)},
        round_clock=RoundClock(9, 400, 1000),
    )
    for minute in range(205):
        watching.observe(observation, NOW + timedelta(minutes=minute))
    watching.forget(Deposit.create_id(42161, PAYER), Rounds.create_id(42161))

    watching.observe(observation, NOW + timedelta(minutes=204, seconds=59))

    page = PublicLog(watching, WatchingOutbox(watching)).read(ReadLog(after=0))
    assert [entry.subject.split(".")[2] for entry in page.entries].count("funds_observed") == 205
    assert [entry.subject.split(".")[2] for entry in page.entries].count("round_changed") == 1
    deposit: Deposit = watching.repository.get(Deposit.create_id(42161, PAYER))
    assert deposit.seen == [10**30, 7, 0, 100]
    assert deposit.seen_at == NOW + timedelta(minutes=204)
