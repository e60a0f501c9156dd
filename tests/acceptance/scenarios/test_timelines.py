"""Why did my stream stop? The timeline's summary says so, whoever of us refused."""

import pytest
from livepeer_gateway.errors import LivepeerHTTPError

from tests.acceptance.scenarios.books import all_delivered, closed_books, only_session, summary
from tests.acceptance.scenarios.runners import ByHand, reserved
from tests.acceptance.system import OPTIONS, SPEND_LIMIT_WEI, Account, System, until

pytestmark = pytest.mark.anyio

FIRST_TICKETS = 10


async def test_a_spend_limit_that_is_reached_in_mid_stream(system: System) -> None:
    account = await system.open_account(spend_limit_wei=(FIRST_TICKETS + 5) * OPTIONS.ticket_ev_wei)

    async with reserved(system, account) as session:
        await until("the limit ends it", lambda: _is_refused(session, 402), seconds=20)

    books = await closed_books(system, account)
    said = await summary(system, account, await only_session(system, account))
    assert FIRST_TICKETS < books.totals.tickets < FIRST_TICKETS + 5
    assert "Since then refused with 402" in said
    assert "spend limit reached" in said


async def test_an_account_that_is_suspended(system: System, account: Account) -> None:
    async with reserved(system, account) as session:
        await session.pay()
        await system.suspend(account)
        await until("the suspension ends it", lambda: _is_refused(session, 403), seconds=20)
        session_id = await only_session(system, account)

        async def told() -> bool:
            return "the account was withdrawn" in await summary(system, account, session_id)

        await until("the session is closed", told, seconds=20)

    await all_delivered(system, account)


async def test_a_stream_that_was_refused_and_paid_again_is_in_order(system: System) -> None:
    account = await system.open_account(spend_limit_wei=(FIRST_TICKETS + 5) * OPTIONS.ticket_ev_wei)

    async with reserved(system, account) as session:
        await until("the limit ends it", lambda: _is_refused(session, 402), seconds=20)
        await system.set_limit(account, SPEND_LIMIT_WEI)
        await until("it is paid again", lambda: _is_paid(session), seconds=20)

    said = await summary(system, account, await only_session(system, account))
    assert said.endswith("Nothing was refused since.")
    await all_delivered(system, account)


async def _is_paid(session: ByHand) -> bool:
    return not await _is_refused(session, 402)


async def _is_refused(session: ByHand, status: int) -> bool:
    """Pay; false if that went well, or if it shall be tried again."""
    try:
        await session.pay()
    except LivepeerHTTPError as problem:
        if problem.status_code not in {status, 429}:
            raise
        return bool(problem.status_code == status)
    return False
