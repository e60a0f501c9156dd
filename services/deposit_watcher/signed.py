"""What the signer's log says about tickets that can still be redeemed, to know ours by.

A row for each set of ticket params, with the nonces that were signed: a ticket is in it or not,
however often its entry is read. Rows go when their tickets cannot be redeemed any more.
"""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from eventsourcing.postgres import PostgresDatastore
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier

from contracts.message import LogEntry
from contracts.signer import FenceRaised, PaymentSigned, TicketRecovered
from services.deposit_watcher.domain.funds import RoundClock
from shared.store import Effect

PUBLISHER = "signer"
READS = (PaymentSigned.subject, TicketRecovered.subject, FenceRaised.subject)

CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.signed_params (
    payer text, recipient_rand_hash text, recipient text, face_value numeric, win_prob text,
    creation_round numeric, signed int8multirange NOT NULL, recovered int8multirange NOT NULL,
    PRIMARY KEY (payer, recipient_rand_hash, recipient, face_value, win_prob, creation_round));
CREATE INDEX IF NOT EXISTS signed_params_by_round ON {schema}.signed_params (creation_round);
CREATE TABLE IF NOT EXISTS {schema}.fences (payer text PRIMARY KEY, l1_block bigint NOT NULL);
"""
PUT_PARAMS = """
INSERT INTO {schema}.signed_params AS known
SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::numeric[], %b::text[], %b::numeric[],
    %b::int8multirange[], %b::int8multirange[])
ON CONFLICT (payer, recipient_rand_hash, recipient, face_value, win_prob, creation_round) DO UPDATE SET
    signed = known.signed + excluded.signed, recovered = known.recovered + excluded.recovered
"""
PUT_FENCE = """
INSERT INTO {schema}.fences AS known VALUES (%s, %s)
ON CONFLICT (payer) DO UPDATE SET l1_block = greatest(known.l1_block, excluded.l1_block)
"""
# No nonce of ours comes near the end of what a range holds; the chain's may.
EVIDENCE = """
SELECT * FROM (
    SELECT redemption_id, kind, block, log_index, seen_at,
        coalesce(signed @> nonce, false) AS signed, coalesce(recovered @> nonce, false) AS recovered,
        EXISTS (SELECT FROM {schema}.signed_params AS nameless
            WHERE nameless.payer = redemptions.payer AND nameless.recipient_rand_hash = ''
            AND nameless.creation_round = redemptions.creation_round) AS nameless,
        coalesce(redemptions.creation_round <= %(number)s::bigint
            + floor((fences.l1_block - %(start_block)s::bigint) / %(length_blocks)s::numeric), false
        ) AS fenced
    FROM {schema}.redemptions
    CROSS JOIN LATERAL (SELECT least(sender_nonce, 9223372036854775807)::bigint AS nonce) AS bounded
    LEFT JOIN {schema}.signed_params
        USING (payer, recipient_rand_hash, recipient, face_value, win_prob, creation_round)
    LEFT JOIN {schema}.fences ON fences.payer = redemptions.payer
    WHERE kind IN ('pending', 'orphan')
) AS evidence
"""
# Orphans stay for ever: those of which nothing new speaks are left where they are.
OPEN = (
    EVIDENCE
    + """
WHERE kind = 'pending' OR signed OR recovered OR fenced ORDER BY kind DESC, block, log_index LIMIT %(limit)s
"""
)
# A pending redemption may need its row however old that is.
EXPIRE = """
DELETE FROM {schema}.signed_params WHERE creation_round < %s
    AND NOT EXISTS (SELECT FROM {schema}.redemptions WHERE kind = 'pending')
"""


@dataclass(frozen=True, slots=True)
class Params:
    """All that the tickets of one quote have in common, as the redemption tells it."""

    payer: str
    recipient_rand_hash: str
    recipient: str
    face_value: int
    win_prob: str
    creation_round: int


@dataclass(slots=True)
class Told:
    """What a stretch of the signer's log says: nonces by params, and fences by payer."""

    signed: dict[Params, list[range]] = field(default_factory=dict)
    recovered: dict[Params, list[range]] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a redemption that is pending, or was told as an orphan.

    `nameless`: tickets of its payer and round were signed whose params we were not told, by a signer
    of an older release. `fenced`: it is of a round in which lost tickets may be.
    """

    redemption_id: UUID
    kind: str
    seen_at: datetime
    signed: bool
    recovered: bool
    nameless: bool
    fenced: bool


class SignedTickets:
    """The table of what was signed, in the watcher's own schema."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        self._datastore = datastore
        self._schema = Identifier(datastore.schema)

    def create_tables(self) -> None:
        with self._datastore.get_connection() as connection:
            connection.execute(self._sql(CREATE_TABLES))

    def record(self, told: Told) -> Effect:
        """The effect that adds what a stretch of the log says; adding it again changes nothing."""
        everything = dict.fromkeys([*told.signed, *told.recovered])
        rows = [
            (*astuple(params), _ranges(told.signed.get(params, [])), _ranges(told.recovered.get(params, [])))
            for params in everything
        ]

        def effect(cursor: Cursor[DictRow]) -> None:
            if rows:
                columns = [list(column) for column in zip(*rows, strict=True)]
                cursor.execute(self._sql(PUT_PARAMS), columns, prepare=True)
            cursor.executemany(self._sql(PUT_FENCE), list(told.fences.items()))

        return effect

    def open(self, clock: RoundClock, limit: int) -> list[Evidence]:
        """The pending redemptions, and the orphans for which something speaks now."""
        values = {**asdict(clock), "limit": limit}
        with self._datastore.get_connection() as connection:
            rows = connection.execute(self._sql(OPEN), values).fetchall()
        names = [each.name for each in fields(Evidence)]
        return [Evidence(**{name: row[name] for name in names}) for row in rows]

    def expire(self, before_round: int) -> int:
        """Drop what was made before this round; nothing as long as a redemption is pending."""
        with self._datastore.get_connection() as connection:
            return connection.execute(self._sql(EXPIRE), (before_round,)).rowcount

    def _sql(self, text: LiteralString) -> Composed:
        return SQL(text).format(schema=self._schema)


def read_told(entries: Sequence[LogEntry]) -> Told:
    """Raises ValueError, KeyError or TypeError for an entry that is not as the contract says."""
    told = Told()
    for entry in entries:
        match entry.subject:
            case PaymentSigned.subject:
                _add(told.signed, entry.event)
            case TicketRecovered.subject:
                _add(told.recovered, entry.event)
            case FenceRaised.subject:
                fence = FenceRaised.model_validate(entry.event)
                payer = fence.payer.lower()
                told.fences[payer] = max(fence.l1_block, told.fences.get(payer, 0))
    return told


def _add(told: dict[Params, list[range]], payment: dict[str, Any]) -> None:
    """Read field by field: this runs once per payment."""
    payer, made = str(payment["payer"]).lower(), int(payment["creation_round"])
    rand_hash, first = str(payment.get("recipient_rand_hash", "")), int(payment.get("first_nonce", 0))
    if not rand_hash:
        told.setdefault(Params(payer, "", "", 0, "", made), [])
        return
    params = Params(
        payer,
        "0x" + rand_hash.removeprefix("0x").lower(),
        str(payment["recipient"]).lower(),
        int(payment["face_value"]),
        hex(int(str(payment["win_prob"]), 16)),
        made,
    )
    told.setdefault(params, []).append(range(first, first + int(payment["tickets"])))


def _ranges(nonces: Sequence[range]) -> str:
    """As PostgreSQL writes a multirange."""
    return "{" + ",".join(f"[{each.start},{each.stop})" for each in nonces) + "}"
