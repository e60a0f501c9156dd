"""The table of redemptions: a row for each, so that they can be listed and the pending ones found.

Each row is a function of its aggregate alone, written in the transaction of its events.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from eventsourcing.postgres import PostgresDatastore
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier

from contracts.deposit_watcher import ReadRedemptions, RedemptionPage, RedemptionRow
from services.deposit_watcher.domain.redemption import Redemption
from shared.refusal import Refused
from shared.store import Effect

TIMEOUT_MS = 2000  # the caller of a query does not wait longer

CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.redemptions (
    redemption_id uuid PRIMARY KEY, kind text NOT NULL, reason text NOT NULL,
    payer text NOT NULL, recipient text NOT NULL, recipient_rand_hash text NOT NULL,
    sender_nonce numeric NOT NULL, face_value numeric NOT NULL, win_prob text NOT NULL,
    creation_round numeric NOT NULL, paid numeric NOT NULL, tx_hash text NOT NULL,
    log_index integer NOT NULL, block bigint NOT NULL, seen_at timestamptz NOT NULL);
CREATE INDEX IF NOT EXISTS redemptions_by_block ON {schema}.redemptions (block, log_index, redemption_id);
CREATE INDEX IF NOT EXISTS redemptions_open ON {schema}.redemptions (kind, block, log_index)
    WHERE kind IN ('pending', 'orphan');
"""
PUT = """
INSERT INTO {schema}.redemptions VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (redemption_id) DO UPDATE SET kind = excluded.kind, reason = excluded.reason
"""
PAGE = """
SELECT * FROM {schema}.redemptions WHERE (%(kind)s::text IS NULL OR kind = %(kind)s) AND {after}
ORDER BY block DESC, log_index DESC, redemption_id DESC LIMIT %(limit)s
"""
AFTER = """
(block, log_index, redemption_id) <
    (SELECT block, log_index, redemption_id FROM {schema}.redemptions WHERE redemption_id = %(after)s)
"""


class BadQuery(Refused):
    code = "bad_query"


@dataclass(frozen=True, slots=True)
class Row:
    """In the order of the columns."""

    redemption_id: UUID
    kind: str
    reason: str
    payer: str
    recipient: str
    recipient_rand_hash: str
    sender_nonce: int
    face_value: int
    win_prob: str
    creation_round: int
    paid: int
    tx_hash: str
    log_index: int
    block: int
    seen_at: datetime

    @classmethod
    def of(cls, redemption: Redemption) -> "Row":
        ticket = redemption.ticket
        return cls(
            redemption.id,
            str(redemption.kind),
            redemption.reason,
            ticket.payer,
            ticket.recipient,
            ticket.recipient_rand_hash,
            ticket.sender_nonce,
            ticket.face_value,
            ticket.win_prob,
            ticket.creation_round,
            ticket.paid,
            ticket.tx_hash,
            ticket.log_index,
            ticket.block,
            redemption.created_on,
        )


def record(schema: str, redemptions: Sequence[Redemption]) -> Effect:
    """The effect that writes the rows of these, with their events."""
    put = SQL(PUT).format(schema=Identifier(schema))
    rows = [astuple(Row.of(redemption)) for redemption in redemptions]

    def effect(cursor: Cursor[DictRow]) -> None:
        for row in rows:
            cursor.execute(put, row)

    return effect


class RedemptionTable:
    def __init__(self, datastore: PostgresDatastore) -> None:
        self._datastore = datastore
        self._schema = Identifier(datastore.schema)

    def create_tables(self) -> None:
        with self._datastore.get_connection() as connection:
            connection.execute(self._sql(CREATE_TABLES))

    def page(self, asked: ReadRedemptions) -> RedemptionPage:
        """The newest block first."""
        after = SQL(AFTER).format(schema=self._schema) if asked.after else SQL("true")
        query = SQL(PAGE).format(schema=self._schema, after=after)
        values = {"kind": asked.redemption_kind, "after": _id(asked.after), "limit": asked.limit}
        with self._datastore.get_connection() as connection, connection.transaction():
            connection.execute(SQL("SET LOCAL statement_timeout = {}").format(TIMEOUT_MS))
            rows = connection.execute(query, values).fetchall()
        return RedemptionPage(redemptions=[_view(row) for row in rows])

    def _sql(self, text: LiteralString) -> Composed:
        return SQL(text).format(schema=self._schema)


def _id(after: str) -> UUID | None:
    try:
        return UUID(after) if after else None
    except ValueError as problem:
        raise BadQuery(f"no redemption {after}") from problem


def _view(row: DictRow) -> RedemptionRow:
    return RedemptionRow(
        redemption_id=row["redemption_id"].hex,
        redemption_kind=row["kind"],
        reason=row["reason"],
        payer=row["payer"],
        recipient=row["recipient"],
        recipient_rand_hash=row["recipient_rand_hash"],
        sender_nonce=int(row["sender_nonce"]),
        face_value=int(row["face_value"]),
        win_prob=row["win_prob"],
        paid=int(row["paid"]),
        creation_round=int(row["creation_round"]),
        tx_hash=row["tx_hash"],
        log_index=row["log_index"],
        block=row["block"],
        seen_at=row["seen_at"],
    )
