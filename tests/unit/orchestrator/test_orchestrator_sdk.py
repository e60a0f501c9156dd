"""The official SDK at live runners: what it reserves, calls and pays without knowing it is watched."""

from fractions import Fraction
from pathlib import Path

import pytest
from livepeer_gateway.errors import LivepeerGatewayError, NoRunnerAvailableError
from livepeer_gateway.live_runner import LiveRunnerCallResult
from livepeer_gateway.selection import reserve_session, runner_selector

from tests.unit.orchestrator.running_site import Site, running
from tests.unit.orchestrator.small_signer import SmallSigner, signing
from tests.unit.orchestrator.wire import Payer

pytestmark = pytest.mark.anyio


async def call(site: Site, signer_url: str, app: str) -> LiveRunnerCallResult:
    cursor = await runner_selector(
        orchestrators=[site.orchestrator.url],
        signer_url=signer_url,
        app=app,
        body={"say": "hello"},
        timeout=60,
    )
    return await cursor.next()


@pytest.mark.parametrize(
    ("app", "place", "job_type"), [("demo/echo", "runner-1", "live"), ("demo/pixels", "pixels", "lv2v")]
)
async def test_a_metered_session_is_reserved_and_given_back(
    tmp_path: Path, app: str, place: str, job_type: str
) -> None:
    signer = SmallSigner(Payer(), seconds=10)
    async with running(tmp_path) as site, signing(signer) as signer_url:
        session = await reserve_session(
            orchestrators=[site.orchestrator.url], signer_url=signer_url, app=app, timeout=60
        )
        async with session:
            running_now = await site.manifest(session.session_id)
        ended = await site.manifest(session.session_id)

    assert [request["type"] for request in signer.requests] == [job_type]
    assert (running_now["place"], running_now["active"]) == (place, True)
    assert (ended["active"], ended["release_reason"]) == (False, "stopped")


async def test_a_call_at_a_fixed_price_is_paid_once(tmp_path: Path) -> None:
    signer = SmallSigner(Payer())
    async with running(tmp_path) as site, signing(signer) as signer_url:
        result = await call(site, signer_url, "demo/once")
        manifest = await site.manifest(result.session_id)

    assert result.data == {"say": "hello"}
    assert [request["type"] for request in signer.requests] == ["fixed"]
    assert (manifest["units"], manifest["tickets"], manifest["debited"]) == (1, 3, "250")
    assert 0 <= Fraction(manifest["balance"]) < 101


async def test_a_runner_that_challenges_again_and_again_is_paid_afresh_each_time(tmp_path: Path) -> None:
    signer = SmallSigner(Payer())
    async with running(tmp_path) as site, signing(signer) as signer_url:
        await site.control(repeat_402=6)
        result = await call(site, signer_url, "demo/once")
        status = await site.status()

    manifests = [request["ManifestID"] for request in signer.requests]
    assert len(set(manifests)) == 7
    assert not any("state" in request for request in signer.requests)
    assert result.session_id == manifests[-1]
    assert [ignored["manifest_id"] for ignored in status["ignored"]] == manifests[:-1]


async def test_a_runner_that_never_takes_a_payment_is_given_up(tmp_path: Path) -> None:
    signer = SmallSigner(Payer())
    async with running(tmp_path) as site, signing(signer) as signer_url:
        await site.control(repeat_402={"times": 100, "same": True})
        with pytest.raises(NoRunnerAvailableError):
            await call(site, signer_url, "demo/once")
        counters = (await site.status())["counters"]

    assert len({request["ManifestID"] for request in signer.requests}) == 1
    assert (counters["challenges"], counters["payments_ignored"]) == (8, 7)


@pytest.mark.parametrize("kind", ["garbage", "truncate", "reset", "status"])
async def test_broken_challenges_are_errors_to_the_sdk(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path) as site, signing(SmallSigner(Payer())) as signer_url:
        await site.control(faults=[{"route": "call", "kind": kind}])
        with pytest.raises(LivepeerGatewayError):
            await call(site, signer_url, "demo/once")
        await site.control(reset=True)
        result = await call(site, signer_url, "demo/once")

    assert result.data == {"say": "hello"}
