"""Metering as a process: usage is there soon after it was told, also for the command."""

import asyncio
import csv
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from contracts.metering import (
    ClosedUsage,
    CloseUsage,
    MeterPage,
    QueryMeter,
    UsageClosed,
)
from services.cli.app import app
from shared.bus import CommandRefusedError, ask
from tests import infra
from tests.integration.metering_world import METERING_USERS, World, metering_world, opening, paid, payment
from tests.integration.service_process import bus_user
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (*METERING_USERS, bus_user("cli"))
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECONDS = 30


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    async with metering_world(database("metering").dsn("metering"), nats, slot, directory) as running:
        yield running


async def meter(world: World, name: str, **asked: Any) -> MeterPage:
    return await ask(world.edge, QueryMeter(meter=name, **asked), MeterPage)


async def test_usage_is_visible_soon_after_its_event_and_how_soon_is_printed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    random, taken = Random(21), []
    await world.signer.publish(world.signer.append(opening(1)))
    await world.applied()
    for number in range(1, 11):
        began = time.monotonic()
        await world.signer.publish(world.signer.append(payment(1, random)))
        wanted = str(sum(told.tickets for told in paid(world.signer.entries)))
        async with asyncio.timeout(SECONDS):
            while (await meter(world, "tickets")).rows[0].value != wanted:
                await asyncio.sleep(0.01)
        taken.append(time.monotonic() - began)
        assert number == len(paid(world.signer.entries))

    with capsys.disabled():
        print(f"\nvisible after {min(taken):.3f} to {max(taken):.3f} s")  # noqa: T201 (it is measured)


async def test_closing_is_told_and_answered(world: World) -> None:
    random = Random(22)
    await world.signer.publish(world.signer.append(payment(1, random)))  # just before noon
    await world.applied()
    command = CloseUsage(account_id="acme", until=NOON, actor="billing", reason="invoiced")
    closed = await ask(world.edge, command, ClosedUsage)
    again = await ask(world.edge, command, ClosedUsage)
    with pytest.raises(CommandRefusedError) as back:
        await ask(world.edge, command.model_copy(update={"until": NOON - timedelta(hours=1)}), ClosedUsage)
    with pytest.raises(CommandRefusedError) as ahead:
        await ask(world.edge, command.model_copy(update={"until": NOON.replace(year=2400)}), ClosedUsage)
    await world.signer.publish(world.signer.append(payment(1, random)))
    await world.applied()

    assert closed == again == ClosedUsage(account_id="acme", closed_until=NOON)
    assert (back.value.refusal.code, ahead.value.refusal.code) == ("usage_already_closed", "bad_until")
    rows = (await meter(world, "tickets", window="hour")).rows
    told = paid(world.signer.entries)
    assert [(row.window_start, row.value, row.of) for row in rows] == [
        (NOON - timedelta(hours=1), str(told[0].tickets), []),
        (NOON, str(told[1].tickets), ["2026-07"]),
    ]
    assert await world.replay("--verify") == []
    assert await world.replay() == []
    assert await world.replay("--verify") == []
    jetstream = world.admin.jetstream()
    entry = await jetstream.get_last_msg("METERING_EVENTS", UsageClosed.subject)
    assert entry.data is not None
    assert json.loads(entry.data)["event"] == {
        "account_id": "acme", "until": "2026-07-01T12:00:00Z", "actor": "billing", "reason": "invoiced",
    }  # fmt: skip


async def test_the_command_shows_usage(world: World, nats: infra.Nats) -> None:
    random, signer = Random(23), world.signer
    await signer.publish(signer.append(opening(1), *(payment(session % 5, random) for session in range(40))))
    await world.applied()

    async def said(*words: str, status: int = 0) -> str:
        result = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            ["usage", "show", *words],
            env={"CLEARINGHOUSE_NATS_URL": nats.url("cli")},
            catch_exceptions=False,
        )
        assert result.exit_code == status, result.output
        return str(result.output)

    words = (
        "acme",
        "--meter",
        "tickets",
        "--window",
        "day",
        "--time-zone",
        "Asia/Tokyo",
        "--group-by",
        "recipient",
    )
    lines = [json.loads(line) for line in (await said(*words, "--json")).splitlines()]
    table = list(csv.DictReader(io.StringIO(await said(*words, "--csv"))))
    assert sum(int(line["value"]) for line in lines) == sum(told.tickets for told in paid(signer.entries))
    assert [(row["recipient"], row["value"]) for row in table] == [
        (line["group"]["recipient"], line["value"]) for line in lines
    ]
    assert "window_start" in await said(*words)
    whole = json.loads(await said("--filter", "user:ann", "--json"))
    assert whole["payments"] == sum(told.user_id == "ann" for told in paid(signer.entries))
    limited = await said(*words, "--json", "--limit", "1")
    assert limited.splitlines() == [json.dumps(lines[0], separators=(",", ":"))]
    assert "(bad_query)" in await said("--meter", "teapots", status=1)
    await said("--window", "day", status=2)
    nothing = await said("nobody", "--csv")
    assert nothing.splitlines() == ["payments,tickets,cost_wei,ev_wei,fee_wei", "0,0,0,0,0"]
