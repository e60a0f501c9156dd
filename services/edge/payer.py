"""Each payer's address and its signature, as orchestrators ask for them; remembered for a minute.

Whatever the account: whoever has the same payer gets the same answer.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from contracts.signer import OrchestratorInfoSigned
from shared.bus import ServiceUnavailableError

REMEMBER_SECONDS = 60.0
REMEMBER_MAX = 1_000

# Asks the signer, for an account, about a payer (None: the signer's first).
# Raises ServiceUnavailableError or CommandRefusedError.
type AskSigner = Callable[[str, str | None], Awaitable[OrchestratorInfoSigned]]


class PayerSignatures:
    def __init__(self, ask: AskSigner) -> None:
        self._ask = ask
        self._known: dict[str | None, tuple[float, OrchestratorInfoSigned]] = {}
        self._asking: dict[str | None, asyncio.Task[OrchestratorInfoSigned]] = {}

    async def get(self, account_id: str, payer: str | None) -> OrchestratorInfoSigned:
        until, known = self._known.get(payer, (0.0, None))
        if known is not None and time.monotonic() < until:
            return known
        asking = self._asking.get(payer)
        if asking is None:  # however many wait, the signer is asked once
            asking = asyncio.create_task(self._remember(account_id, payer))
            self._asking[payer] = asking
            asking.add_done_callback(lambda _: self._asking.pop(payer, None))
        return await asyncio.shield(asking)

    async def _remember(self, account_id: str, payer: str | None) -> OrchestratorInfoSigned:
        signed = await self._ask(account_id, payer)
        # Clients keep the address as long as they run: rather none than another payer's.
        if payer not in {None, signed.address.lower()}:
            raise ServiceUnavailableError(f"asked for {payer}, the signer answered for {signed.address}")
        if len(self._known) >= REMEMBER_MAX:
            self._known.clear()
        self._known[payer] = (time.monotonic() + REMEMBER_SECONDS, signed)
        return signed
