"""Checks the running system from outside, again and again: what new is signed, and all that must hold."""

import time
from collections.abc import Callable, Container

import psycopg

from tests.faults.checker.evidence import Evidence, Violation
from tests.faults.checker.limit_rows import read_limits
from tests.faults.checker.limit_rules import buckets_are_as_stored
from tests.faults.checker.rows import Books, read_books
from tests.faults.checker.rules import unsigned, violations

RETRY_SECONDS = 0.2


class Checker:
    """Of one database. Each violation is told once."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._verified_to = 0  # a position in the signer's log
        self._told: set[Violation] = set()

    def check(self, evidence: Evidence, *, seconds: float) -> tuple[Books, list[Violation]]:
        """Read the store, which may be starting for so long, and check what is there now."""
        books = self._read(seconds)
        return books, self._check(books, evidence)

    def check_settled(self, evidence: Evidence, *, seconds: float) -> tuple[Books, list[Violation]]:
        """Wait until the readers of the signer's log are at its end, and check; late is a violation."""
        deadline = time.monotonic() + seconds
        while True:
            books = self._read(seconds)
            late = behind(books)
            if not late or time.monotonic() > deadline:
                return books, [*late, *self._check(books, evidence)]
            time.sleep(RETRY_SECONDS)

    def held(self, account_ids: Container[str], *, seconds: float) -> int:
        """What all sessions of these accounts hold of their budgets, in wei."""
        held = self._read(seconds).allowances
        return sum(amount for (account_id, _), amount in held.items() if account_id in account_ids)

    def has_entries(self, evidence: Evidence, *, seconds: float) -> bool:
        """Whether the buckets' entries are what quota's log says."""
        books = Books(limit_entries=_retried(lambda: read_limits(self._dsn), seconds))
        return not any(buckets_are_as_stored(books, evidence))

    def _check(self, books: Books, evidence: Evidence) -> list[Violation]:
        found = [*violations(books, evidence), *unsigned(books, self._verified_to)]
        if books.payments:
            self._verified_to = books.payments[-1].position
        new = [violation for violation in found if violation not in self._told]
        self._told.update(new)
        return new

    def _read(self, seconds: float) -> Books:
        return _retried(lambda: read_books(self._dsn), seconds)


def behind(books: Books) -> list[Violation]:
    """Readers that are not at the end of the signer's log."""
    positions = {"metering": books.metered_to, "quota": books.booked_to}
    return [
        Violation("does not catch up", f"{reader} is at {position}, the log ends at {books.ends_at}")
        for reader, position in positions.items()
        if position != books.ends_at
    ]


def _retried[R](read: Callable[[], R], seconds: float) -> R:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return read()
        except psycopg.Error:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
