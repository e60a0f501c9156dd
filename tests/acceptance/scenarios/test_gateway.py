"""go-livepeer's gateway: its requests byte for byte, its 480 loop, fresh params with each payment."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.acceptance.scenarios.blocks import expire_params
from tests.acceptance.scenarios.books import all_delivered, manifest
from tests.acceptance.scenarios.gateway import REFRESHES_MAX, Gateway, GatewayError
from tests.acceptance.system import Account, System, until

pytestmark = pytest.mark.anyio

MODEL = "demo-model"
KEY = f"live-video-to-video/{MODEL}"
PRICE_WEI = 5_400  # a pixel; a second of 720p costs one and a half tickets
FIRST_TICKETS = 90  # for the 60 seconds ahead
PACE_SECONDS = 0.3


@pytest.fixture
async def gateway(system: System, account: Account) -> AsyncIterator[Gateway]:
    await system.control_orchestrator(models={KEY: {"price_per_unit": PRICE_WEI}})
    gateway = Gateway(system, account, system.world.orchestrator_tls_url, MODEL)
    await gateway.start()
    await gateway.begin()
    yield gateway
    await system.control_orchestrator(release=gateway.manifest_id)


async def test_a_stream_is_paid_with_fresh_params_each_time(
    system: System, account: Account, gateway: Gateway
) -> None:
    await _pay(gateway, times=6)

    stream = await manifest(system, gateway.manifest_id)
    accepted = await system.accepted(gateway.manifest_id)
    totals = await all_delivered(system, account)
    assert (stream["place"], stream["payments"]) == (KEY, totals.payments)
    assert totals.payments == 7
    assert len({rand_hash for rand_hash, _ in accepted}) == 6  # only the answer to the first brings none
    assert totals.tickets > FIRST_TICKETS
    assert len(await system.sessions(account)) == 1


async def test_the_first_request_has_the_bytes_that_go_sends(system: System, account: Account) -> None:
    gateway = Gateway(system, account, system.world.orchestrator_tls_url, "")
    await gateway.start()

    body = gateway.body()
    answer = await gateway.ask()

    assert body.startswith(b'{"state":{"State":null,"Sig":null},"orchestrator":"')
    assert body.endswith(b'","ManifestID":"","inPixels":0,"type":"lv2v","capabilities":null}')
    assert answer.status == 200
    assert set(answer.json) == {"payment", "segCreds", "state"}


async def test_what_is_not_due_is_an_error_that_costs_nothing(
    system: System, account: Account, gateway: Gateway
) -> None:
    async def nothing_is_due() -> int:
        try:
            await gateway.send_payment()
        except GatewayError as error:
            return error.status
        return 0

    # Each payment leaves more than a moment costs, so soon there is nothing to pay.
    status = await until("a payment is not due", nothing_is_due, seconds=10)

    assert status == 482
    await _pay(gateway, times=1)
    await all_delivered(system, account)


async def test_expired_params_are_asked_for_anew_and_the_stream_goes_on(
    system: System, account: Account, gateway: Gateway
) -> None:
    await expire_params(system)
    refused = await gateway.ask()

    before = gateway.requests
    await gateway.send_payment()
    asked = gateway.requests - before
    await _pay(gateway, times=1)

    assert refused.status == 480
    assert refused.headers["Livepeer-Orchestrator-Url"] == gateway.info.transcoder
    assert asked == 2
    assert (await all_delivered(system, account)).payments == 3
    assert len(await system.sessions(account)) == 1


async def test_an_orchestrator_whose_params_are_never_fresh_is_asked_four_times(
    system: System, account: Account, gateway: Gateway
) -> None:
    await system.control_orchestrator(token_life_seconds=60)  # the signer wants 180 at least
    await gateway.refresh()
    before = gateway.requests

    with pytest.raises(GatewayError) as error:
        await gateway.send_payment()
    asked = gateway.requests - before
    await system.control_orchestrator(expire_params=False)
    await _pay(gateway, times=1)

    assert error.value.status == 480
    assert asked == REFRESHES_MAX + 1
    await all_delivered(system, account)


async def test_a_higher_price_is_refused_until_it_is_lowered_again(
    system: System, account: Account, gateway: Gateway
) -> None:
    await system.control_orchestrator(models={KEY: {"price_per_unit": PRICE_WEI + 1}})
    await gateway.refresh()

    with pytest.raises(GatewayError) as error:
        await gateway.send_payment()
    await system.control_orchestrator(models={KEY: {"price_per_unit": PRICE_WEI}})
    await gateway.refresh()
    await _pay(gateway, times=1)

    assert error.value.status == 481
    assert "exceeds initial session price ceiling" in error.value.text
    await all_delivered(system, account)


async def _pay(gateway: Gateway, *, times: int) -> None:
    """Pay so often, at a pace at which not every payment is due."""
    paid = 0

    async def enough() -> bool:
        nonlocal paid
        try:
            await gateway.send_payment()
        except GatewayError as error:
            if error.status != 482:
                raise
            await asyncio.sleep(PACE_SECONDS)
        else:
            paid += 1
        return paid >= times

    await until(f"{times} payments were made", enough, seconds=30)
