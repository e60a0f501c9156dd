"""An exhausted budget: 429 while a running session holds what could suffice, 402 once it is spent."""

import asyncio

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.system import OPTIONS, Answer, System, until
from tests.acceptance.wire import Challenge, Payer, request

pytestmark = pytest.mark.anyio

FIRST_BATCH = 10  # tickets, for the seconds ahead


async def test_a_budget_that_is_held_answers_429_and_one_that_is_spent_402(system: System) -> None:
    account = await system.open_account(spend_limit_wei=25 * OPTIONS.ticket_ev_wei)
    payer = Payer(system, account)
    first = await payer.challenge()
    await payer.pay(first, await payer.pay(first))  # from now on it holds all there is
    second = await payer.challenge()

    held = await payer.ask(request(second))

    assert held.status == 429
    assert int(held.headers["Retry-After"]) > 0
    assert b"held by running sessions" in held.body

    async def granted() -> bool:
        return (await payer.ask(request(second))).status == 200

    # The first session is idle: what it holds comes back.
    await until("the second session may pay", granted, seconds=OPTIONS.idle_seconds + 5)
    totals = await settled(system, account)  # until quota has heard of it, it still counts as held

    spent = await payer.ask(request(await payer.challenge()))

    assert spent.status == 402
    assert b"spend limit reached" in spent.body
    assert totals.tickets == 2 * FIRST_BATCH + 1


async def test_racing_sessions_never_spend_more_than_the_limit(system: System) -> None:
    account = await system.open_account(spend_limit_wei=35 * OPTIONS.ticket_ev_wei)
    payer = Payer(system, account)
    challenges = [await payer.challenge() for _ in range(8)]

    statuses = [answer.status for answer in await _together(payer, challenges)]

    assert statuses.count(200) == 3
    assert set(statuses) <= {200, 402, 429}
    assert (await settled(system, account)).tickets == 3 * FIRST_BATCH


async def _together(payer: Payer, challenges: list[Challenge]) -> list[Answer]:
    return await asyncio.gather(*(payer.ask(request(challenge)) for challenge in challenges))
