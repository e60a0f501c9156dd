"""Judges redemptions: ours by the signer's log, recovered, or signed by our key elsewhere.

Signed and committed comes before redeemed, so a ticket that the log does not have once we have read to
where it ended when the redemption was seen is not in it. What speaks for a redemption is heard at
once; that nothing does is believed after that, and after a grace in which a signer that was restored
says so.
"""

import asyncio
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from nats.aio.client import Client

from contracts.message import LogPage, ReadLog, read_log_subject
from services.deposit_watcher.application import Watching
from services.deposit_watcher.domain.funds import Observation, RoundClock
from services.deposit_watcher.domain.redemption import Kind, Redemption
from services.deposit_watcher.signed import PUBLISHER, Evidence, SignedTickets
from shared import telemetry
from shared.bus import ask
from shared.clock import Clock
from shared.positions import Position, Positions

log = structlog.get_logger()

LOOK_MAX = 500  # redemptions of one look
EXPIRY_MARGIN_ROUNDS = 2  # of reorgs and late readers, beyond the validity


class Judge:
    def __init__(
        self,
        *,
        client: Client,
        watching: Watching,
        tickets: SignedTickets,
        positions: Positions,
        reader: str,
        clock: Clock,
        grace: timedelta,
    ) -> None:
        self._client = client
        self._watching = watching
        self._tickets = tickets
        self._positions = positions
        self._reader = reader
        self._clock = clock
        self._grace = grace
        self._ends: dict[UUID, Position] = {}  # of the signer's log, asked after the redemption was seen

    async def step(self, rounds: RoundClock) -> bool:
        """Judge what can be judged now; tells whether more may be there."""
        found = await self._look(rounds)
        in_doubt = [evidence for evidence in found if not _speaks_for(evidence)]
        passed = await self._passed(in_doubt)
        if passed:  # look again: what we read meanwhile may speak for them
            found = await self._look(rounds)
        for evidence in found:
            if _speaks_for(evidence) or evidence.redemption_id in passed:
                await asyncio.to_thread(self._judge, evidence)
                self._ends.pop(evidence.redemption_id, None)
        telemetry.redemptions_pending.set(len(in_doubt) - len(passed))
        return len(found) == LOOK_MAX and len(in_doubt) < LOOK_MAX

    async def expire(self, observation: Observation) -> None:
        """Forget the tickets that cannot be redeemed any more; redemptions were read up to this block."""
        oldest = observation.round.number - observation.round.ticket_validity_rounds - EXPIRY_MARGIN_ROUNDS
        await asyncio.to_thread(self._tickets.expire, oldest)

    async def _look(self, rounds: RoundClock) -> list[Evidence]:
        return await asyncio.to_thread(self._tickets.open, rounds, LOOK_MAX)

    async def _passed(self, in_doubt: list[Evidence]) -> set[UUID]:
        """Those whose grace is over, and whose ticket we would have read by now."""
        if not in_doubt:
            self._ends.clear()
            return set()
        at = await asyncio.to_thread(self._positions.get, self._reader)
        asked = ReadLog(after=at.position, limit=1)
        page = await ask(self._client, asked, LogPage, subject=read_log_subject(PUBLISHER))
        at_end = not page.entries and page.head == at.position
        now, passed = self._clock.now(), set()
        for evidence in in_doubt:
            end = self._ends.setdefault(evidence.redemption_id, Position(page.epoch, page.head))
            read = at_end or (at.epoch, at.position) >= (end.epoch, end.position)
            if read and now - evidence.seen_at >= self._grace:
                passed.add(evidence.redemption_id)
        return passed

    def _judge(self, evidence: Evidence) -> None:
        judged = self._watching.judge(evidence.redemption_id, partial(_say, evidence, self._clock.now()))
        if judged is None:
            return
        telemetry.redemptions_total.labels(str(judged.kind)).inc()
        ticket = judged.ticket
        said = log.error if judged.kind == Kind.ORPHAN else log.info
        said(
            "redemption_judged",
            kind=str(judged.kind),
            reason=judged.reason,
            payer=ticket.payer,
            recipient=ticket.recipient,
            recipient_rand_hash=ticket.recipient_rand_hash,
            nonce=ticket.sender_nonce,
            paid_wei=str(ticket.paid),
            tx_hash=ticket.tx_hash,
        )


def _speaks_for(evidence: Evidence) -> bool:
    """Whether it can be judged without waiting."""
    if evidence.kind == Kind.ORPHAN:
        return True  # looked up because something speaks for it
    return evidence.signed or evidence.recovered or evidence.nameless


def _say(evidence: Evidence, now: datetime, redemption: Redemption) -> None:
    was_orphan = redemption.kind == Kind.ORPHAN
    if evidence.recovered:
        redemption.recover("recovered", now)
    elif evidence.signed and was_orphan:
        redemption.recover("late", now)
    elif evidence.signed or (evidence.nameless and not was_orphan):
        redemption.match(now)
    elif evidence.fenced:
        redemption.recover("fence", now)
    else:
        redemption.orphan(now)
