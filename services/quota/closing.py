"""Takes allowances back: asks the signer to close sessions that are idle or withdrawn.

Nothing is freed here. The signer stores the close, and what it says was spent frees the rest.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog
from eventsourcing.persistence import PersistenceError
from nats.aio.client import Client

from contracts.signer import CLOSES_MAX, CloseSessions, SessionsClosed, SessionToClose
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
            try:
                due = await asyncio.to_thread(self._due)
            except PersistenceError as problem:
                log.warning("closing_waits", problem=repr(problem))
                due = []
            if due:
                await self._close(due)
            # Withdrawals go on at once; the idle are closed at a pace that payments do not feel.
            hurry = len(due) == CLOSES_MAX and all(session.withdrawn for session in due)
            await asyncio.sleep(0 if hurry else POLL_SECONDS)

    def _due(self) -> list[Closable]:
        now = self._clock.now()
        return self._allowances.closable(now, now - self._idle, now - self._retry, CLOSES_MAX)

    async def _close(self, due: Sequence[Closable]) -> None:
        """Tried again later until the signer's SessionClosed has dropped the row."""
        idle_seconds = int(self._idle.total_seconds())
        command = CloseSessions(
            sessions=[
                SessionToClose(
                    account_id=session.account_id,
                    session_id=session.session_id,
                    ask_number=session.number,
                    idle_seconds=0 if session.withdrawn else idle_seconds,
                )
                for session in due
            ]
        )
        try:
            answer = await ask(self._client, command, SessionsClosed)
        except (CommandRefusedError, ServiceUnavailableError) as problem:
            log.warning("sessions_not_closed", problem=str(problem))
        else:
            log.info("sessions_closed", asked=len(due), busy=len(answer.busy))
