"""The whole system, started once for all that is tried in this package.

`system`   the running world; each test opens accounts of its own in it
"""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.acceptance.system import System
from tests.faults.world import running_world
from tilt.supervisor import Supervisor
from tilt.world import World


@pytest.fixture(scope="package")
def processes() -> Iterator[tuple[World, Supervisor]]:
    with running_world() as running:
        yield running


@pytest.fixture
async def system(processes: tuple[World, Supervisor]) -> AsyncIterator[System]:
    async with aiohttp.ClientSession() as http:
        yield System(*processes, http)
