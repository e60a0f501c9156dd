"""One restore under load; `python -m tests.faults restore` tries each way, again and again."""

import pytest

from tests.acceptance.system import System
from tests.faults.restore.database import Way
from tests.faults.restore.part import LIMIT_WEI, Restore, Trial

pytestmark = pytest.mark.anyio


async def test_a_restore_under_load_signs_no_nonce_twice_and_loses_no_charge(replicated: System) -> None:
    trial = Trial(replicated, await replicated.open_account(LIMIT_WEI))

    assert await trial.restore(Restore(Way.COPY, destroy_bus=False)) == []
