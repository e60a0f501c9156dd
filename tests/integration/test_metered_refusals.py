"""Queries that make no sense, asked of metering as a process: one for all of them, as they change nothing."""

from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from contracts.metering import QueryUsage
from shared.bus import CommandRefusedError
from tests import infra
from tests.integration.metering_world import METERING_USERS, World, metering_world
from tests.integration.publisher_stand_in import START
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = METERING_USERS


@pytest.fixture(scope="module")
async def world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
    directory = slot.directory / "metered-refusals"
    directory.mkdir()
    with postgres.database("metering") as database:
        async with metering_world(database.dsn("metering"), nats, slot, directory) as running:
            yield running


@pytest.mark.parametrize(
    "query",
    [
        QueryUsage(from_at=START),
        QueryUsage(to_at=datetime(2026, 7, 1, 12)),  # noqa: DTZ001 (that is what is refused)
        QueryUsage(group_by=["hour", "hour"]),
        QueryUsage(group_by=["hour"], after=["soon"]),
        QueryUsage(group_by=["hour"], after=["2026-07-01T12:00:00"]),
        QueryUsage(group_by=["user"], after=["a", "b"]),
        QueryUsage(after=["a"]),
        QueryUsage(account_id="zero\0byte"),
    ],
)
async def test_a_query_without_sense_is_refused(world: World, query: QueryUsage) -> None:
    with pytest.raises(CommandRefusedError) as refused:
        await world.usage(query)

    assert refused.value.refusal.code == "bad_query"
