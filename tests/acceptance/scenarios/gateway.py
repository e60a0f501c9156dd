"""A gateway of go-livepeer's with `-remoteSignerUrl`, as far as payments go: its requests byte for byte.

Written from docs/protocol.md and from what go-livepeer sends; it shares no code with the SDK but
its protobuf messages.
"""

import asyncio
import json
import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import grpc
from livepeer_gateway import lp_rpc_pb2 as pb

from tests.acceptance.system import Account, Answer, System
from tests.acceptance.wire import SIGNER, Paid

LIVE_VIDEO_TO_VIDEO = 35
REFRESHES_MAX = 4  # in a row
RPC_SECONDS = 10


class GatewayError(Exception):
    """What the gateway logs; a stream that runs goes on nevertheless."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"remote signer returned status {answer.status}: {answer.body!r}")
        self.status = answer.status
        self.text = answer.body.decode()


@dataclass
class Gateway:
    """One stream's payments. `requests` counts what it asked the signer."""

    system: System
    account: Account
    orchestrator_url: str
    model: str
    info: Any = None  # OrchestratorInfo, as told last
    state: dict[str, Any] = field(default_factory=lambda: {"State": None, "Sig": None})
    manifest_id: str = ""
    requests: int = 0
    _identity: tuple[bytes, bytes] = (b"", b"")  # address and signature

    async def start(self) -> None:
        """Learn who pays; without an answer the gateway does not start."""
        answer = await self.system.send("POST", "/sign-orchestrator-info", headers=self._headers)
        assert answer.status == 200, answer
        address, signature = (_octets(answer.json[key]) for key in ("address", "signature"))
        self._identity = address, signature
        await self.refresh()

    async def refresh(self) -> None:
        """GetOrchestrator, over gRPC."""
        address, signature = self._identity
        request = pb.OrchestratorRequest(address=address, sig=signature, capabilities=self._capabilities)
        self.info = await asyncio.to_thread(_get_orchestrator, self.orchestrator_url, request)

    async def begin(self) -> None:
        """Start the stream with its first payment, which names no manifest."""
        paid = await self.request_payment()
        body = {"model_id": self.model, "params": {}, "stream_id": "stream", "gateway_request_id": "1"}
        answer = await self._deliver("/live-video-to-video", paid, json.dumps(body).encode())
        assert answer.status == 200, answer
        self.manifest_id = answer.json["manifest_id"]

    async def send_payment(self) -> None:
        """Pay for the stream, and take the ticket params that the orchestrator answers with."""
        answer = await self._deliver("/payment", await self.request_payment())
        assert answer.status == 200, answer
        self.info = pb.PaymentResult.FromString(answer.body).info

    async def request_payment(self) -> Paid:
        """Raises GatewayError for all that is no payment, and for the fifth 480 in a row."""
        for refreshes in range(REFRESHES_MAX + 1):
            answer = await self.ask()
            if answer.status != 480 or refreshes == REFRESHES_MAX:
                break
            await self.refresh()
        if answer.status != 200:
            raise GatewayError(answer)
        paid = Paid.read(answer)
        self.state = {key: paid.state[key] for key in ("State", "Sig")}  # all that the gateway keeps
        return paid

    async def ask(self) -> Answer:
        self.requests += 1
        return await self.system.send("POST", SIGNER, data=self.body(), headers=self._headers)

    def body(self) -> bytes:
        """As Go's encoder writes it: its order of keys, null for no bytes, no spaces."""
        content = {
            "state": self.state,
            "orchestrator": _base64(self.info),
            "ManifestID": self.manifest_id,
            "inPixels": 0,
            "type": "lv2v",
            "capabilities": _base64(self._capabilities) if self.model else None,
        }
        return json.dumps(content, separators=(",", ":")).encode()

    async def _deliver(self, path: str, paid: Paid, data: bytes = b"") -> Answer:
        headers = {"Livepeer-Payment": paid.payment, "Livepeer-Segment": paid.credentials}
        return await self.system.send("POST", self.info.transcoder + path, data=data, headers=headers)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", **self.account.headers}

    @property
    def _capabilities(self) -> Any:
        wanted = pb.Capabilities(
            bitstring=[1 << LIVE_VIDEO_TO_VIDEO], capacities={LIVE_VIDEO_TO_VIDEO: 1}, version="0.9.0"
        )
        wanted.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models[self.model].warm = True
        return wanted if self.model else None


def _get_orchestrator(url: str, request: Any) -> Any:
    """Trust whatever certificate is shown."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    assert host
    assert port
    certificate = ssl.get_server_certificate((host, port), timeout=RPC_SECONDS).encode()
    with grpc.secure_channel(f"{host}:{port}", grpc.ssl_channel_credentials(certificate)) as channel:
        call = channel.unary_unary(
            "/net.Orchestrator/GetOrchestrator",
            request_serializer=pb.OrchestratorRequest.SerializeToString,
            response_deserializer=pb.OrchestratorInfo.FromString,
        )
        return call(request, timeout=RPC_SECONDS)


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _base64(message: Any) -> str:
    return b64encode(message.SerializeToString()).decode()
