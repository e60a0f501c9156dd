"""Reads the signer's log entries as usage.

Entries are plain dictionaries here and every field is checked by hand, because this runs for each
payment. What is not as the contract says raises ValueError, and the inbox buries that entry alone.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from contracts.message import LogEntry
from contracts.signer import PaymentRefused, PaymentSigned, SessionClosed, SessionOpened, TicketRecovered
from services.metering.domain.usage import (
    EPOCH,
    MICROSECOND,
    Closing,
    Opening,
    Payment,
    Price,
    Refusal,
    Span,
    Usage,
    Who,
)

PUBLISHER = "signer"
READS = (
    SessionOpened.subject,
    PaymentSigned.subject,
    SessionClosed.subject,
    TicketRecovered.subject,
    PaymentRefused.subject,
)

INTEGER_END = 2**63
TICKETS_END = 2**31  # far from where a column of sums would overflow
WEI_END = 2**256
STATUS_END = 1000
WEI_DIGITS = 78
WORD = re.compile("(0x)?[0-9a-fA-F]{1,64}")
TEXT_BYTES = 400
KEY_BYTES = 2000  # PostgreSQL's index entries end at about 2,700


def read_usage(entries: Sequence[LogEntry]) -> tuple[Span, Usage]:
    """What a stretch of the signer's log says; raises ValueError for what cannot be so."""
    reader = _Reader(entries[0])
    for entry in entries:
        try:
            reader.read(entry)
        except (KeyError, TypeError, AttributeError) as problem:
            raise ValueError(f"entry {entry.position}: {problem!r}") from problem
    return Span(PUBLISHER, entries[0].epoch, entries[0].position, entries[-1].position), reader.usage()


class _Reader:
    """Collects a batch; who pays and at which price are looked up, and checked, once each."""

    def __init__(self, first: LogEntry) -> None:
        self._first = first.position
        self._at = _microseconds(first.at)
        self._who_by_raw: dict[tuple[Any, ...], int] = {}
        self._who: list[Who] = []
        self._price_by_raw: dict[tuple[Any, ...], int] = {}
        self._prices: list[Price] = []
        self._payments: list[Payment] = []
        self._opened: list[Opening] = []
        self._closed: list[Closing] = []
        self._refused: list[Refusal] = []

    def usage(self) -> Usage:
        usage: Usage = {
            "at": self._at,
            "who": self._who,
            "prices": self._prices,
            "payments": self._payments,
            "opened": self._opened,
            "closed": self._closed,
        }
        if self._refused:
            usage["refused"] = self._refused
        return usage

    def read(self, entry: LogEntry) -> None:
        if entry.subject == PaymentSigned.subject:
            self._payments.append(self._payment(entry, entry.at))
        elif entry.subject == TicketRecovered.subject:
            # Usage of when it was signed, in a history that a restore lost.
            self._payments.append(self._payment(entry, datetime.fromisoformat(entry.event["happened_at"])))
        elif entry.subject == SessionOpened.subject:
            self._opened.append(self._opening(entry))
        elif entry.subject == SessionClosed.subject:
            self._closed.append(self._closing(entry))
        elif entry.subject == PaymentRefused.subject:
            self._refused.append(self._refusal(entry))
        else:
            raise ValueError(f"{entry.subject} is not for metering")

    def _payment(self, entry: LogEntry, signed_at: datetime) -> Payment:
        event = entry.event
        who = self._who_index(event)
        price = self._price_index(event)
        tickets, units = event["tickets"], event["units"]
        if type(tickets) is not int or not 0 <= tickets < TICKETS_END:
            raise ValueError(f"tickets: {tickets!r:.99}")
        if type(units) is not int or not 0 <= units < INTEGER_END:
            raise ValueError(f"units: {units!r:.99}")
        position, at = entry.position - self._first, _microseconds(signed_at) - self._at
        return position, at, who, price, tickets, _wei(event["cost"]), units

    def _who_index(self, event: dict[str, Any]) -> int:
        raw = (
            event["account_id"],
            event["user_id"],
            event["session_id"],
            event["job_type"],
            event["app"],
            event["recipient"],
            event.get("key_id", ""),
            event.get("capability", ""),
        )
        index = self._who_by_raw.get(raw)
        if index is None:
            account, user, session, job_type, app, recipient, *use = raw
            known = (
                _key(account),
                _optional(user),
                _key(session),
                _text(job_type),
                _text(app),
                _key(recipient),
            )
            who = (*known, *map(_text, use))
            if sum(len(text.encode()) for text in who) > KEY_BYTES:
                raise ValueError("the names of account, user, app and so on are too long")
            index = self._who_by_raw[raw] = len(self._who)
            self._who.append(who)
        return index

    def _price_index(self, event: dict[str, Any]) -> int:
        price_per_unit, pixels_per_unit = event["price_per_unit"], event["pixels_per_unit"]
        if type(price_per_unit) is not int or type(pixels_per_unit) is not int:
            raise ValueError(f"price: {price_per_unit!r:.99} for {pixels_per_unit!r:.99}")
        raw = (event["face_value"], event["win_prob"], price_per_unit, pixels_per_unit)
        index = self._price_by_raw.get(raw)
        if index is None:
            if not 0 <= price_per_unit < INTEGER_END or not 0 < pixels_per_unit < INTEGER_END:
                raise ValueError(f"price: {price_per_unit} for {pixels_per_unit}")
            ev_numerator = _wei(event["face_value"]) * _word(event["win_prob"])
            index = self._price_by_raw[raw] = len(self._prices)
            self._prices.append((ev_numerator, price_per_unit, pixels_per_unit))
        return index

    def _opening(self, entry: LogEntry) -> Opening:
        event = entry.event
        return (
            _microseconds(entry.at) - self._at,
            _key(event["account_id"]),
            _optional(event["user_id"]),
            _key(event["session_id"]),
            _text(event["job_type"]),
            _text(event["app"]),
            _text(event["orchestrator"]),
            _optional(event["stream_id"]),
            _text(event.get("key_id", "")),
            _text(event.get("capability", "")),
        )

    def _closing(self, entry: LogEntry) -> Closing:
        event = entry.event
        position, at = entry.position - self._first, _microseconds(entry.at) - self._at
        return position, at, _key(event["account_id"]), _key(event["session_id"])

    def _refusal(self, entry: LogEntry) -> Refusal:
        event, at = entry.event, _microseconds(entry.at) - self._at
        account, session, status = _key(event["account_id"]), _key(event["session_id"]), event["status"]
        if type(status) is not int or not 0 <= status < STATUS_END:
            raise ValueError(f"status: {status!r:.99}")
        return at, account, session, status, _key(event["reason"])


def _microseconds(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return (at - EPOCH) // MICROSECOND


def _wei(text: Any) -> int:
    if type(text) is not str or not (text.isascii() and text.isdigit()) or len(text) > WEI_DIGITS:
        raise ValueError(f"wei: {text!r:.99}")
    wei = int(text)
    if wei >= WEI_END:
        raise ValueError(f"wei: {text}")
    return wei


def _word(text: Any) -> int:
    """A number of up to 32 bytes in hex."""
    if type(text) is not str or WORD.fullmatch(text) is None:
        raise ValueError(f"win_prob: {text!r:.99}")
    return int(text, 16)


def _text(text: Any) -> str:
    """Text that PostgreSQL can keep and index."""
    if type(text) is not str or "\0" in text or len(text.encode()) > TEXT_BYTES:
        raise ValueError(f"text: {text!r:.99}")
    return text


def _optional(text: Any) -> str:
    return "" if text is None else _text(text)


def _key(text: Any) -> str:
    if not text:
        raise ValueError("an id is missing")
    return _text(text)
