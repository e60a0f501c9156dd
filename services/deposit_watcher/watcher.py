"""Watches the chain for ever: what is now, what was redeemed, and whether that was ours.

A broken world is waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from eventsourcing.persistence import PersistenceError

from contracts.deposit_watcher import ChainHead, PayerFunds
from services.deposit_watcher.application import Watching
from services.deposit_watcher.chain import ChainUnreachableError
from services.deposit_watcher.cursor import CursorMovedError
from services.deposit_watcher.domain.funds import Observation
from services.deposit_watcher.judge import Judge
from services.deposit_watcher.scan import Scan
from shared.bucket import BucketWriter
from shared.bus import CommandRefusedError, ServiceUnavailableError
from shared.clock import Clock

log = structlog.get_logger()

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
BROKEN_WORLD = (
    ChainUnreachableError,
    PersistenceError,
    CursorMovedError,
    ServiceUnavailableError,
    CommandRefusedError,
)


class Chain(Protocol):
    """The chain as it is; may raise ChainUnreachableError."""

    async def observe(self) -> Observation: ...


class Watcher:
    def __init__(
        self, chain: Chain, watching: Watching, bucket: BucketWriter, clock: Clock, poll_seconds: float
    ) -> None:
        self._chain = chain
        self._watching = watching
        self._bucket = bucket
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._last: Observation | None = None
        self._observed = asyncio.Event()
        self._read_to: Observation | None = None  # whose redemptions were all read

    async def has_observed(self) -> bool:
        return self._observed.is_set()

    async def observe(self) -> None:
        """Look at the chain once a poll; tell signers by the bucket, everybody by events."""
        await self._for_ever("observe", self._observe_once)

    async def scan(self, scan: Scan) -> None:
        """Read the broker's logs up to the block that was observed last."""

        async def step() -> None:
            observation = await self._observation()
            if not await scan.step(observation.block):
                self._read_to = observation
                await asyncio.sleep(self._poll_seconds)

        await self._for_ever("scan", step)

    async def judge(self, judge: Judge) -> None:
        """Say what the redemptions are, as soon as that can be known."""

        async def step() -> None:
            if not await judge.step((await self._observation()).round_clock):
                if self._read_to is not None:
                    await judge.expire(self._read_to)
                await asyncio.sleep(self._poll_seconds)

        await self._for_ever("judge", step)

    async def write_bucket(self) -> None:
        """Until there is a first observation the bucket keeps what an earlier process saw."""
        await self._observed.wait()
        await self._bucket.run({})

    async def _observe_once(self) -> None:
        observation = await self._chain.observe()
        now = self._clock.now()
        for key, entry in bucket_entries(observation, int(now.timestamp() * 1000)).items():
            await self._bucket.put(key, entry)
        self._last = observation
        self._observed.set()
        await asyncio.to_thread(self._watching.observe, observation, now)
        await asyncio.sleep(self._poll_seconds)

    async def _observation(self) -> Observation:
        await self._observed.wait()
        assert self._last is not None
        return self._last

    async def _for_ever(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await step()
                failures = 0
            except BROKEN_WORLD as problem:
                pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                failures += 1
                text = f"{type(problem).__name__}: {problem}"
                log.warning("watcher_waits", what=what, problem=text, seconds=pause)
                await asyncio.sleep(pause)


def bucket_entries(observation: Observation, observed_at_ms: int) -> dict[str, bytes]:
    """The entries of the `chain` bucket. The head is last: who sees it sees the funds of its time."""
    entries = {
        f"payer.{payer}": PayerFunds(
            payer=payer,
            deposit=funds.deposit,
            reserve=funds.reserve,
            withdraw_round=funds.withdraw_round,
            observed_at_ms=observed_at_ms,
        ).model_dump_json()
        for payer, funds in observation.funds_by_payer.items()
    }
    entries["head"] = ChainHead(
        chain_id=observation.chain_id,
        l1_block=observation.l1_block,
        round=observation.round.number,
        round_hash=observation.round.block_hash,
        previous_round_hash=observation.round.previous_block_hash,
        observed_at_ms=observed_at_ms,
    ).model_dump_json()
    return {key: entry.encode() for key, entry in entries.items()}
