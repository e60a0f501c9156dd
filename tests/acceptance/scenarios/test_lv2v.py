"""The SDK's `start_lv2v` with the token we issue: discovery by model, gRPC, a payment per output segment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from livepeer_gateway.errors import NoOrchestratorAvailableError
from livepeer_gateway.lv2v import LiveVideoToVideo, StartJobRequest, start_lv2v

from tests.acceptance.scenarios.blocks import expire_params
from tests.acceptance.scenarios.books import (
    all_delivered,
    closed_books,
    manifest,
    only_session,
    summary,
)
from tests.acceptance.system import OPTIONS, SPEND_LIMIT_WEI, Account, System, until

pytestmark = pytest.mark.anyio

MODEL = "demo-model"
FIRST_TICKETS = 30  # for the 60 seconds ahead
NOBODY = "https://127.0.0.1:1"


@asynccontextmanager
async def started(
    system: System, account: Account, *orchestrators: str, model: str = MODEL
) -> AsyncIterator[LiveVideoToVideo]:
    """A stream that the SDK pays for until it is left; discovery finds who serves it, if nobody is named."""
    request = StartJobRequest(model_id=model)
    job = start_lv2v(list(orchestrators) or None, request, token=account.sdk_token)
    try:
        yield job
    finally:
        await job.close()
        await asyncio.gather(job.start_payment_sender(), return_exceptions=True)
        await system.control_orchestrator(release=job.manifest_id)


async def test_each_output_segment_is_paid_for_as_the_stream_goes_on(
    system: System, account: Account
) -> None:
    async with started(system, account) as job:
        await _paid(system, job, times=3)
        stream = await manifest(system, _id(job))

    totals = await all_delivered(system, account)
    [session] = await system.sessions(account)
    assert (stream["kind"], stream["place"]) == ("live-video-to-video", f"live-video-to-video/{MODEL}")
    assert stream["active"]
    assert totals.payments >= 3
    assert totals.tickets > FIRST_TICKETS
    assert (session["job_type"], session["app"]) == ("lv2v", "")


async def test_params_that_expire_are_asked_for_anew_and_the_stream_goes_on(
    system: System, account: Account
) -> None:
    async with started(system, account) as job:
        await _paid(system, job, times=2)
        await expire_params(system)
        await _paid(system, job, times=3)
        accepted = await system.accepted(_id(job))

    await all_delivered(system, account)
    assert len({rand_hash for rand_hash, _ in accepted}) == 2
    assert len(await system.sessions(account)) == 1


async def test_an_orchestrator_that_fails_is_passed_over_for_the_next(
    system: System, account: Account
) -> None:
    good = system.world.orchestrator_tls_url
    await system.control_orchestrator(
        faults=[{"route": "live_video_to_video", "kind": "status", "status": 503, "times": 1}]
    )

    async with started(system, account, NOBODY, good, good) as job:
        accepted = await system.accepted(_id(job))

    books = await closed_books(system, account)
    assert len(accepted) >= FIRST_TICKETS
    # What the first of them was paid before it failed is spent: the tickets had left. The second one may
    # have been paid on before the job was left.
    assert len(books.undelivered) == FIRST_TICKETS
    assert books.totals.payments >= 2
    assert books.totals.tickets == FIRST_TICKETS + len(books.accepted)


async def test_a_limit_that_is_raised_in_mid_stream_lets_it_go_on(system: System) -> None:
    account = await system.open_account(spend_limit_wei=FIRST_TICKETS * OPTIONS.ticket_ev_wei + 1)

    async with started(system, account) as job:
        session_id = await only_session(system, account)

        async def refused() -> bool:
            return "refused with 402" in await summary(system, account, session_id)

        await until("the limit is told", refused, seconds=20)
        await system.set_limit(account, SPEND_LIMIT_WEI)
        await _paid(system, job, times=2)

    await all_delivered(system, account)
    assert [row["session_id"] for row in await system.sessions(account)] == [session_id]


async def test_a_new_certificate_is_trusted_as_the_one_before(system: System, account: Account) -> None:
    async with started(system, account) as job:
        before = job.manifest_id
    await system.control_orchestrator(new_certificate=True)

    async with started(system, account) as job:
        assert job.manifest_id != before

    assert (await all_delivered(system, account)).payments >= 2


async def test_nobody_serves_an_unknown_model_and_nothing_is_charged(
    system: System, account: Account
) -> None:
    with pytest.raises(NoOrchestratorAvailableError, match="No orchestrators available"):
        async with started(system, account, model="no-such-model"):
            pass

    with pytest.raises(NoOrchestratorAvailableError) as refused:
        async with started(system, account, NOBODY):
            pass

    assert [rejection.url for rejection in refused.value.rejections] == [NOBODY]
    assert not (await system.log()).of(account.account_id).payments


async def _paid(system: System, job: LiveVideoToVideo, *, times: int) -> None:
    """Wait for that many payments to the stream."""

    async def paid() -> bool:
        return bool((await manifest(system, _id(job)))["payments"] >= times)

    await until(f"the stream was paid {times} times", paid, seconds=30)


def _id(job: LiveVideoToVideo) -> str:
    return str(job.manifest_id)
