"""Reads the broker's logs for redeemed tickets, range by range, each block once."""

import asyncio
from typing import Protocol

import structlog

from services.deposit_watcher.application import Watching
from services.deposit_watcher.chain import ChainUnreachableError
from services.deposit_watcher.cursor import LogCursor, Mark
from services.deposit_watcher.domain.redemption import RedeemedTicket
from shared.clock import Clock

log = structlog.get_logger()


class BrokerLogs(Protocol):
    """The broker's logs; every method may raise ChainUnreachableError."""

    async def source(self) -> tuple[int, str]: ...
    async def block_hash(self, number: int) -> str: ...
    async def redemptions(self, first: int, last: int) -> list[RedeemedTicket]: ...


class Scan:
    """One step reads a range; the cursor moves in the transaction that keeps what was found."""

    def __init__(
        self,
        *,
        chain: BrokerLogs,
        watching: Watching,
        cursor: LogCursor,
        clock: Clock,
        first_block: int,
        blocks_max: int,
    ) -> None:
        self._chain = chain
        self._watching = watching
        self._cursor = cursor
        self._clock = clock
        self._start = Mark(first_block - 1, "")
        self._blocks = self._blocks_max = blocks_max

    async def step(self, head: int) -> bool:
        """Read on towards the head; tells whether there is more."""
        chain_id, broker = await self._chain.source()
        contract = f"{chain_id}:{broker}"
        mark = await asyncio.to_thread(self._cursor.get, contract, self._start)
        if mark.block > head:
            log.warning("chain_went_back", read_to=mark.block, head=head)
        if mark.block >= head:
            return False
        last = min(head, mark.block + self._blocks)
        tickets, block_hash = await self._read(mark.block + 1, last)
        done = self._cursor.advance(contract, mark, Mark(last, block_hash))
        found = await asyncio.to_thread(
            self._watching.record_redemptions, chain_id, tickets, self._clock.now(), done
        )
        if found:
            log.info("redemptions_seen", tickets=found, block=last)
        return last < head

    async def _read(self, first: int, last: int) -> tuple[list[RedeemedTicket], str]:
        """Providers refuse what is too much for them: after a failure the next range is half as long."""
        try:
            tickets = await self._chain.redemptions(first, last)
            block_hash = await self._chain.block_hash(last)
        except ChainUnreachableError:
            self._blocks = max(1, self._blocks // 2)
            raise
        self._blocks = min(self._blocks_max, self._blocks * 2)
        return tickets, block_hash
