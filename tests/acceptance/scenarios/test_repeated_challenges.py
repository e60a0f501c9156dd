"""Runners that answer a payment with another challenge: who pays how often for one call."""

import secrets
from typing import Any

import pytest
from livepeer_gateway.errors import LivepeerGatewayError, LivepeerHTTPError, SkipPaymentCycle
from livepeer_gateway.live_runner import LiveRunnerCallResult, call_runner
from livepeer_gateway.token import parse_token

from tests.acceptance.scenarios.books import all_delivered, closed_books
from tests.acceptance.scenarios.runners import find
from tests.acceptance.system import OPTIONS, Account, System

pytestmark = pytest.mark.anyio

NAMES_OF_JOBS = [
    ("demo/once", "Idempotency-Key"),
    ("demo/echo", "Idempotency-Key"),
    ("demo/echo", "Clearinghouse-Stream"),
]
RUNNER_OF = {"demo/once": "once", "demo/echo": "runner-1"}
PAYMENTS_MAX = 7  # the SDK makes eight attempts, the first of them unpaid
JOB_TICKETS = 3


@pytest.mark.parametrize("app", RUNNER_OF)
async def test_the_same_challenge_again_and_again_is_charged_once(
    system: System, account: Account, app: str
) -> None:
    await _repeat_402(system, app, same=True)

    with pytest.raises(LivepeerGatewayError, match="exhausted payment challenge retries"):
        await _call(account, app)

    books = await closed_books(system, account)
    ignored = await _ignored(system, books.signed)
    assert books.totals.payments == 1
    assert len(ignored) == PAYMENTS_MAX
    assert len({tuple(payment["nonces"]) for payment in ignored}) == 1


@pytest.mark.parametrize(("app", "header"), NAMES_OF_JOBS)
async def test_fresh_challenges_for_a_job_that_is_named_are_paid_once(
    system: System, account: Account, app: str, header: str
) -> None:
    await _repeat_402(system, app)

    with pytest.raises(SkipPaymentCycle):
        await _call(account, app, **{header: secrets.token_hex(8)})

    books = await closed_books(system, account)
    assert books.totals.payments == 1
    assert len(await _ignored(system, books.signed)) == 1


async def test_jobs_of_two_names_are_each_paid(system: System, account: Account) -> None:
    for name in ("first", "second"):
        await _call(account, "demo/once", **{"Idempotency-Key": name})

    assert (await all_delivered(system, account)).payments == 2


async def test_fresh_challenges_for_a_job_without_a_name_are_each_paid_and_accounted(
    system: System, account: Account
) -> None:
    await _repeat_402(system, "demo/once")

    with pytest.raises(LivepeerGatewayError, match="exhausted payment challenge retries"):
        await _call(account, "demo/once")

    books = await closed_books(system, account)
    assert books.totals.payments == PAYMENTS_MAX
    assert books.totals.tickets == PAYMENTS_MAX * JOB_TICKETS
    assert len(await _ignored(system, books.signed)) == PAYMENTS_MAX


async def test_a_limit_that_covers_one_payment_ends_the_call_after_it(system: System) -> None:
    account = await system.open_account(spend_limit_wei=(JOB_TICKETS + 1) * OPTIONS.ticket_ev_wei)
    await _repeat_402(system, "demo/once")

    with pytest.raises(LivepeerHTTPError) as problem:
        await _call(account, "demo/once")
    books = await closed_books(system, account)  # from here on quota knows it as spent, not as held
    with pytest.raises(LivepeerHTTPError) as again:
        await _call(account, "demo/once")

    assert problem.value.status_code in {402, 429}
    assert again.value.status_code == 402
    assert "spend limit reached" in again.value.body
    assert books.totals.payments == 1
    assert await closed_books(system, account) == books


async def _repeat_402(system: System, app: str, *, same: bool = False) -> None:
    await system.control_orchestrator(repeat_402={"times": 100, "runner": RUNNER_OF[app], "same": same})


async def _call(account: Account, app: str, **headers: str) -> LiveRunnerCallResult:
    """Call the application as somebody who knows where it runs."""
    [runner] = (await find(account, app)).candidates
    token = parse_token(account.sdk_token)
    signer_headers = {**token["signer_headers"], **headers}
    return await call_runner(runner=runner, signer_url=token["signer"], signer_headers=signer_headers)


async def _ignored(system: System, signed: set[tuple[str, int]]) -> list[dict[str, Any]]:
    """Payments of these tickets that the orchestrator answered with a challenge."""
    hashes = {rand_hash for rand_hash, _ in signed}
    return [
        payment
        for payment in (await system.orchestrator())["ignored"]
        if payment["recipient_rand_hash"].removeprefix("0x") in hashes
    ]
