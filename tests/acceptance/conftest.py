"""The whole system, started once for all acceptance tests and stopped after the last of them.

`system`   the running world; each test opens an account of its own in it
"""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from anyio.from_thread import start_blocking_portal

from tests import infra
from tests.acceptance.system import OPTIONS, System
from tilt.run import start
from tilt.supervisor import Supervisor
from tilt.world import World


@pytest.fixture(scope="package")
def processes() -> Iterator[tuple[World, Supervisor]]:
    # Supervised in a thread of its own: what dies is restarted whatever a test is doing.
    with infra.own_slot() as slot, start_blocking_portal() as portal:
        world = World(slot, OPTIONS)
        world.prepare()
        with portal.wrap_async_context_manager(Supervisor(slot.directory)) as supervisor:
            portal.call(start, world, supervisor)
            yield world, supervisor


@pytest.fixture
async def system(processes: tuple[World, Supervisor]) -> AsyncIterator[System]:
    # Orchestrators sign their certificates themselves; no client of theirs looks at them.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        yield System(*processes, http)
