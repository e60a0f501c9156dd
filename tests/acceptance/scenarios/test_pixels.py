"""Live runners metered by the pixel: type lv2v through the live-runner flow."""

import pytest

from tests.acceptance.scenarios.blocks import expire_params
from tests.acceptance.scenarios.books import all_delivered, manifest
from tests.acceptance.sdk import streaming
from tests.acceptance.system import Account, System

pytestmark = pytest.mark.anyio

APP = "demo/pixels"
FIRST_TICKETS = 30  # for the 60 seconds ahead


async def test_pixels_are_paid_for_a_minute_ahead_and_then_as_they_come(
    system: System, account: Account
) -> None:
    async with streaming(system, account, app=APP) as stream:
        first = await stream.accepted()
        await stream.until_paid_again(seconds=20)
        await expire_params(system)
        accepted = await stream.until_paid_again(seconds=20)

    paid = await manifest(system, stream.manifest_id)
    totals = await all_delivered(system, account)
    [session] = await system.sessions(account)
    assert len(first) == FIRST_TICKETS
    assert len({rand_hash for rand_hash, _ in accepted}) == 2  # it asked for new params in between
    assert (paid["place"], paid["payments"]) == ("pixels", totals.payments)
    assert (session["job_type"], session["app"]) == ("lv2v", APP)
