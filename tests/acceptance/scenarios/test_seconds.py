"""Live runners metered by the second, when the orchestrator changes its mind or loses its memory."""

import asyncio

import pytest

from tests.acceptance.scenarios.books import closed_books, only_session, summary
from tests.acceptance.sdk import PAYMENT_SECONDS, Streaming, streaming
from tests.acceptance.system import OPTIONS, Account, System

pytestmark = pytest.mark.anyio

FIRST_TICKETS = 10  # for the seconds ahead


async def test_a_price_that_rises_in_mid_session_ends_it_and_the_timeline_says_why(
    system: System, account: Account
) -> None:
    await system.control_orchestrator(expire_params=True)  # so that the SDK asks for new ones

    async with streaming(system, account) as stream:
        dearer = {"price_info": {"price_per_unit": 2 * OPTIONS.price_per_unit, "pixels_per_unit": 1}}
        await system.control_orchestrator(quote={"fields": dearer, "on": ["refresh_payment"]})
        await _until_the_sdk_gives_up(stream)

    books = await closed_books(system, account)
    said = await summary(system, account, await only_session(system, account))
    assert books.totals.payments == 1
    assert not books.rejected
    assert "refused with 481" in said
    assert "exceeds initial session price ceiling" in said


async def test_tickets_under_a_secret_that_is_gone_are_rejected_and_the_sdk_stops(
    system: System, account: Account
) -> None:
    async with streaming(system, account) as stream:
        await system.control_orchestrator(new_secret=True)
        await _until_the_sdk_gives_up(stream)

    books = await closed_books(system, account)
    assert books.totals.payments == 2
    assert len(books.accepted) == FIRST_TICKETS
    # The first ticket spoils the batch; the orchestrator does not look at the rest.
    assert books.rejected
    assert not books.rejected & books.accepted


async def test_an_orchestrator_that_forgot_the_session_ends_it_and_is_paid_no_more(
    system: System, account: Account
) -> None:
    async with streaming(system, account) as stream:
        await system.control_orchestrator(restart=True)
        await _until_the_sdk_gives_up(stream)

        assert stream.session.released

    books = await closed_books(system, account)
    assert books.totals.payments == 2
    assert not books.rejected
    assert len(books.undelivered) == books.totals.tickets - FIRST_TICKETS


async def _until_the_sdk_gives_up(stream: Streaming) -> None:
    await asyncio.wait([stream.funding], timeout=4 * PAYMENT_SECONDS)
    assert stream.funding.done()
