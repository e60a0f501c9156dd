"""Faults on demand: late, refused, cut, garbled and lost replies, with and without the request's effect."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.unit.orchestrator.running_site import PIXELS, SESSION, path_of, running
from tilt.orchestrator.faults import Fault, Faults

pytestmark = pytest.mark.anyio

PAYMENT = "session_payment"


@pytest.mark.parametrize(
    ("kind", "processed", "error"),
    [
        ("reset", False, aiohttp.ClientConnectionError),
        ("reset", True, aiohttp.ClientConnectionError),
        ("truncate", True, aiohttp.ClientPayloadError),
    ],
)
async def test_a_connection_can_be_torn_before_or_after_the_payment_counts(
    tmp_path: Path,
    kind: str,
    processed: bool,  # noqa: FBT001
    error: Any,
) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        await site.control(faults=[{"route": PAYMENT, "kind": kind, "times": 1, "processed": processed}])

        with pytest.raises(error):
            await site.post(path_of(info), headers=site.payer.headers(info, [2]))
        tickets = (await site.manifest(info.auth_token.session_id))["tickets"]
        again, _ = await site.post(path_of(info), headers=site.payer.headers(info, [3]))

    assert tickets == (2 if processed else 1)
    assert again == 200


@pytest.mark.parametrize(("status", "processed"), [(500, False), (503, True), (429, False)])
async def test_a_payment_can_be_refused_before_or_after_it_counts(
    tmp_path: Path,
    status: int,
    processed: bool,  # noqa: FBT001
) -> None:
    fault = {"route": PAYMENT, "kind": "status", "status": status, "processed": processed}
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        await site.control(faults=[fault])
        answers = [
            await site.post(path_of(info), headers=site.payer.headers(info, [nonce])) for nonce in (2, 3)
        ]
        await site.control(clear_faults=True)
        answers.append(await site.post(path_of(info), headers=site.payer.headers(info, [4])))
        tickets = (await site.manifest(info.auth_token.session_id))["tickets"]

    assert [answer[0] for answer in answers] == [status, status, 200]
    assert tickets == (4 if processed else 2)


async def test_a_reply_can_be_garbled(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(faults=[{"route": "reserve", "kind": "garbage", "times": 1}])

        status, body = await site.post_raw(SESSION, headers={"Livepeer-Payer-Address": site.payer.address})

    assert status == 402
    with pytest.raises(UnicodeDecodeError):
        body.decode()


async def test_a_fault_can_be_kept_to_a_runner_and_to_paid_requests(tmp_path: Path) -> None:
    fault = {"route": "reserve", "kind": "status", "runner": "runner-1", "paid": True}
    async with running(tmp_path) as site:
        await site.control(faults=[fault])
        _, info = await site.challenge()
        paid, _ = await site.post(SESSION, headers=site.payer.headers(info, [1]), json={})
        await site.reserve(1, path=PIXELS)
        [told] = (await site.status())["faults"]

    assert paid == 500
    assert told == {**fault, "milliseconds": 0, "status": 500, "processed": False, "hits": 1}


async def test_a_reply_can_be_late(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(faults=[{"route": "discovery", "kind": "delay", "milliseconds": 60_000}])
        late = asyncio.create_task(site.get("/discovery"))
        while not (await site.status())["faults"][0]["hits"]:
            await asyncio.sleep(0)

        assert not late.done()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)


async def test_faults_work_over_tls_too(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as site:
        await site.control(
            faults=[
                {"route": "reserve", "kind": "reset", "times": 1},
                {"route": "reserve", "kind": "truncate", "times": 1},
            ]
        )
        for error in (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            with pytest.raises(error):
                await site.post(f"{site.tls_url}{SESSION}", ssl=False)

        status, _ = await site.post(f"{site.tls_url}{SESSION}", ssl=False)

    assert status == 402


def test_a_request_meets_all_delays_and_one_breakage() -> None:
    faults = Faults()
    for _ in range(2):
        faults.plan(Fault(route="payment", kind="delay", milliseconds=250))
    faults.plan(Fault(route="payment", kind="reset", times=1))
    faults.plan(Fault(route="payment", kind="garbage", times=1))
    faults.plan(Fault(route="segment", kind="status"))

    met = [faults.next("payment") for _ in range(3)]

    assert [trouble.delay_seconds for trouble in met] == [0.5, 0.5, 0.5]
    kinds = [trouble.breakage.kind if trouble.breakage else None for trouble in met]
    assert kinds == ["reset", "garbage", None]
    assert [plan.hits for plan in faults.plans] == [3, 3, 1, 1, 0]
