"""The whole system, started once for all that is tried in this package.

`system`       the running world; each test opens accounts of its own in it
`replicated`   another one, with two of each of our processes, that can be killed at named steps
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import aiohttp
import pytest

from tests.acceptance.system import OPTIONS, System
from tests.faults.kills.world import SteppedWorld
from tests.faults.world import running_world
from tilt.supervisor import Supervisor
from tilt.world import World


@pytest.fixture(scope="package")
def processes() -> Iterator[tuple[World, Supervisor]]:
    with running_world() as running:
        yield running


@pytest.fixture(scope="package")
def two_of_each() -> Iterator[tuple[World, Supervisor]]:
    with running_world(SteppedWorld, replace(OPTIONS, replicas=2)) as running:
        yield running


@pytest.fixture
async def replicated(two_of_each: tuple[World, Supervisor]) -> AsyncIterator[System]:
    # Orchestrators sign their certificates themselves; no client of theirs looks at them.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        yield System(*two_of_each, http)


@pytest.fixture
async def system(processes: tuple[World, Supervisor]) -> AsyncIterator[System]:
    async with aiohttp.ClientSession() as http:
        yield System(*processes, http)
