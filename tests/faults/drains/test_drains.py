"""No drain takes more out of the pool than the cap that bounds it."""

import sys

import pytest

from tests.acceptance.system import System
from tests.faults.drains.bound import table
from tests.faults.drains.scripts import SCRIPTS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_drain_takes_no_more_than_its_cap(system: System, name: str) -> None:
    drain = await SCRIPTS[name](system)

    sys.stdout.write(table({name: drain}) + "\n")
    assert not drain.broken
