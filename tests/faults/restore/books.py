"""What must add up after a restore, read past all of our code."""

import json
from dataclasses import dataclass, field

import psycopg
from psycopg.sql import SQL, Identifier

from tests.acceptance.signer_log import Log, TicketId, read_log

RECOVERED = "SELECT state FROM signer.signer_events WHERE topic = 'signer.ticket_recovered'"
USAGE = (
    "SELECT coalesce(sum(tickets), 0), coalesce(sum(cost), 0) FROM metering.usage_hourly"
    " WHERE account_id = %s"
)


@dataclass(frozen=True)
class Books:
    """The log and what was recovered; metering's and quota's sums of one account."""

    log: Log
    recovered: dict[TicketId, str] = field(default_factory=dict)  # with the account
    recovered_cost: int = 0
    usage_tickets: int = 0
    usage_cost: int = 0

    @property
    def tickets(self) -> int:
        return self.log.ticket_count + len(self.recovered)

    @property
    def cost(self) -> int:
        return self.log.cost + self.recovered_cost


def read_books(dsn: str, account_id: str) -> Books:
    recovered: dict[TicketId, str] = {}
    cost = 0
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        for (stored,) in connection.execute(RECOVERED):
            state = json.loads(bytes(stored))
            if state["account_id"] != account_id:
                continue
            cost += int(state["cost"])
            for nonce in range(state["first_nonce"], state["first_nonce"] + state["tickets"]):
                ticket = (state["recipient_rand_hash"], nonce)
                assert ticket not in recovered, f"recovered twice: {ticket}"
                recovered[ticket] = account_id
        row = connection.execute(USAGE, (account_id,)).fetchone()
    assert row is not None
    return Books(read_log(dsn).of(account_id), recovered, cost, int(row[0]), int(row[1]))


def epochs(dsn: str, schema: str) -> list[tuple[int, str]]:
    """The epochs of a service's log, each with the reason it began for."""
    query = SQL("SELECT epoch, reason FROM {}.epochs ORDER BY epoch").format(Identifier(schema))
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        return [(int(epoch), str(reason)) for epoch, reason in connection.execute(query)]
