"""Brings back what a restore lost of the signer's log, as far as its stream still has it.

Only payments: their tickets are out, and may win. A lost SessionOpened says nothing that the
payments do not, a lost SessionClosed frees what quota frees again when the session idles, and a lost
PaymentRefused was a no.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog
from eventsourcing.persistence import IntegrityError

from contracts.message import LogEntry
from contracts.signer import PaymentSigned, TicketRecovered
from services.signer.domain.recovered import RecoveredTickets
from shared.clock import Clock
from shared.money import Wei
from shared.relay import Recover
from shared.store import EventSourced

log = structlog.get_logger()

ATTEMPTS = 5
TOLD_AGAIN = (PaymentSigned.subject, TicketRecovered.subject)


def recovering(signer: EventSourced, clock: Clock) -> Recover:
    """What the relay does with entries of a lost history."""

    def recover(entries: Sequence[LogEntry]) -> None:
        lost = [entry for entry in entries if entry.subject in TOLD_AGAIN]
        for _ in range(ATTEMPTS - 1):
            try:
                _store(signer, lost, clock.now())
            except IntegrityError:
                continue  # another process recovers, too
            return
        _store(signer, lost, clock.now())

    return recover


def _store(signer: EventSourced, lost: Sequence[LogEntry], now: datetime) -> None:
    by_id: dict[UUID, RecoveredTickets] = {}
    for entry in lost:
        found = _recovered(entry, now)
        by_id.setdefault(found.id, found)
    new = [by_id[unique] for unique in by_id if unique in signer.absent(by_id)]
    if new:
        signer.save(*new)
        log.warning("tickets_recovered", batches=len(new), cost=sum(batch.cost for batch in new))


def _recovered(entry: LogEntry, now: datetime) -> RecoveredTickets:
    """A payment that was lost, or what a restore had recovered and a second one lost again."""
    told: TicketRecovered | PaymentSigned
    if entry.subject == TicketRecovered.subject:
        told = TicketRecovered.model_validate(entry.event)
        where, happened_at = (told.lost_epoch, told.lost_position), told.happened_at
    else:
        told = PaymentSigned.model_validate(entry.event)
        where, happened_at = (entry.epoch, entry.position), entry.at
    # A release before this one did not tell the nonces: then the entry itself is the identity.
    rand_hash = told.recipient_rand_hash or f"unknown/{where[0]}/{where[1]}"
    return RecoveredTickets(
        *where,
        happened_at=happened_at,
        account_id=told.account_id,
        session_id=told.session_id,
        user_id=told.user_id,
        app=told.app,
        job_type=told.job_type,
        recipient=told.recipient,
        payer=told.payer,
        tickets=told.tickets,
        cost=Wei(told.cost),
        face_value=told.face_value,
        win_prob=told.win_prob,
        units=told.units,
        price_per_unit=told.price_per_unit,
        pixels_per_unit=told.pixels_per_unit,
        creation_round=told.creation_round,
        recipient_rand_hash=rand_hash,
        first_nonce=told.first_nonce,
        key_id=told.key_id,
        capability=told.capability,
        timestamp=now,
    )
