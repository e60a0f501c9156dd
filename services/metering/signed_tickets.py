"""The use case of payments that another signer has made: each event becomes usage once, for ever."""

import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from psycopg import Cursor
from psycopg.rows import DictRow

from services.metering.application import Metering
from services.metering.domain.signed_tickets import SignedTicket, usage_of
from services.metering.domain.usage import Usage
from services.metering.signed_ticket_tables import KnownTickets
from services.metering.streaming import decided_again
from shared.store import Effect

type Outcome = Literal["recorded", "repeated"]


class SignedTickets:
    """One commit at a time: what waits in one request becomes a batch an account."""

    def __init__(self, metering: Metering, known: KnownTickets) -> None:
        self._metering = metering
        self._known = known
        self._turn = threading.Lock()

    @decided_again
    def record(self, tickets: Sequence[SignedTicket], now: datetime) -> list[Outcome]:
        """Say of each what became of it, once all that was recorded is stored."""
        with self._turn:
            known = self._known.among([ticket.key for ticket in tickets])
            outcomes: list[Outcome] = []
            by_account: dict[str, list[SignedTicket]] = {}
            for ticket in tickets:
                outcomes.append("repeated" if ticket.key in known else "recorded")
                if ticket.key not in known:
                    known.add(ticket.key)
                    by_account.setdefault(ticket.account_id, []).append(ticket)
            if by_account:
                told = [usage_of(by_account[account_id]) for account_id in sorted(by_account)]
                self._metering.record_told(told, now, self._note([usage for _, usage in told]))
            return outcomes

    def _note(self, usages: Sequence[Usage]) -> Effect:
        def effect(cursor: Cursor[DictRow]) -> None:
            for usage in usages:
                self._known.keys.add(cursor, usage)

        return effect
