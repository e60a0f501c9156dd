"""BYOC jobs: who may run one, what it needs on its balance, and what it costs."""

import base64
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from livepeer_gateway.byoc import ByocJobRequest, _build_livepeer_header

from tests.unit.orchestrator.running_site import Site, running
from tests.unit.orchestrator.wire import Payer, expected_value
from tilt.orchestrator.byoc import rounded

pytestmark = pytest.mark.anyio

TOOL = "/process/request/tool"
JOB = ByocJobRequest(capability="tool", payload={"prompt": "x"})
UNSIGNED = _build_livepeer_header(JOB, "job")


def signed(site: Site, job: ByocJobRequest = JOB) -> str:
    request = json.dumps(job.payload) + (json.dumps(job.parameters) if job.parameters else "")
    signature = site.payer.sign(site.payer.hash(request.encode())).hex()
    header: str = _build_livepeer_header(job, "job", sender=site.payer.address, sig=f"0x{signature}")
    return header


async def process(site: Site, job: str, info: Any = None, nonces: tuple[int, ...] = ()) -> tuple[int, str]:
    payment = site.payer.headers(info, nonces) if info else {}
    headers = {**payment, "Livepeer": job, "Livepeer-Capability": "tool"}
    return await site.post(TOOL, headers=headers, json=JOB.payload)


@pytest.mark.parametrize("is_signed", [False, True])
async def test_a_job_that_is_paid_for_a_minute_is_answered_in_json(tmp_path: Path, is_signed: bool) -> None:  # noqa: FBT001
    async with running(tmp_path) as site:
        info = await site.quote()
        job = signed(site) if is_signed else UNSIGNED
        headers = {**site.payer.headers(info, [1, 2]), "Livepeer": job}
        async with site.client.post(TOOL, headers=headers, json=JOB.payload) as response:
            answer = await response.json()
            told = response.headers["Livepeer-Balance"]
        manifest = await site.manifest("tool")

    assert answer == {"capability": "tool", "echo": {"prompt": "x"}}
    assert (manifest["kind"], manifest["debited"], manifest["units"]) == ("byoc", "3", 1)
    assert Fraction(manifest["balance"]) == 2 * expected_value(info.ticket_params) - 3
    assert told == str(round(Fraction(manifest["balance"])))


async def test_what_is_left_pays_for_the_next_job_until_less_than_a_minute_is(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        job = signed(site, ByocJobRequest(capability="tool", payload={}, parameters={"a": 1}))
        paid, _ = await process(site, job, await site.quote(), (1, 2))
        answers = [await process(site, job) for _ in range(8)]
        anonymous = await process(site, UNSIGNED)

    assert paid == 200
    # 200 wei less 3 a job: 180 are a minute.
    assert [status for status, _ in answers] == [200] * 6 + [400] * 2
    assert answers[-1] == anonymous == (400, "Insufficient balance for request")


async def test_a_payment_below_a_minute_is_kept_but_not_enough(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        answer = await process(site, UNSIGNED, await site.quote(), (1,))
        manifest = await site.manifest("tool")

    assert answer == (400, "Insufficient balance for request")
    assert (manifest["tickets"], manifest["debited"]) == (1, "0")


async def test_a_job_must_be_signed_by_who_pays_if_it_is_signed(tmp_path: Path) -> None:
    def forged(**fields: str) -> str:
        document = {**json.loads(base64.b64decode(signed(site))), **fields}
        return base64.b64encode(json.dumps(document).encode()).decode()

    async with running(tmp_path) as site:
        info = await site.quote()
        other_request = await process(site, forged(request="{}"), info, (1, 2))
        no_hex = await process(site, forged(sig="zz"), info, (1, 2))
        other_sender = await process(site, forged(sender="0x" + "11" * 20), info, (1, 2))
        status = await site.status()

    assert other_request == no_hex == other_sender == (400, "Could not verify job creds")
    assert status["manifests"] == []


async def test_nobody_pays_for_anothers_job(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        job, info = signed(site), await site.quote()
        site.payer = Payer("0x" + "11" * 32)

        answer = await process(site, job, info, (1, 2))
        status = await site.status()

    assert answer == (400, "Insufficient balance for request")
    assert status["manifests"] == []


@pytest.mark.parametrize("header", ["", "%%%", "e30=", "W10=", "bnVsbA=="])
async def test_a_job_that_cannot_be_read_is_refused(tmp_path: Path, header: str) -> None:
    async with running(tmp_path) as site:
        assert await process(site, header, await site.quote(), (1, 2)) == (400, "Could not verify job creds")


async def test_a_job_needs_a_timeout_and_a_capability_that_is_there(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.quote()
        hasty = _build_livepeer_header(ByocJobRequest("tool", timeout_seconds=0), "job")
        unknown = _build_livepeer_header(ByocJobRequest("other"), "job")
        answers = [await process(site, job, info, (1, 2)) for job in (hasty, unknown)]
        await site.control(models={"byoc/tool": {"capacity": 0}})
        answers.append(await process(site, UNSIGNED, info, (1, 2)))

    assert [status for status, _ in answers] == [400, 503, 503]
    assert "timeout_seconds is required" in answers[0][1]
    assert answers[2][1] == "No capacity available for capability"


async def test_a_payment_that_cannot_be_read_pays_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        headers = {"Livepeer": UNSIGNED, "Livepeer-Payment": "%%%"}

        assert await site.post(TOOL, headers=headers, json={}) == (400, "Could not parse payment")


@pytest.mark.parametrize(
    ("amount", "whole"),
    [
        (Fraction(1, 2), 1),
        (Fraction(-1, 2), -1),
        (Fraction(1, 3), 0),
        (Fraction(-5, 2), -3),
        (Fraction(7), 7),
    ],
)
def test_halves_are_rounded_away_from_zero(amount: Fraction, whole: int) -> None:
    assert rounded(amount) == whole
