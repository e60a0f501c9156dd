"""The TLS origin: the official SDK asks for quotes by gRPC and starts streams by HTTPS at one port."""

import asyncio
import os
import ssl
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from livepeer_gateway import lp_rpc_pb2 as net
from livepeer_gateway import orch_info
from livepeer_gateway.byoc import ByocJobRequest, submit_byoc_job
from livepeer_gateway.capabilities import CapabilityId, build_capabilities
from livepeer_gateway.control import ControlConfig, ControlMode
from livepeer_gateway.errors import LivepeerGatewayError
from livepeer_gateway.lv2v import LiveVideoToVideo, StartJobRequest, start_lv2v
from livepeer_gateway.orch_info import OrchestratorRpcError, get_orch_info

from tests.unit.orchestrator.running_site import SESSION, Site, running, trusting_anybody
from tests.unit.orchestrator.small_signer import SmallSigner, signing
from tests.unit.orchestrator.wire import Payer
from tests.unit.orchestrator.world import PIXEL_PRICE, PIXELS_PER_PRICE, RECIPIENT
from tilt.orchestrator.certificate import self_signed

pytestmark = pytest.mark.anyio

FLOW = build_capabilities(CapabilityId.LIVE_VIDEO_TO_VIDEO, "flow")


async def ask(site: Site, signer_url: str, **how: Any) -> Any:
    """Let the SDK ask for a quote, which blocks its thread."""
    return await asyncio.to_thread(get_orch_info, site.tls_url, signer_url=signer_url, **how)


async def test_the_sdk_gets_a_quote_from_a_certificate_it_trusts_on_first_use(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as site, signing(SmallSigner(site.payer)) as signer_url:
        info = await ask(site, signer_url)
        again = await ask(site, signer_url)

    assert (info.transcoder, info.address) == (site.tls_url, RECIPIENT)
    assert info.auth_token.session_id != again.auth_token.session_id
    assert [price.constraint for price in info.capabilities_prices] == ["flow", "cold", "tool"]
    pinned, name = orch_info._TOFU_CERT_CACHE[site.tls_url.removeprefix("https://")]  # noqa: SLF001
    assert (pinned.decode(), name) == ((tmp_path / "cert.pem").read_text(), "localhost")


async def test_the_sdk_gets_the_price_of_the_model_it_names(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as site, signing(SmallSigner(site.payer)) as signer_url:
        info = await ask(site, signer_url, capabilities=FLOW)

    assert info.price_info == net.PriceInfo(pricePerUnit=PIXEL_PRICE, pixelsPerUnit=PIXELS_PER_PRICE)


async def test_the_sdk_trusts_anew_after_another_certificate(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as site, signing(SmallSigner(site.payer)) as signer_url:
        await ask(site, signer_url)
        before = (tmp_path / "cert.pem").read_text()

        assert await site.control(new_certificate=True) == 200
        info = await ask(site, signer_url)

    assert info.transcoder == site.tls_url
    assert (tmp_path / "cert.pem").read_text() != before


async def test_a_sender_who_cannot_prove_its_address_is_refused(tmp_path: Path) -> None:
    class Liar(Payer):
        def sign_orchestrator_info(self) -> dict[str, str]:
            return {**super().sign_orchestrator_info(), "address": "0x" + "11" * 20}

    async with running(tmp_path, tls=True) as site, signing(SmallSigner(Liar())) as signer_url:
        with pytest.raises(OrchestratorRpcError, match=r"UNKNOWN.*orchestrator req sig check failed"):
            await ask(site, signer_url)
        counters = (await site.status())["counters"]

    assert (counters["orchestrator_infos"], counters["rpcs_refused"]) == (0, 1)


async def test_ping_is_signed_by_the_orchestrator_and_tokens_end_sessions(tmp_path: Path) -> None:
    def talk(info: net.OrchestratorInfo) -> tuple[bytes, Any]:
        channel, stub = orch_info.create_orchestrator_stub(site.tls_url)
        with channel:
            pong = stub.Ping(net.PingPong(value=b"hello"), timeout=60)
            request = net.EndTranscodingSessionRequest(auth_token=info.auth_token)
            ended = stub.EndTranscodingSession(request, timeout=60)
            request.auth_token.session_id = "deadbeef"
            with pytest.raises(grpc.RpcError, match="Invalid auth token"):
                stub.EndTranscodingSession(request, timeout=60)
        return pong.value, ended

    async with running(tmp_path, tls=True) as site, signing(SmallSigner(site.payer)) as signer_url:
        info = await ask(site, signer_url)
        signature, ended = await asyncio.to_thread(talk, info)
        counters = (await site.status())["counters"]

    own_key = Payer("0x" + "00" * 31 + "07")
    assert signature == own_key.sign(own_key.hash(b"hello"))
    assert ended == net.EndTranscodingSessionResponse()
    assert counters["sessions_ended"] == 1


async def test_https_serves_what_http_does_under_its_own_origin(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as site:
        url, who = site.tls_url, {"Livepeer-Payer-Address": site.payer.address}
        async with site.client.post(f"{url}{SESSION}", headers=who, ssl=False) as response:
            secure = await response.json()
        async with site.client.get(f"{url}/discovery", ssl=False) as response:
            [entry] = await response.json()
        plain, _ = await site.challenge()
        both = await site.get("/discovery")

    assert secure["orchestrator"] == url
    assert secure["payment_url"].startswith(f"{url}{SESSION}")
    assert plain["orchestrator"] == site.orchestrator.url
    assert entry["address"] == url
    assert {runner["url"].rpartition("/apps")[0] for runner in entry["runners"]} == {url}
    assert "live-video-to-video/flow" in entry["capabilities"]
    assert [one["address"] for one in both] == [site.orchestrator.url, url]
    assert "runners" not in both[1]
    assert both[1]["capabilities"] == ["live-video-to-video/cold", "live-video-to-video/flow"]


def start(site: Site, signer_url: str, model: str = "flow") -> LiveVideoToVideo:
    return start_lv2v(
        site.tls_url,
        StartJobRequest(model_id=model),
        signer_url=signer_url,
        start_payments=False,
        control_config=ControlConfig(mode=ControlMode.DISABLED),
        timeout=60,
    )


async def test_the_sdk_starts_a_stream_and_pays_on(tmp_path: Path) -> None:
    signer = SmallSigner(Payer(), seconds=1)
    async with running(tmp_path, tls=True) as site, signing(signer) as signer_url:
        job = await asyncio.to_thread(start, site, signer_url)
        assert job.payment_session is not None
        await asyncio.to_thread(job.payment_session.send_payment)
        manifest = await site.manifest(str(job.manifest_id))
        await job.close()

    channel = f"{site.tls_url}/ai/trickle/{job.manifest_id}"
    assert (job.publish_url, job.subscribe_url) == (channel, f"{channel}-out")
    assert (job.control_url, job.events_url) == (f"{channel}-control", f"{channel}-events")
    assert [request.get("ManifestID") for request in signer.requests] == [None, job.manifest_id]
    assert signer.quotes[0] == signer.quotes[1]
    assert (manifest["kind"], manifest["place"]) == ("live-video-to-video", "live-video-to-video/flow")
    assert (manifest["payments"], manifest["tickets"], manifest["active"]) == (2, 4, True)


async def test_the_sdk_pays_as_output_comes_until_its_stream_is_released(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as site, signing(SmallSigner(Payer(), seconds=1)) as signer_url:
        job = await asyncio.to_thread(start, site, signer_url)
        sender = job.start_payment_sender()
        assert sender is not None
        async with asyncio.timeout(60):
            while (await site.manifest(str(job.manifest_id)))["payments"] < 2:
                await asyncio.sleep(0.05)
            await site.control(release=job.manifest_id)
            await sender
        manifest = await site.manifest(str(job.manifest_id))
        await job.close()

    assert manifest["release_reason"] == "released by a test"


async def test_the_sdk_runs_a_job_of_ones_own_container(tmp_path: Path) -> None:
    """The SDK asks for the quote at port 8935 of the host, whatever the URL says."""
    host = f"127.83.{os.getpid() % 251}.{os.getpid() // 251 % 251}"  # nobody else's 8935
    job = ByocJobRequest("tool", payload={"prompt": "x"})
    async with (
        running(tmp_path, tls=True, host=host, tls_port=8935) as site,
        signing(SmallSigner(Payer(), seconds=1)) as signer_url,
    ):
        response = await asyncio.to_thread(
            submit_byoc_job, job, orch_url=site.tls_url, signer_url=signer_url, timeout=60
        )
        manifest = await site.manifest("tool")

    assert response.data == {"capability": "tool", "echo": {"prompt": "x"}}
    assert response.balance == str(round(Fraction(manifest["balance"])))
    assert (manifest["kind"], manifest["tickets"], manifest["units"]) == ("byoc", 100, 1)


async def test_a_stream_of_an_unknown_model_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as site, signing(SmallSigner(Payer())) as signer_url:
        with pytest.raises(LivepeerGatewayError, match="503"):
            await asyncio.to_thread(start, site, signer_url, "no-such-model")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "status"}, "INTERNAL: broken on demand"),
        ({"kind": "garbage"}, "Error parsing|deserializ"),
        ({"kind": "truncate"}, "Error parsing|deserializ"),
        ({"kind": "reset"}, "UNAVAILABLE"),
    ],
)
async def test_quotes_can_be_broken_on_demand(tmp_path: Path, fault: dict[str, Any], error: str) -> None:
    async with running(tmp_path, tls=True) as site, signing(SmallSigner(site.payer)) as signer_url:
        await site.control(faults=[{"route": "get_orchestrator", "times": 1, **fault}])

        with pytest.raises(OrchestratorRpcError, match=error):
            await ask(site, signer_url)
        info = await ask(site, signer_url)
        status = await site.status()

    assert info.transcoder == site.tls_url
    assert [fault["hits"] for fault in status["faults"]] == [1]


async def test_a_capped_orchestrator_quotes_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as site, signing(SmallSigner(site.payer)) as signer_url:
        await site.control(capped=True)

        with pytest.raises(OrchestratorRpcError, match="OrchestratorCapped"):
            await ask(site, signer_url)


async def test_what_is_no_request_is_refused_by_grpc(tmp_path: Path) -> None:
    def talk() -> grpc.RpcError:
        channel, _ = orch_info.create_orchestrator_stub(site.tls_url)
        with channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/net.Orchestrator/GetOrchestrator")(b"\xff", timeout=60)
        return refused.value

    async with running(tmp_path, tls=True) as site:
        error: Any = await asyncio.to_thread(talk)

    assert error.code() == grpc.StatusCode.INTERNAL


async def test_there_is_no_tls_without_a_port_for_it(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        assert await site.control(new_certificate=True) == 400
        assert (await site.status())["tls_url"] is None
        assert not (tmp_path / "cert.pem").exists()


def test_a_certificate_names_every_host(tmp_path: Path) -> None:
    certificate, key = self_signed(["localhost", "127.0.0.1", "127.0.0.2"], now=datetime.now(UTC))
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, text in zip(paths, (certificate, key), strict=True):
        path.write_text(text)

    context = ssl.create_default_context(cafile=paths[0])
    context.load_cert_chain(*paths)

    [known] = context.get_ca_certs()
    assert known["subjectAltName"] == (
        ("DNS", "localhost"),
        ("IP Address", "127.0.0.1"),
        ("IP Address", "127.0.0.2"),
    )


async def test_a_client_that_verifies_accepts_the_certificate_for_all_its_names(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as site:
        context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        for host in ("127.0.0.1", "localhost"):
            url = f"{site.tls_url.replace('127.0.0.1', host)}/discovery"
            async with site.client.get(url, ssl=context) as response:
                assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await site.client.get(f"{site.tls_url}/discovery")


async def test_connections_come_and_go_without_a_word(tmp_path: Path) -> None:
    """As port scanners and health checks do."""
    async with running(tmp_path, tls=True) as site:
        host, port = "127.0.0.1", int(site.tls_url.rpartition(":")[2])
        for protocols in (["h2"], ["http/1.1"], []):
            context = trusting_anybody()
            context.set_alpn_protocols(protocols)
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            writer.close()
            await writer.wait_closed()

        async with site.client.get(f"{site.tls_url}/discovery", ssl=False) as response:
            assert response.status == 200
