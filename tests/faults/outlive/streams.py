"""Running streams of the official SDK, and when the orchestrator or the SDK ended which of them."""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
from livepeer_gateway.errors import LivepeerGatewayError
from livepeer_gateway.lv2v import LiveVideoToVideo, StartJobRequest, start_lv2v

from tests.acceptance.sdk import Streaming, streaming
from tests.acceptance.system import Account, System, until

ACCOUNTS = 4
RUNNERS = 10  # by the second, paid each 3 s
LIVE_VIDEOS = 2  # by the pixel, paid each 5 s; the first payment covers a minute
APART_SECONDS = 0.35  # so that a fault meets them anywhere between two payments
POLL_SECONDS = 0.2
PAYMENTS_BEFORE = 3  # then it is in its stride, and has what it is paid ahead
MODEL = "demo-model"
SHOWN_MAX = 2_000
STARTED_WITHIN_SECONDS = 60.0


class Stream(Protocol):
    """What both kinds have; `ended` tells that the SDK pays no more."""

    @property
    def manifest_id(self) -> str: ...

    def ended(self) -> bool: ...


@dataclass
class Runner:
    streaming: Streaming

    @property
    def manifest_id(self) -> str:
        return self.streaming.manifest_id

    def ended(self) -> bool:
        return self.streaming.funding.done()


@dataclass
class LiveVideo:
    job: LiveVideoToVideo

    @property
    def manifest_id(self) -> str:
        return str(self.job.manifest_id)

    def ended(self) -> bool:
        task = self.job.start_payment_sender()
        return task is None or task.done()


@dataclass
class Streams:
    """All streams that are to run; `lost` maps what was cut to when, by the monotonic clock."""

    system: System
    origin: str
    running: list[Stream] = field(default_factory=list)
    lost: dict[str, float] = field(default_factory=dict)
    payments: dict[str, int] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    accounts: list[Account] = field(default_factory=list)

    async def fill_up(self) -> None:
        """Start as many as are missing, and wait until all are in their stride."""
        self.running = [stream for stream in self.running if stream.manifest_id not in self.lost]
        videos = sum(isinstance(stream, LiveVideo) for stream in self.running)
        accounts = await self._opened()
        for place in range(RUNNERS - (len(self.running) - videos)):
            await self._start_runner(accounts[place % len(accounts)])
            await asyncio.sleep(APART_SECONDS)
        for place in range(LIVE_VIDEOS - videos):
            await self._start_video(accounts[place % len(accounts)])
        await self.until_paid({stream.manifest_id: PAYMENTS_BEFORE for stream in self.running})

    async def renew(self) -> None:
        """End all; those that start next have paid for little more than they used.

        A runner's payment is for the seconds begun, so what it has paid ahead grows as it runs.
        """
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        self.running = []

    async def until_all_paid_again(self, *, times: int, seconds: float) -> None:
        """Wait until each that runs was paid so often more; those that are lost are counted elsewhere."""
        wanted = {id_: self.payments.get(id_, 0) + times for id_ in self.alive()}
        await self.until_paid(wanted, seconds=seconds)

    async def until_paid(self, wanted: dict[str, int], *, seconds: float = STARTED_WITHIN_SECONDS) -> None:
        async def paid() -> bool:
            missing = {id_ for id_, least in wanted.items() if self.payments.get(id_, 0) < least}
            return missing <= self.lost.keys()

        await until("all streams were paid", paid, seconds=seconds)

    def alive(self) -> list[str]:
        return [stream.manifest_id for stream in self.running if stream.manifest_id not in self.lost]

    async def watch(self) -> None:
        """Note for ever what the orchestrator says of each stream, and whether the SDK still pays."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                self._note(await self._manifests())
            await asyncio.sleep(POLL_SECONDS)

    async def close(self) -> None:
        await self._stack.aclose()

    def _note(self, manifests: dict[str, dict[str, Any]]) -> None:
        for stream in self.running:
            manifest = manifests.get(stream.manifest_id)
            if manifest is None:
                continue
            self.payments[stream.manifest_id] = manifest["payments"]
            if (not manifest["active"] or stream.ended()) and stream.manifest_id not in self.lost:
                self.lost[stream.manifest_id] = time.monotonic()

    async def _manifests(self) -> dict[str, dict[str, Any]]:
        url = f"{self.system.world.orchestrator_url}/status?limit={SHOWN_MAX}"
        found = (await self.system.send("GET", url)).json["manifests"]
        return {manifest["manifest_id"]: manifest for manifest in found}

    async def _opened(self) -> Sequence[Account]:
        """Their tokens name the origin, behind which both edges are."""
        while len(self.accounts) < ACCOUNTS:
            self.accounts.append(await _open_account(self.system, self.origin))
        return self.accounts

    async def _start_runner(self, account: Account) -> None:
        self.running.append(Runner(await self._start(lambda: streaming(self.system, account))))

    async def _start_video(self, account: Account) -> None:
        self.running.append(LiveVideo(await self._start(lambda: _video(self.system, account))))

    async def _start[T](self, opening: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Try again if it is refused: to begin a stream is no part of what is measured."""
        deadline = time.monotonic() + STARTED_WITHIN_SECONDS
        while True:
            try:
                return await self._stack.enter_async_context(_forgiving(opening()))
            except LivepeerGatewayError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(APART_SECONDS)


@asynccontextmanager
async def watched(system: System, origin: str) -> AsyncIterator[Streams]:
    """No streams yet; they are watched, and end with the block."""
    streams = Streams(system, origin)
    watching = asyncio.create_task(streams.watch())
    try:
        yield streams
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await streams.close()


@asynccontextmanager
async def _forgiving[T](opened: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """A stream that was cut cannot be closed in order; that is no fault of the one who closes it."""
    inner = await opened.__aenter__()
    try:
        yield inner
    finally:
        with contextlib.suppress(LivepeerGatewayError, aiohttp.ClientError, OSError):
            await opened.__aexit__(None, None, None)


@asynccontextmanager
async def _video(system: System, account: Account) -> AsyncIterator[LiveVideoToVideo]:
    job = start_lv2v(None, StartJobRequest(model_id=MODEL), token=account.sdk_token)
    try:
        yield job
    finally:
        await job.close()
        await asyncio.gather(job.start_payment_sender(), return_exceptions=True)
        released = json.dumps({"release": job.manifest_id}).encode()  # 404 if it was cut before
        await system.send("POST", f"{system.world.orchestrator_url}/control", data=released)


async def _open_account(system: System, origin: str) -> Account:
    account_id = f"test-{secrets.token_hex(4)}"
    opened = await system.call("POST", f"{origin}/v1/accounts", body={"account_id": account_id})
    assert opened.status == 201, opened
    issued = await system.call("POST", f"{origin}/v1/accounts/{account_id}/keys", body={})
    return Account.of(issued.json)
