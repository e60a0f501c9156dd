"""A slice of the hang matrix: short halts, all answers, the books. Times are the long run's to judge."""

import pytest

from tests.acceptance.system import System
from tests.faults.hangs.halts import Halt, check_books, load, try_halt

pytestmark = pytest.mark.anyio

HALT_SECONDS = 3.0  # longer than any answer may take
HALTS = (
    Halt("postgres", ["postgres"]),
    Halt("nats", ["nats"]),
    Halt("quota, both", ["quota", "quota-2"]),
)


async def test_whatever_hangs_each_request_is_answered_and_the_books_agree(replicated: System) -> None:
    async with load(replicated.world, replicated.supervisor) as running:
        outcomes = [await try_halt(running, halt, HALT_SECONDS, compares=False) for halt in HALTS]
        wrong = await check_books(running)

    assert [fault for outcome in outcomes for fault in outcome.faults] == []
    assert wrong == []
