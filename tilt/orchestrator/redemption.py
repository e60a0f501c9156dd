"""Redemption: winning tickets become money once their params have expired (§7.4, §10).

Unlike go-livepeer this does not weigh the face value against gas: demo tickets win often and
are worth less than the gas they cost.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import structlog

from tilt.orchestrator.chain import ChainUnreachableError, Head
from tilt.orchestrator.winners import Winner, Winners

log = structlog.get_logger()


class RedemptionError(Exception):
    """This attempt failed; a later one may not."""


class TicketLostError(RedemptionError):
    """No attempt will succeed."""


class Redeemer(Protocol):
    """Redeems on the chain; methods block and raise RedemptionError or ChainUnreachableError."""

    def is_used(self, winner: Winner) -> bool:
        """Tell whether the broker has taken this ticket already."""

    def prepare(self, winner: Winner) -> "Transaction":
        """Sign a redemption that would succeed now."""

    def send(self, transaction: "Transaction") -> None:
        """Send it and wait until it is mined."""


@dataclass(frozen=True, slots=True)
class Transaction:
    hash: str
    raw: bytes


class Redemption:
    def __init__(self, redeemer: Redeemer, winners: Winners, executor: Executor) -> None:
        self._redeemer = redeemer
        self._winners = winners
        self._executor = executor

    async def redeem_due(self, head: Head) -> None:
        if not head.recipient_is_active:
            return
        for winner in self._winners.due(head):
            try:
                await self._redeem(winner)
            except TicketLostError as error:
                self._winners.lost(winner, str(error))
                log.warning("winner_lost", reason=str(error))
            except RedemptionError as error:
                log.warning("redemption_failed", reason=str(error))
            except ChainUnreachableError as error:
                log.warning("chain_unreachable", error=str(error))
                return

    async def _redeem(self, winner: Winner) -> None:
        if winner.tx is not None and await self._run(self._redeemer.is_used, winner):
            # Only we know the preimage, so it was our own transaction that got through.
            self._winners.redeemed(winner)
            return
        transaction = await self._run(self._redeemer.prepare, winner)
        self._winners.sent(winner, transaction.hash)
        await self._run(self._redeemer.send, transaction)
        self._winners.redeemed(winner)
        log.info("winner_redeemed", tx=transaction.hash)

    async def _run[T, R](self, function: Callable[[T], R], argument: T) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, argument)
