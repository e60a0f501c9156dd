"""Takes allowances back: asks the signer to close sessions that are idle or withdrawn.

Nothing is freed here. The signer stores the close, and what it says was spent frees the rest.
"""

import asyncio
from datetime import timedelta

import structlog
from eventsourcing.persistence import PersistenceError
from nats.aio.client import Client

from contracts.signer import CloseSession, Done
from services.quota.allowances import Allowances, Closable
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask
from shared.clock import Clock

log = structlog.get_logger()

POLL_SECONDS = 0.2


class Closing:
    def __init__(
        self,
        allowances: Allowances,
        client: Client,
        clock: Clock,
        *,
        idle_seconds: int,
        retry_seconds: int,
    ) -> None:
        self._allowances = allowances
        self._client = client
        self._clock = clock
        self._idle = timedelta(seconds=idle_seconds)
        self._retry = timedelta(seconds=retry_seconds)

    async def run(self) -> None:
        while True:
            now = self._clock.now()
            try:
                due = await asyncio.to_thread(
                    self._allowances.closable, now, now - self._idle, now - self._retry
                )
            except PersistenceError as problem:
                log.warning("closing_waits", problem=repr(problem))
                due = []
            await asyncio.gather(*(self._close(session) for session in due))
            await asyncio.sleep(POLL_SECONDS)

    async def _close(self, session: Closable) -> None:
        """Tried again later until the signer's SessionClosed has dropped the row."""
        command = CloseSession(
            account_id=session.account_id,
            session_id=session.session_id,
            ask_number=session.number,
            idle_seconds=0 if session.withdrawn else int(self._idle.total_seconds()),
        )
        try:
            await ask(self._client, command, Done)
        except CommandRefusedError as refused:
            log.info("session_not_closed", session=session.session_id, reason=refused.refusal.code)
        except ServiceUnavailableError as problem:
            log.warning("signer_unavailable", problem=str(problem))
