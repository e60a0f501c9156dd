"""The payer's address and its signature, as orchestrators ask for them; remembered for a minute."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from contracts.signer import OrchestratorInfoSigned

REMEMBER_SECONDS = 60.0
REMEMBER_MAX = 10_000

# Asks the signer for an account. Raises ServiceUnavailableError or CommandRefusedError.
type AskSigner = Callable[[str], Awaitable[OrchestratorInfoSigned]]


class PayerSignatures:
    def __init__(self, ask: AskSigner) -> None:
        self._ask = ask
        self._known: dict[str, tuple[float, OrchestratorInfoSigned]] = {}
        self._asking: dict[str, asyncio.Task[OrchestratorInfoSigned]] = {}

    async def get(self, account_id: str) -> OrchestratorInfoSigned:
        until, known = self._known.get(account_id, (0.0, None))
        if known is not None and time.monotonic() < until:
            return known
        asking = self._asking.get(account_id)
        if asking is None:  # however many wait, the signer is asked once
            asking = asyncio.create_task(self._remember(account_id))
            self._asking[account_id] = asking
            asking.add_done_callback(lambda _: self._asking.pop(account_id, None))
        return await asyncio.shield(asking)

    async def _remember(self, account_id: str) -> OrchestratorInfoSigned:
        signed = await self._ask(account_id)
        if len(self._known) >= REMEMBER_MAX:
            self._known.clear()
        self._known[account_id] = (time.monotonic() + REMEMBER_SECONDS, signed)
        return signed
