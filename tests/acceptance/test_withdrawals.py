"""What is withdrawn stops at once: revoked keys, suspended accounts; and its allowance comes back."""

import asyncio

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.sdk import PAYMENT_SECONDS, Streaming, streaming
from tests.acceptance.system import Account, System, until
from tests.acceptance.wire import Payer, request

pytestmark = pytest.mark.anyio


async def test_a_revoked_key_stops_the_session_it_pays(system: System) -> None:
    account = await system.open_account()

    async with streaming(system, account) as stream:
        await _until_it_holds_an_allowance(stream)
        await system.revoke_key(account)
        await until("the key is refused", lambda: _is_refused(system, account, 401), seconds=10)
        await until("the allowance is back", lambda: _holds_nothing(system, account), seconds=15)
        await asyncio.wait([stream.funding], timeout=2 * PAYMENT_SECONDS)

        assert stream.funding.done()  # the SDK gave up, as 401 tells it to
    assert (await settled(system, account)).payments == 2


async def test_a_suspended_account_is_refused_until_it_is_resumed(system: System) -> None:
    account = await system.open_account()
    payer = Payer(system, account)
    challenge = await payer.challenge()
    paid = await payer.pay(challenge, await payer.pay(challenge))
    held = await until("an allowance is held", lambda: system.held(account), seconds=10)

    await system.suspend(account)
    await until("the account is refused", lambda: _is_refused(system, account, 403), seconds=10)
    await until("the allowance is back", lambda: _holds_nothing(system, account), seconds=15)
    await system.resume(account)

    async def may_pay() -> bool:
        return (await payer.ask(request(challenge, paid.state))).status == 200

    assert held > 0
    await until("the session goes on", may_pay, seconds=15)
    await settled(system, account)


async def _until_it_holds_an_allowance(stream: Streaming) -> None:
    """The second payment asks for a minute ahead."""
    await stream.until_paid_again(seconds=20)
    await until("an allowance is held", lambda: stream.system.held(stream.account), seconds=10)


async def _is_refused(system: System, account: Account, status: int) -> bool:
    return (await Payer(system, account).ask(b"{}")).status == status


async def _holds_nothing(system: System, account: Account) -> bool:
    return await system.held(account) == 0
