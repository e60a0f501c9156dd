"""Slow and broken replies of the orchestrator: nothing is charged twice, and streams go on."""

from typing import Any

import pytest
from livepeer_gateway.errors import NoRunnerAvailableError

from tests.acceptance.scenarios.blocks import expire_params
from tests.acceptance.scenarios.books import all_delivered, closed_books, manifest
from tests.acceptance.scenarios.runners import ByHand, reserved
from tests.acceptance.sdk import streaming
from tests.acceptance.system import Account, System

pytestmark = pytest.mark.anyio

LONGER_THAN_THE_SDK_WAITS = 6_500  # milliseconds; aiohttp makes 6 seconds of its 5

FIRST_TICKETS = 10  # for the seconds ahead
UNSEEN: list[dict[str, Any]] = [{"kind": "status"}, {"kind": "reset"}]
SEEN: list[dict[str, Any]] = [
    {"kind": "status", "processed": True},
    {"kind": "reset", "processed": True},
    {"kind": "truncate"},
    {"kind": "garbage"},
]


async def test_the_sdk_pays_on_after_a_lost_payment_and_a_lost_refresh(
    system: System, account: Account
) -> None:
    await system.control_orchestrator(
        expire_params=True,  # so that each payment is preceded by a refresh
        faults=[
            {"route": "refresh_payment", "kind": "status", "times": 1},
            {"route": "session_payment", "kind": "status", "times": 1},
        ],
    )

    async with streaming(system, account) as stream:
        await stream.until_paid_again(seconds=30)

    books = await closed_books(system, account)
    _, lost, *_ = (await system.log()).of(account.account_id).payments
    assert not books.rejected
    assert books.undelivered == {ticket for ticket, _ in lost.signed()}


@pytest.mark.parametrize(("faults", "reach_it"), [(UNSEEN, False), (SEEN, True)])
async def test_a_payment_whose_reply_breaks_is_charged_once_and_the_next_is_another(
    system: System, account: Account, faults: list[dict[str, Any]], *, reach_it: bool
) -> None:
    async with reserved(system, account) as session:
        for fault in faults:
            await _plan(system, "session_payment", fault)
            await _try_to_pay(session)
            await session.pay()
        books = await closed_books(system, account)
        paid = await manifest(system, session.manifest_id)

    assert books.totals.payments == 1 + 2 * len(faults)
    assert paid["payments"] == books.totals.payments - (0 if reach_it else len(faults))
    assert paid["active"]
    assert not books.rejected
    assert len(books.undelivered) == (0 if reach_it else len(faults))


async def test_refreshes_that_fail_cost_nothing_until_one_succeeds(system: System, account: Account) -> None:
    faults = [*UNSEEN, {"kind": "truncate"}, {"kind": "garbage"}]

    async with reserved(system, account) as session:
        await expire_params(system)
        for fault in faults:
            await _plan(system, "refresh_payment", fault)
            assert not await _try_to_pay(session)
        await session.pay()
        await session.pay()

    books = await closed_books(system, account)
    assert books.totals.payments == 3
    assert len({rand_hash for rand_hash, _ in books.accepted}) == 2
    assert books.accepted == books.signed


async def test_an_orchestrator_slower_than_the_sdk_waits_costs_one_payment(
    system: System, account: Account
) -> None:
    slow = {"kind": "delay", "milliseconds": LONGER_THAN_THE_SDK_WAITS}

    async with reserved(system, account) as session:
        await _plan(system, "session_payment", slow)
        paid = await _try_to_pay(session)
        await session.pay()
        books = await closed_books(system, account)

    assert not paid
    assert books.totals.payments == 3
    assert not books.rejected


async def test_slow_orchestrators_are_paid_as_quick_ones(system: System, account: Account) -> None:
    for route in ("reserve", "session_payment", "refresh_payment"):
        await _plan(system, route, {"kind": "delay", "milliseconds": 300})

    async with reserved(system, account) as session:
        await session.pay()

    assert (await all_delivered(system, account)).payments == 2


async def test_a_reservation_that_fails_after_it_was_paid_costs_its_payment(
    system: System, account: Account
) -> None:
    await _plan(system, "reserve", {"kind": "status", "status": 503, "paid": True})

    with pytest.raises(NoRunnerAvailableError, match="HTTP 503"):
        async with reserved(system, account):
            pass
    async with reserved(system, account) as session:
        await session.pay()

    books = await closed_books(system, account)
    assert books.totals.payments == 3
    assert len(books.undelivered) == FIRST_TICKETS
    assert not books.rejected


async def _plan(system: System, route: str, fault: dict[str, Any]) -> None:
    await system.control_orchestrator(faults=[{"route": route, "times": 1, **fault}])


async def _try_to_pay(session: ByHand) -> bool:
    """Pay as the SDK's loop does: whatever goes wrong, it is tried again in the next cycle."""
    try:
        await session.pay()
    except Exception:  # noqa: BLE001 - the SDK's loop makes no difference either
        return False
    return True
