"""Which accounts there are, as far as somebody asked: once there, one never goes."""

import asyncio
from collections.abc import Iterable

from nats.aio.client import Client

from contracts.accounts import AccountView, GetAccount
from shared.bus import CommandRefusedError, ask

AT_ONCE = 16
KNOWN_MAX = 100_000


class KnownAccounts:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: set[str] = set()
        self._asking = asyncio.Semaphore(AT_ONCE)

    async def missing(self, account_ids: Iterable[str]) -> set[str]:
        """Those of them that there are not. Raises ServiceUnavailableError."""
        unknown = sorted(set(account_ids) - self._known)
        found = await asyncio.gather(*map(self._is_there, unknown))
        return {account_id for account_id, is_there in zip(unknown, found, strict=True) if not is_there}

    async def _is_there(self, account_id: str) -> bool:
        async with self._asking:
            try:
                await ask(self._client, GetAccount(account_id=account_id), AccountView)
            except CommandRefusedError:
                return False
        if len(self._known) < KNOWN_MAX:
            self._known.add(account_id)
        return True
