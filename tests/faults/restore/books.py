"""What must add up after a restore, read past all of our code."""

import asyncio
import json
from dataclasses import dataclass, field

import nats
import psycopg
from psycopg.sql import SQL, Identifier

from contracts.streams import stream_of
from tests.acceptance.signer_log import Log, TicketId, read_log
from tests.acceptance.system import System

RECOVERED = "SELECT state FROM signer.signer_events WHERE topic = 'signer.ticket_recovered'"
PAYMENTS = "evt.signer.>"
STREAM_SECONDS = 20
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


async def tickets_on_the_stream(system: System) -> set[TicketId]:
    """What the signer's stream tells, whatever became of it in the log since."""
    client = await nats.connect(system.world.nats_url("admin"))
    try:
        jetstream = client.jetstream()
        stream = stream_of("signer")
        last = (await jetstream.stream_info(stream)).state.last_seq
        reading = await jetstream.subscribe(PAYMENTS, stream=stream, ordered_consumer=True)
        found: set[TicketId] = set()
        async with asyncio.timeout(STREAM_SECONDS):
            while last and (message := await reading.next_msg(STREAM_SECONDS)):
                event = json.loads(message.data)["event"]
                if "first_nonce" in event:
                    first = event["first_nonce"]
                    found |= {
                        (event["recipient_rand_hash"], first + each) for each in range(event["tickets"])
                    }
                if message.metadata.num_pending == 0:
                    break
        return found
    finally:
        await client.close()
