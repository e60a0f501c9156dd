"""The chain as last seen: polled in the background, so that no payment waits for a node."""

from dataclasses import dataclass, field

import structlog

from tilt.orchestrator.addresses import Address
from tilt.orchestrator.chain import ChainReader, ChainUnreachableError, Funds, Head
from tilt.orchestrator.refusals import RefusedError

SENDERS_MAX = 1_000

log = structlog.get_logger()


@dataclass(slots=True)
class ChainView:
    chain: ChainReader
    last_head: Head | None = None  # None until the node answered once
    funds_by_sender: dict[Address, Funds] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        if self.last_head is None:
            raise RefusedError(503, "chain not reached yet")
        return self.last_head

    async def funds(self, sender: Address) -> Funds:
        """Tell what a sender has; only a sender never seen before costs a call."""
        if sender not in self.funds_by_sender:
            try:
                self.funds_by_sender[sender] = await self.chain.funds(sender)
            except ChainUnreachableError as error:
                raise RefusedError(503, f"unable to read sender: {error}") from error
            self._forget_oldest()
        return self.funds_by_sender[sender]

    async def refresh(self) -> None:
        """Look again; what cannot be read stays as it was."""
        try:
            self.last_head = await self.chain.head()
            for sender in list(self.funds_by_sender):
                self.funds_by_sender[sender] = await self.chain.funds(sender)
        except ChainUnreachableError as error:
            log.warning("chain_unreachable", error=str(error))

    def _forget_oldest(self) -> None:
        while len(self.funds_by_sender) > SENDERS_MAX:
            del self.funds_by_sender[next(iter(self.funds_by_sender))]
