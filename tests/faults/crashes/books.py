"""Reads what is on disk, and compares it with what left the processes.

After each crash cheaply, reading on from where it was; now and then everything, by the checker of
the kill matrix. Knows tables, topics and fields, and nothing of the services' code.
"""

import json
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from tests.faults.checker.checker import behind
from tests.faults.checker.evidence import Evidence
from tests.faults.checker.limit_rows import LimitLog
from tests.faults.checker.limits import LimitLedger
from tests.faults.checker.rows import read_books
from tests.faults.checker.rules import unsigned, violations
from tests.faults.checker.tickets import Receipt

type Stored = tuple[int, str, str, dict[str, Any]]  # position, aggregate, topic, fields
type Ticket = tuple[str, int]  # recipient rand hash, nonce

SIGNATURE_BYTES = 65


@dataclass
class Session:
    """A payment session as the signer's log has it."""

    account_id: str = ""
    session_id: str = ""
    rand_hash: str = ""
    granted: int = 0
    spent: int = 0
    digests: set[str] = field(default_factory=set)  # of the requests it has paid
    closed: bool = False


@dataclass
class Budget:
    """An account's budget as quota's log has it."""

    account_id: str
    held: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass
class Books:
    """Read on from where they were; `violations` grows."""

    dsn: str
    connection: psycopg.Connection[tuple[Any, ...]]
    violations: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._signer_at = self._quota_at = self._verified_to = 0
        self.receipts: list[Receipt] = []
        self.sessions: dict[str, Session] = defaultdict(Session)
        self.signatures: dict[Ticket, bytes] = {}
        self.budgets: dict[str, Budget] = {}
        self.limits = LimitLedger()
        self.pool_held = 0
        self._limit_log = LimitLog()
        self._unchecked: list[tuple[Ticket, bytes]] = []

    # What left

    def released(self, account_id: str, reply: str) -> None:
        """A reply went out: its tickets are in the world."""
        answer = json.loads(reply)
        session_id = json.loads(b64decode(answer["state"]["State"]))["StateID"]
        receipt = Receipt(account_id, session_id, b64decode(answer["payment"]))
        self.receipts.append(receipt)
        for ticket, signature in receipt.tickets():
            self._unchecked.append(((ticket.rand_hash, ticket.nonce), signature))
            self.counted["tickets released"] += 1

    # The cheap checks

    def check(self) -> None:
        """Read what is new in both logs, and look for what left without being there."""
        for stored in self._read("signer", self._signer_at):
            self._signer_at = stored[0]
            self._signer_event(*stored)
        for stored in self._read("quota", self._quota_at):
            self._quota_at = stored[0]
            self._quota_event(*stored)
        for ticket, signature in self._unchecked:
            if self.signatures.get(ticket) != signature:
                self._violated(f"ticket {ticket} left, and is not in the log with these bytes")
        self._unchecked.clear()
        held = sum(sum(budget.held.values()) for budget in self.budgets.values())
        if held != self.pool_held:
            self._violated(f"the pool holds {self.pool_held}, sessions {held}")
        self._check_limits()

    def _check_limits(self) -> None:
        """No limit was passed by a grant; users, keys and tokens have what their account's books say."""
        for entry in self._limit_log.read(self.connection.cursor()):
            for violation in self.limits.apply(entry):
                self._violated(str(violation))
            self.counted[LIMITED.get(entry.kind, "entries about limits")] += 1
        for violation in self.limits.differences():
            self._violated(str(violation))

    def _read(self, service: str, after: int) -> Iterator[Stored]:
        query = (
            "SELECT notification_id, originator_id::text, topic, state"
            f" FROM {service}.{service}_events WHERE notification_id > %s ORDER BY notification_id"
        )
        for position, aggregate, topic, state in self.connection.execute(query.encode(), (after,)):
            yield position, aggregate, topic, json.loads(state)

    def _signer_event(self, _: int, aggregate: str, topic: str, event: dict[str, Any]) -> None:
        session = self.sessions[aggregate] if topic in SESSION_TOPICS else Session()
        match topic:
            case "signer.session_named":
                session.account_id, session.session_id = event["account_id"], event["session_id"]
            case "signer.quote_accepted":
                session.rand_hash = event["recipient_rand_hash"]
            case "signer.allowance_granted":
                session.granted += event["amount"]
                session.closed = False
            case "signer.payment_signed":
                self._payment(session, event)
            case "signer.session_closed":
                self._closing(session, event)
            case "signer.fence_raised":
                self._violated("a fence was raised: a client held a state that the log did not have")

    def _payment(self, session: Session, event: dict[str, Any]) -> None:
        signatures = b64decode(event["signatures"])
        for place in range(event["tickets"]):
            ticket = (session.rand_hash, event["first_nonce"] + place)
            if ticket in self.signatures:
                self._violated(f"nonce {ticket} was signed twice")
            start = place * SIGNATURE_BYTES
            self.signatures[ticket] = signatures[start : start + SIGNATURE_BYTES]
        if event["digest"] in session.digests:
            self._violated(f"one request of {session.session_id} was charged twice")
        session.digests.add(event["digest"])
        session.spent += event["cost"]
        if session.spent > session.granted:
            self._violated(f"{session.session_id} spent {session.spent} of {session.granted}")
        self.counted["payments signed"] += 1

    def _closing(self, session: Session, event: dict[str, Any]) -> None:
        if event["spent"] != session.spent:
            self._violated(f"{session.session_id} closed with {event['spent']} spent, not {session.spent}")
        session.granted, session.closed = session.spent, True
        self.counted["closes"] += 1

    def _quota_event(self, _: int, aggregate: str, topic: str, event: dict[str, Any]) -> None:
        match topic:
            case "quota.budget_opened":
                self.budgets[aggregate] = Budget(event["account_id"])
            case "quota.allowance_granted":
                self._granting(self.budgets[aggregate], event)
            case "quota.spend_recorded":
                for session_id, cost in event["spends"].items():
                    self._spending(self.budgets[aggregate], session_id, cost)
            case "quota.allowance_freed":
                self._freeing(self.budgets[aggregate], event)
            case "quota.pool_held":
                self.pool_held += event["amount"]
            case "quota.pool_spent":
                self.pool_held -= event["released"]

    def _granting(self, budget: Budget, event: dict[str, Any]) -> None:
        budget.held[event["session_id"]] += event["amount"]
        self.counted["grants"] += 1

    def _spending(self, budget: Budget, session_id: str, cost: int) -> None:
        budget.held[session_id] -= cost
        if budget.held[session_id] < 0:
            self._violated(f"{session_id} spent {-budget.held[session_id]} more than it held")

    def _freeing(self, budget: Budget, event: dict[str, Any]) -> None:
        budget.held[event["session_id"]] -= event["amount"]
        if event["amount"] < 0 or budget.held[event["session_id"]] < 0:
            self._violated(f"{event['session_id']}: {event['amount']} freed, more than it held")
        self.counted["freed"] += 1

    # The full checks

    def check_all(self, **told: Any) -> None:
        """By the checker of the kill matrix: its rules hold at any moment; `told` by quota."""
        self.check()
        books = read_books(self.dsn)
        found = [*violations(books, Evidence(self.receipts, **told)), *unsigned(books, self._verified_to)]
        self._verified_to = books.payments[-1].position if books.payments else 0
        for violation in found:
            self._violated(str(violation))

    def check_end(self, credit: dict[str, dict[str, Any]], now: datetime) -> None:
        """Everything was delivered and every session closed: nobody is behind, nothing is held."""
        self.check_all(credit=credit, asked_at=now)
        for violation in behind(read_books(self.dsn)):
            self._violated(str(violation))
        for budget in self.budgets.values():
            for session_id, held in budget.held.items():
                if held:
                    self._violated(f"{session_id} holds {held} after all was closed")
        for scope, purse in self.limits.purses.items():
            if purse.sessions:
                self._violated(f"{scope} has {purse.sessions} after all was closed")
        if left := self._rows("SELECT session_id FROM quota.allowances"):
            self._violated(f"allowances of {left} after all was closed")
        self._check_directory()

    def _check_directory(self) -> None:
        told: dict[str, bool] = {}
        for _, _, topic, event in self._read("accounts", 0):
            if topic == "accounts.account_opened":
                told[event["account_id"]] = False
            elif topic in {"accounts.account_suspended", "accounts.account_resumed"}:
                told[event["account_id"]] = topic.endswith("suspended")
        if told != dict(self._rows("SELECT account_id, suspended FROM accounts.accounts")):
            self._violated("the directory of accounts is not what their log says")

    def _rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        return self.connection.execute(query.encode()).fetchall()

    def _violated(self, what: str) -> None:
        self.violations.append(what)


LIMITED = {
    "sub_budget_opened": "users, keys and tokens with books",
    "sub_budget_held": "held by users, keys and tokens",
    "limits_set": "limits set",
    "credit_granted": "credit granted",
    "credit_voided": "credit taken back",
}
SESSION_TOPICS = frozenset(
    f"signer.{name}"
    for name in (
        "session_named",
        "session_opened",
        "quote_accepted",
        "allowance_granted",
        "payment_signed",
        "session_closed",
    )
)
