"""Reads the tables of signer, quota and metering in one snapshot; shares no code with any of them.

All schemas are in one database, so that the snapshot is one moment for all services. Positions are
moved in the transaction of their effects: what a reader has must equal the log up to its position
exactly, at any moment.
"""

import json
import zlib
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from tests.faults.checker.limit_rows import Entry, LimitLog
from tests.faults.checker.tickets import SIGNATURE_BYTES, Params, TicketId, stored_params

LOG = """
SELECT notification_id, originator_id, topic, state FROM {schema}.{schema}_events
WHERE topic = ANY(%s) ORDER BY notification_id
"""
SIGNER_TOPICS = (
    "signer.session_named",
    "signer.session_opened",
    "signer.quote_accepted",
    "signer.allowance_granted",
    "signer.payment_signed",
    "signer.session_closed",
    "signer.ticket_sequence_opened",
    "signer.nonces_taken",
    "signer.fence_raised",
)
SIGNER_PUBLIC = (
    "signer.session_opened",
    "signer.payment_signed",
    "signer.payment_refused",
    "signer.session_closed",
    "signer.fence_raised",
)
QUOTA_TOPICS = (
    "quota.budget_opened",
    "quota.allowance_granted",
    "quota.spend_recorded",
    "quota.allowance_freed",
    "quota.pool_opened",
    "quota.pool_held",
    "quota.pool_spent",
)
METERING_READER, QUOTA_READER = "metering-record-usage", "quota-follow-spend"


@dataclass(frozen=True, slots=True)
class Payment:
    """One `signer.payment_signed` with the standing data of its session."""

    position: int
    at: datetime
    account_id: str
    user_id: str | None
    session_id: str
    payer: str
    rand_hash: str
    first_nonce: int
    tickets: int
    cost: int
    digest: str
    creation_round: int
    signatures: bytes

    def signed(self) -> Iterator[tuple[TicketId, bytes]]:
        """Each ticket with its signature."""
        for index in range(self.tickets):
            start = index * SIGNATURE_BYTES
            ticket = TicketId(self.payer, self.rand_hash, self.first_nonce + index)
            yield ticket, self.signatures[start : start + SIGNATURE_BYTES]


@dataclass(frozen=True, slots=True)
class Taken:
    """One `signer.nonces_taken`."""

    position: int
    payer: str
    rand_hash: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Change:
    """An event that moves money: what of whom by how much, in the order of its service's log."""

    position: int
    kind: str  # the topic without its service
    account_id: str  # of a pool's: the payer
    session_id: str = ""
    amount: int = 0
    number: int = 0  # of an ask
    payer: str = ""
    amounts: tuple[tuple[str, int], ...] = ()  # by session, or by creation round


@dataclass(frozen=True, slots=True)
class Used:
    """One usage record: which entry of the signer's log it came from, and what it says."""

    position: int
    account_id: str
    session_id: str
    tickets: int
    cost: int


@dataclass(frozen=True, slots=True)
class Sums:
    payments: int = 0
    tickets: int = 0
    cost: int = 0


@dataclass
class Books:
    """Everything that is checked, as rows. Lists are in the order of their logs."""

    payments: list[Payment] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    params: dict[tuple[str, str], Params] = field(default_factory=dict)  # by payer and rand hash
    session_changes: list[Change] = field(default_factory=list)  # the signer's grants and closes
    budget_changes: list[Change] = field(default_factory=list)
    pool_changes: list[Change] = field(default_factory=list)
    limit_entries: list[Entry] = field(default_factory=list)  # of quota's log
    allowances: dict[tuple[str, str], int] = field(default_factory=dict)  # held, by account and session
    used: list[Used] = field(default_factory=list)
    usage_by_session: dict[tuple[str, str], Sums] = field(default_factory=dict)
    usage_by_account: dict[str, Sums] = field(default_factory=dict)
    dead_letters: list[str] = field(default_factory=list)
    fences: list[str] = field(default_factory=list)
    metered_to: int = 0  # positions in the signer's log
    booked_to: int = 0
    ends_at: int = 0  # the last entry of the signer's public log


def read_books(dsn: str) -> Books:
    """Read all in one snapshot; raises psycopg.Error if the server is away."""
    books = Books()
    with psycopg.connect(dsn, connect_timeout=5, options="-c statement_timeout=60000") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        cursor = connection.cursor()
        _read_signer(cursor, books)
        _read_quota(cursor, books)
        books.limit_entries = list(LimitLog().read(cursor))
        _read_metering(cursor, books)
    return books


def _log(cursor: psycopg.Cursor[Any], schema: str, topics: tuple[str, ...]) -> Iterator[Any]:
    """Position, aggregate, topic and stored state of each event."""
    query = LOG.format(schema=schema)
    for position, aggregate, topic, state in cursor.execute(query, (list(topics),)):
        yield position, aggregate, topic.partition(".")[2], bytes(state)


class _Session:
    """What a session's events have told so far."""

    def __init__(self, named: dict[str, Any]) -> None:
        self.account_id, self.session_id = named["account_id"], named["session_id"]
        self.user_id: str | None = None
        self.payer = ""
        self.rand_hash = ""
        self.creation_round = 0


def _read_signer(cursor: psycopg.Cursor[Any], books: Books) -> None:
    sessions: dict[Any, _Session] = {}
    sequences: dict[Any, tuple[str, str]] = {}
    for position, aggregate, kind, stored in _log(cursor, "signer", SIGNER_TOPICS):
        state = json.loads(stored)
        match kind:
            case "session_named":
                sessions[aggregate] = _Session(state)
            case "ticket_sequence_opened":
                key = sequences[aggregate] = state["payer"], state["recipient_rand_hash"]
                books.params[key] = stored_params(state["params"])
            case "nonces_taken":
                books.taken.append(Taken(position, *sequences[aggregate], state["first"], state["count"]))
            case "fence_raised":
                books.fences.append(f"position {position}: {state['reason']}")
            case _:
                _read_session(books, sessions[aggregate], position, kind, state)
    query = "SELECT coalesce(max(notification_id), 0) FROM signer.signer_events WHERE topic = ANY(%s)"
    [(books.ends_at,)] = cursor.execute(query, (list(SIGNER_PUBLIC),))


def _read_session(books: Books, session: _Session, position: int, kind: str, state: dict[str, Any]) -> None:
    match kind:
        case "session_opened":
            session.payer, session.user_id = state["payer"], state["user_id"]
        case "quote_accepted":
            session.rand_hash = state["recipient_rand_hash"]
            session.creation_round = state["creation_round"]
        case "payment_signed":
            books.payments.append(_payment(session, position, state))
        case "allowance_granted" | "session_closed":
            amount = int(state["amount" if kind == "allowance_granted" else "spent"])
            number = state["number" if kind == "allowance_granted" else "ask_number"]
            change = Change(position, kind, session.account_id, session.session_id, amount, number)
            books.session_changes.append(change)


def _payment(session: _Session, position: int, state: dict[str, Any]) -> Payment:
    return Payment(
        position=position,
        at=datetime.fromisoformat(state["timestamp"]),
        account_id=session.account_id,
        user_id=session.user_id,
        session_id=session.session_id,
        payer=session.payer,
        rand_hash=session.rand_hash,
        first_nonce=state["first_nonce"],
        tickets=state["tickets"],
        cost=int(state["cost"]),
        digest=state["digest"],
        creation_round=session.creation_round,
        signatures=b64decode(state["signatures"]),
    )


def _read_quota(cursor: psycopg.Cursor[Any], books: Books) -> None:
    owners: dict[Any, str] = {}
    for position, aggregate, kind, stored in _log(cursor, "quota", QUOTA_TOPICS):
        state = json.loads(stored)
        if kind in {"budget_opened", "pool_opened"}:
            owners[aggregate] = state["account_id" if kind == "budget_opened" else "payer"]
        if kind.startswith("pool_"):
            books.pool_changes.append(_pool_change(position, kind, owners[aggregate], state))
        else:
            books.budget_changes.append(_budget_change(position, kind, owners[aggregate], state))
    rows = cursor.execute("SELECT account_id, session_id, granted - spent FROM quota.allowances")
    books.allowances = {(account, session): int(held) for account, session, held in rows}
    books.booked_to = _position(cursor, "quota", QUOTA_READER)
    books.dead_letters += _dead_letters(cursor, "quota")


def _budget_change(position: int, kind: str, account_id: str, state: dict[str, Any]) -> Change:
    return Change(
        position,
        kind,
        account_id,
        session_id=state.get("session_id", ""),
        amount=int(state.get("amount", 0)),
        number=int(state.get("number", state.get("ask_number", 0))),
        payer=state.get("payer", ""),
        amounts=tuple((session, int(cost)) for session, cost in state.get("spends", {}).items()),
    )


def _pool_change(position: int, kind: str, payer: str, state: dict[str, Any]) -> Change:
    amount = state.get("amount", -int(state.get("released", 0)))
    costs = tuple((made, int(cost)) for made, cost in state.get("costs", {}).items())
    return Change(position, kind, payer, amount=int(amount), amounts=costs)


def _read_metering(cursor: psycopg.Cursor[Any], books: Books) -> None:
    for *_, stored in _log(cursor, "metering", ("metering.usage_recorded",)):
        batch = json.loads(zlib.decompress(stored))
        if "told" in batch["usage"]:  # payments of another signer, which have rules of their own
            continue
        who = batch["usage"]["who"]
        for place, _, payer, _, tickets, cost, _ in batch["usage"]["payments"]:
            account_id, session_id = who[payer][0], who[payer][2]
            books.used.append(Used(batch["first"] + place, account_id, session_id, tickets, int(cost)))
    rows = cursor.execute(
        "SELECT account_id, session_id, payments, tickets, cost FROM metering.sessions"
        " WHERE NOT starts_with(session_id, 'go-livepeer:')"
    )
    books.usage_by_session = {(account, session): _sums(sums) for account, session, *sums in rows}
    rows = cursor.execute(
        "SELECT account_id, sum(payments), sum(tickets), sum(cost) FROM metering.usage_hourly"
        " WHERE key_id <> '' GROUP BY 1"  # the key that paid; another signer's payments tell none
    )
    books.usage_by_account = {account: _sums(sums) for account, *sums in rows}
    books.metered_to = _position(cursor, "metering", METERING_READER)
    books.dead_letters += _dead_letters(cursor, "metering")


def _sums(columns: list[Any]) -> Sums:
    return Sums(*map(int, columns))


def _position(cursor: psycopg.Cursor[Any], schema: str, reader: str) -> int:
    query = f"SELECT position FROM {schema}.positions WHERE reader = %s"  # a name of ours
    row = cursor.execute(query, (reader,)).fetchone()
    return int(row[0]) if row else 0


def _dead_letters(cursor: psycopg.Cursor[Any], schema: str) -> list[str]:
    query = f"SELECT reader, epoch, position, reason FROM {schema}.dead_letters"
    return [" ".join(map(str, row)) for row in cursor.execute(query)]
