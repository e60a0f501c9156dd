"""Single-shot runners at a fixed price: one job, one payment."""

import pytest
from livepeer_gateway.errors import NoRunnerAvailableError

from tests.acceptance.scenarios.books import all_delivered, manifest
from tests.acceptance.scenarios.runners import find, until_offered
from tests.acceptance.sdk import PAYMENT_SECONDS
from tests.acceptance.system import Account, System

pytestmark = pytest.mark.anyio

APP, RUNNER = "demo/once", "once"
PRICE_WEI = 250_000_000_000
TICKETS = 3  # of OPTIONS.ticket_ev_wei, so that they cover the price


async def test_a_job_is_one_payment_however_long_it_takes_and_debited_once(
    system: System, account: Account
) -> None:
    await until_offered(account, APP, PRICE_WEI)
    await system.control_orchestrator(runners={RUNNER: {"work_seconds": PAYMENT_SECONDS + 0.5}})

    result = await (await find(account, APP)).next()

    job = await manifest(system, result.session_id)
    totals = await all_delivered(system, account)
    assert result.data == {"prompt": "a lighthouse"}
    assert result.payment_session is None
    assert (job["payments"], job["units"], int(job["debited"])) == (1, 1, PRICE_WEI)
    assert (job["price"], job["release_reason"]) == (str(PRICE_WEI), "finished")
    assert (totals.payments, totals.tickets) == (1, TICKETS)


async def test_two_jobs_are_two_payments_though_what_is_left_of_the_first_would_help(
    system: System, account: Account
) -> None:
    results = [await (await find(account, APP)).next() for _ in range(2)]

    totals = await all_delivered(system, account)
    assert len({result.session_id for result in results}) == 2
    assert (totals.payments, totals.tickets) == (2, 2 * TICKETS)
    assert {row["job_type"] for row in await system.sessions(account)} == {"fixed"}


async def test_a_price_may_exceed_the_discovered_one_by_as_much_as_the_sdk_tolerates(
    system: System, account: Account
) -> None:
    tolerated = PRICE_WEI * 1012 // 1000
    await until_offered(account, APP, PRICE_WEI)
    accepted, refused = await find(account, APP), await find(account, APP)

    await system.control_orchestrator(runners={RUNNER: {"price_per_unit": tolerated}})
    result = await accepted.next()
    await system.control_orchestrator(runners={RUNNER: {"price_per_unit": tolerated + 1}})
    with pytest.raises(NoRunnerAvailableError) as problem:
        await refused.next()

    job = await manifest(system, result.session_id)
    assert int(job["debited"]) == tolerated
    assert "HTTP 481" in problem.value.rejections[0].reason
    assert "exceeds request maxPrice ceiling" in problem.value.rejections[0].reason
    assert (await all_delivered(system, account)).payments == 1
