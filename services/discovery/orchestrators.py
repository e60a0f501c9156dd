"""Asks one orchestrator what it offers: GetOrchestrator by gRPC, and its `/discovery` document."""

import asyncio
import ssl
from collections.abc import Sequence

import aiohttp
import grpc
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from contracts.livepeer.capabilities import MaxPrices
from contracts.livepeer.payments_pb2 import OrchestratorRequest
from services.discovery.application import Credential, OrchestratorFailedError
from services.discovery.domain import Answer, Listing
from services.discovery.outgoing import ForbiddenAddressError, Origin, Resolver
from services.discovery.reading import Info, UnusableAnswerError, read_info, read_listings
from services.discovery.tunnel import LOCALHOST, any_certificate, tunnel

log = structlog.get_logger()

ANSWER_BYTES_MAX = 1024 * 1024  # of either answer
TUNNEL_BYTES_MAX = ANSWER_BYTES_MAX + 64 * 1024  # what gRPC puts around it
METADATA_BYTES_MAX = 16 * 1024
PIECE_BYTES = 64 * 1024
GET_ORCHESTRATOR = "/net.Orchestrator/GetOrchestrator"
NOT_FOUND = 404
OK, REDIRECTS = 200, 300


class Orchestrators:
    def __init__(self, resolver: Resolver, prices: MaxPrices, answer_seconds: float) -> None:
        self._resolver = resolver
        self._prices = prices
        self._answer_seconds = answer_seconds
        self._grpc_tls = any_certificate("h2")
        self._http_tls = any_certificate("http/1.1")

    async def ask(self, origin: Origin, credential: Credential) -> Answer:
        """Ask for both at once. Raises OrchestratorFailedError; without runners if only those fail."""
        deadline = asyncio.get_running_loop().time() + self._answer_seconds
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._resolver.resolve(origin)
        except (OSError, ForbiddenAddressError) as problem:  # a time-out is an OSError
            raise _failed(problem) from problem
        info, listings = await asyncio.gather(
            self._info(origin, addresses, credential, deadline),
            self._listings(origin, addresses, deadline),
            return_exceptions=True,
        )
        for outcome in (info, listings):
            if isinstance(outcome, BaseException):
                raise outcome
        assert isinstance(info, Info)
        assert isinstance(listings, tuple)
        return Answer(info.address, info.offers, listings)

    async def _info(
        self, origin: Origin, addresses: Sequence[str], credential: Credential, deadline: float
    ) -> Info:
        try:
            async with (
                asyncio.timeout_at(deadline),
                tunnel(origin, addresses, self._grpc_tls, bytes_max=TUNNEL_BYTES_MAX) as port,
                _channel(port, origin.authority) as channel,
            ):
                request = OrchestratorRequest(
                    address=credential.address, sig=credential.signature, ignore_capacity_check=True
                )
                call = channel.unary_unary(GET_ORCHESTRATOR)  # bytes in, bytes out: they are read below
                encoded = await call(request.SerializeToString())
            return read_info(encoded, self._prices)
        except (OSError, grpc.RpcError, UnusableAnswerError) as problem:
            raise _failed(problem) from problem

    async def _listings(
        self, origin: Origin, addresses: Sequence[str], deadline: float
    ) -> tuple[Listing, ...]:
        try:
            async with asyncio.timeout_at(deadline):
                body = await _get(f"{origin.url}/discovery", addresses, self._http_tls)
            return read_listings(body) if body is not None else ()
        except (OSError, aiohttp.ClientError, UnusableAnswerError) as problem:
            log.warning("runners_unknown", orchestrator=origin.url, problem=_text(problem))
            return ()


class _Resolved(AbstractResolver):
    """Gives the addresses that were found allowed, whatever the name leads to by now."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


async def _get(url: str, addresses: Sequence[str], tls: ssl.SSLContext) -> bytes | None:
    """The document; None if there is none. No redirects, no proxy, no compression, no cookies."""
    connector = aiohttp.TCPConnector(resolver=_Resolved(addresses), ssl=tls, force_close=True)
    async with (
        aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session,
        session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
    ):
        if response.status == NOT_FOUND:
            return None
        if not OK <= response.status < REDIRECTS:
            raise UnusableAnswerError(f"status {response.status}")
        body = bytearray()
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            body += piece
            if len(body) > ANSWER_BYTES_MAX:
                raise UnusableAnswerError(f"more than {ANSWER_BYTES_MAX} bytes")
        return bytes(body)


def _channel(port: int, authority: str) -> grpc.aio.Channel:
    options = [
        ("grpc.default_authority", authority),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.use_local_subchannel_pool", 1),  # a port may be another orchestrator's the next time
    ]
    return grpc.aio.insecure_channel(f"ipv4:{LOCALHOST}:{port}", options)


def _failed(problem: Exception) -> OrchestratorFailedError:
    return OrchestratorFailedError(_text(problem))


def _text(problem: Exception) -> str:
    """What went wrong in one line; much of it may be the other side's words."""
    if isinstance(problem, grpc.aio.AioRpcError):
        return f"{problem.code().name}: {problem.details()}"[:300]
    return (str(problem) or type(problem).__name__)[:300]
