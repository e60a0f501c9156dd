"""The official SDK's live-runner flow: payments, the traces they leave, and refreshed ticket params."""

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.sdk import streaming
from tests.acceptance.system import Account, System, until

pytestmark = pytest.mark.anyio

PARAMS_LIFE_BLOCKS = 41  # after so many blocks an orchestrator takes no ticket under a quote


async def test_what_the_sdk_pays_is_soon_visible(system: System) -> None:
    account = await system.open_account()

    async with streaming(system, account) as stream:
        await stream.until_paid_again(seconds=20)
        accepted = await stream.until_paid_again(seconds=20)
        await until("usage has it", lambda: _usage_has(system, account, len(accepted)), seconds=10)
        [session] = await system.sessions(account)

    assert (session["payments"], session["tickets"]) == (3, len(accepted))
    assert (session["app"], session["job_type"], session["closed"]) == ("demo/echo", "live", False)
    assert not await system.rejected(stream.manifest_id)
    assert (await settled(system, account)).tickets == len(accepted)


async def test_the_timeline_tells_a_session_in_words(system: System) -> None:
    account = await system.open_account()
    async with streaming(system, account) as stream:
        await stream.until_paid_again(seconds=20)
    [session_id] = (await system.log()).of(account.account_id).by_session()

    timeline = await system.timeline(account, session_id)

    assert [entry["event"] for entry in timeline] == [
        "Opened",
        "AllowanceGranted",
        "QuoteAccepted",
        "PaymentSigned",
        "AllowanceGranted",
        "PaymentSigned",
    ]
    assert [entry["at"] for entry in timeline] == sorted(entry["at"] for entry in timeline)
    assert timeline[3]["text"] == "10 tickets signed for 10 units at 1000000000001 wei"


async def test_the_sdk_refreshes_params_whose_auth_token_ends_and_goes_on(system: System) -> None:
    account = await system.open_account()
    await system.control_orchestrator(expire_params=True)  # a token that is good for one payment

    async with streaming(system, account) as stream:
        await system.control_orchestrator(expire_params=False)
        accepted = await stream.until_paid_again(seconds=20)

    assert len({rand_hash for rand_hash, _ in accepted}) == 2
    assert not await system.rejected(stream.manifest_id)
    await settled(system, account)


async def test_the_sdk_refreshes_params_that_blocks_have_outrun_and_goes_on(system: System) -> None:
    account = await system.open_account()

    async with streaming(system, account) as stream:
        await system.mine(PARAMS_LIFE_BLOCKS)  # both sides see it before the next payment is due
        accepted = await stream.until_paid_again(seconds=20)

    assert len({rand_hash for rand_hash, _ in accepted}) == 2
    assert not await system.rejected(stream.manifest_id)
    await settled(system, account)


async def _usage_has(system: System, account: Account, tickets: int) -> bool:
    return (await system.usage(account)).tickets == tickets
