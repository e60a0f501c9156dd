"""Redemptions on the real TicketBroker, and what the watcher makes of them by the signer's log."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from contracts.deposit_watcher import (
    OrphanRedemption,
    ReadRedemptions,
    RecoveredRedemption,
    RedemptionPage,
    TicketRedeemed,
)
from contracts.message import Event
from contracts.signer import FenceRaised, TicketRecovered
from shared.bus import ask
from tests import infra
from tests.beside import until
from tests.integration import watcher_world
from tests.integration.watcher_world import (
    GRACE_SECONDS,
    World,
    eventually,
    signed,
    watched_chain,
)
from tilt.chain.local_chain import Ticket
from tilt.slot import Slot

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

NATS_USERS = watcher_world.NATS_USERS
FACE_VALUE_WEI = 1_000_003
LOST_EPOCH = 7  # of which we never applied anything: what was lost from it is news to us
LOST_POSITIONS: dict[tuple[bytes, int], int] = {}  # by recipient rand hash and nonce
JUDGEMENTS = (TicketRedeemed, RecoveredRedemption, OrphanRedemption)


@pytest.fixture(scope="module")
async def shared_world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
    directory = slot.directory / "redemptions"
    directory.mkdir()
    with postgres.database("deposit_watcher") as database:
        async with watched_chain(database, nats, slot, directory) as made:
            yield made


@pytest.fixture
def world(shared_world: World) -> World:
    """The same processes for each test, with ticket params of its own."""
    shared_world.rand += 1
    shared_world.nonce = 0
    shared_world.signer.readable = None
    return shared_world


async def judged(world: World, ticket: Ticket) -> list[Event]:
    """Everything that was told of a ticket, in order."""
    wanted = ("0x" + ticket.recipient_rand_hash.hex(), ticket.sender_nonce)
    found: list[Event] = []
    for entry in await world.log():
        said = entry.event
        if (said.get("recipient_rand_hash"), said.get("sender_nonce")) == wanted:
            found += [event.model_validate(said) for event in JUDGEMENTS if event.subject == entry.subject]
    return found


async def told(world: World, ticket: Ticket, judgements: int = 1) -> list[Event]:
    """Wait until so much was told of it."""
    return await eventually(lambda: judged(world, ticket), lambda found: len(found) >= judgements)


def recovered(ticket: Ticket) -> TicketRecovered:
    """Each ticket's entry had a position of its own in the log that was lost."""
    position = LOST_POSITIONS.setdefault(
        (ticket.recipient_rand_hash, ticket.sender_nonce), len(LOST_POSITIONS) + 1
    )
    happened_at = datetime(2026, 7, 1, tzinfo=UTC)
    return TicketRecovered(
        **signed(ticket).model_dump(),
        lost_epoch=LOST_EPOCH,
        lost_position=position,
        happened_at=happened_at,
    )


async def test_a_ticket_that_is_in_the_log_as_redeemed_is_ours(world: World) -> None:
    ticket = world.winner(FACE_VALUE_WEI)
    world.signer.tell(signed(ticket, tickets=3))
    tx_hash = world.cash(ticket)
    last = world.winner(FACE_VALUE_WEI)._replace(sender_nonce=3)
    world.cash(last)

    [event] = await told(world, ticket)
    [of_last] = await told(world, last)

    assert isinstance(event, TicketRedeemed)
    assert isinstance(of_last, TicketRedeemed)
    assert (event.tx_hash, event.face_value, event.paid) == (tx_hash, FACE_VALUE_WEI, FACE_VALUE_WEI)


async def test_nothing_is_an_orphan_while_its_entry_may_be_on_the_way(world: World) -> None:
    ticket = world.winner(FACE_VALUE_WEI)
    world.signer.readable = len(world.signer.entries)
    world.signer.tell(signed(ticket))  # the head is told, the entry is not
    world.cash(ticket)
    await eventually(lambda: world.redemptions("pending"), bool)
    await asyncio.sleep(5 * GRACE_SECONDS)
    before = await told(world, ticket, 0)

    world.signer.readable = None
    [event] = await told(world, ticket)

    assert before == []
    assert isinstance(event, TicketRedeemed)


async def test_while_the_signer_does_not_answer_nothing_is_judged(world: World) -> None:
    ticket = world.winner(FACE_VALUE_WEI)
    await world.signer.leave()
    world.cash(ticket)
    await eventually(lambda: world.redemptions("pending"), bool)
    await asyncio.sleep(5 * GRACE_SECONDS)
    before = await told(world, ticket, 0)
    world.signer.tell(signed(ticket))
    await world.signer.serve()

    [event] = await told(world, ticket)

    assert before == []
    assert isinstance(event, TicketRedeemed)


async def test_what_our_key_signed_elsewhere_is_an_orphan_and_an_alarm(world: World) -> None:
    other_nonce, other_face, stranger = (world.winner(FACE_VALUE_WEI) for _ in range(3))
    other_face = other_face._replace(face_value=FACE_VALUE_WEI + 1)
    world.signer.tell(signed(other_nonce._replace(sender_nonce=9)))
    world.signer.tell(signed(other_face._replace(face_value=FACE_VALUE_WEI)))
    for ticket in (other_nonce, other_face, stranger):
        world.cash(ticket)

    found = [await told(world, ticket) for ticket in (other_nonce, other_face, stranger)]

    assert [[type(event) for event in events] for events in found] == [[OrphanRedemption]] * 3
    alarms = [
        line for line in log_lines(world.log_file) if '"redemption_judged"' in line and '"orphan"' in line
    ]
    assert len([line for line in alarms if stranger.recipient_rand_hash.hex() in line]) == 3
    assert all('"error"' in line for line in alarms)


async def test_a_recovered_ticket_is_no_orphan(world: World) -> None:
    ticket = world.winner(FACE_VALUE_WEI)
    world.signer.tell(recovered(ticket))
    world.cash(ticket)

    [event] = await told(world, ticket)

    assert isinstance(event, RecoveredRedemption)
    assert (event.reason, event.corrects_orphan, event.paid) == ("recovered", False, FACE_VALUE_WEI)


async def test_a_recovery_that_comes_late_puts_the_orphan_right_once(world: World) -> None:
    by_recovery, by_log = world.winner(FACE_VALUE_WEI), world.winner(FACE_VALUE_WEI)
    for ticket in (by_recovery, by_log):
        world.cash(ticket)
        await told(world, ticket)
    for event in (recovered(by_recovery), signed(by_log), recovered(by_recovery)):
        world.signer.tell(event)

    [_, first] = await told(world, by_recovery, 2)
    [_, second] = await told(world, by_log, 2)
    await asyncio.sleep(1)

    assert isinstance(first, RecoveredRedemption)
    assert isinstance(second, RecoveredRedemption)
    assert [(event.reason, event.corrects_orphan) for event in (first, second)] == [
        ("recovered", True),
        ("late", True),
    ]
    assert [len(await told(world, ticket, 2)) for ticket in (by_recovery, by_log)] == [2, 2]


async def test_entries_of_an_older_signer_vouch_for_their_round(world: World) -> None:
    ticket = world.winner(FACE_VALUE_WEI, payer_key=world.second_key)
    world.signer.tell(signed(ticket), left_out=("recipient_rand_hash", "first_nonce"))
    world.cash(ticket, payer_key=world.second_key)

    [event] = await told(world, ticket)

    assert isinstance(event, TicketRedeemed)


async def test_redemptions_are_listed_by_kind_and_page(world: World) -> None:
    newest_first = await world.redemptions()
    pages, after = [], ""
    while True:
        asked = ReadRedemptions(limit=4, after=after)
        page = (await ask(world.edge, asked, RedemptionPage)).redemptions
        pages += page
        if len(page) < 4:
            break
        after = page[-1].redemption_id

    assert pages == newest_first
    assert [(row.block, row.log_index) for row in pages] == sorted(
        ((row.block, row.log_index) for row in pages), reverse=True
    )
    by_kind = {kind: await world.redemptions(kind) for kind in ("signed", "recovered", "orphan", "pending")}
    assert sum(map(len, by_kind.values())) == len(pages)
    assert not by_kind["pending"]
    assert all(row.redemption_kind == kind for kind, rows in by_kind.items() for row in rows)


async def test_two_processes_and_their_kills_tell_each_redemption_once(world: World) -> None:
    holder, standby = world.pid, await world.start()
    tickets = []
    for turn in range(4):
        of_turn = [world.winner(FACE_VALUE_WEI) for _ in range(3)]
        world.signer.tell(signed(of_turn[0]))
        for ticket in of_turn:
            world.cash(ticket)
        tickets.append(of_turn)
        if turn % 2 == 0:  # while they are seen, pending or judged
            await world.end(holder)
            holder, standby = standby, await world.start()
    for _, _, late in tickets:
        world.signer.tell(recovered(late))
    world.pid = holder

    for *_, late in tickets:
        await eventually(
            partial(judged, world, late), lambda events: RecoveredRedemption in map(type, events)
        )
    found = [[await told(world, ticket) for ticket in turn] for turn in tickets]
    await world.end(standby)

    names = [[[type(event).__name__ for event in events] for events in turn] for turn in found]
    for of_ours, of_stranger, of_late in names:
        assert of_ours == ["TicketRedeemed"]
        assert of_stranger == ["OrphanRedemption"]
        assert of_late in (["RecoveredRedemption"], ["OrphanRedemption", "RecoveredRedemption"])


async def test_a_halted_holder_loses_the_lease_and_does_no_harm_when_it_wakes(world: World) -> None:
    standby = await world.start()
    os.kill(world.pid, signal.SIGSTOP)
    try:
        seen = world.head().observed_at_ms
        await until(lambda: world.head().observed_at_ms > seen + 500)
        ticket = world.winner(FACE_VALUE_WEI)
        world.signer.tell(signed(ticket))
        world.cash(ticket)
        [event] = await told(world, ticket)
    finally:
        os.kill(world.pid, signal.SIGCONT)
    await until(lambda: "LeaseLostError" in world.log_file.read_text())
    seen = world.head().observed_at_ms
    await until(lambda: world.head().observed_at_ms > seen + 1000)
    await world.end(world.pid)
    world.pid = standby

    assert isinstance(event, TicketRedeemed)
    assert await told(world, ticket) == [event]


async def test_after_a_fence_what_lost_tickets_may_be_is_recovered(world: World) -> None:
    """The last of this module: the fence stays."""
    told_before, told_after = world.winner(FACE_VALUE_WEI), world.winner(FACE_VALUE_WEI)
    world.cash(told_before)
    await told(world, told_before)

    at = world.chain.web3.eth.block_number
    world.signer.tell(FenceRaised(payer=world.payer, l1_block=at, reason="restored"))
    world.cash(told_after)
    [_, first] = await told(world, told_before, 2)
    [second] = await told(world, told_after)
    world.chain.initialize_next_round()
    of_next_round = world.winner(FACE_VALUE_WEI)
    world.cash(of_next_round)
    [third] = await told(world, of_next_round)

    assert isinstance(first, RecoveredRedemption)
    assert isinstance(second, RecoveredRedemption)
    assert (first.reason, first.corrects_orphan) == ("fence", True)
    assert (second.reason, second.corrects_orphan) == ("fence", False)
    assert isinstance(third, OrphanRedemption)


def log_lines(file: Path) -> list[str]:
    return file.read_text().splitlines()
