"""Each scenario has an account of its own, and an orchestrator that is as it was at the start.

`account`   a new customer of the running system, whose world is that of all acceptance tests; at the
            end of the test usage, log and quota agree about it
"""

from collections.abc import AsyncIterator

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.system import Account, System


@pytest.fixture(autouse=True)
async def _fresh_orchestrator(system: System) -> AsyncIterator[None]:
    await system.control_orchestrator(reset=True)
    yield
    await system.control_orchestrator(reset=True)


@pytest.fixture
async def account(system: System) -> AsyncIterator[Account]:
    opened = await system.open_account()
    yield opened
    await settled(system, opened)
