"""Entries of a signer's log for tests of metering: any mixture of openings, payments and closings."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from contracts.message import Event, LogEntry
from contracts.signer import PaymentSigned, SessionClosed, SessionOpened

START = datetime(2026, 7, 1, 11, 59, 59, tzinfo=UTC)
WORD_MAX = 2**256 - 1
INTEGER_MAX = 2**63 - 1

wei = st.one_of(st.integers(0, 10**20), st.integers(0, WORD_MAX))
sessions = st.sampled_from([("acme", "s1"), ("acme", "s2"), ("bolt", "s3")])
users = st.sampled_from([None, "ann", "bob"])
apps = st.sampled_from(["", "daydream"])
keys = st.sampled_from(["", "key"])
capabilities = st.sampled_from(["", "llm/a"])
job_types = st.sampled_from(["live", "lv2v"])


@st.composite
def openings(draw: st.DrawFn) -> Event:
    account, session = draw(sessions)
    return SessionOpened(
        account_id=account,
        session_id=session,
        user_id=draw(users),
        key_id="key",
        stream_id=draw(st.sampled_from([None, "stream"])),
        app=draw(apps),
        job_type=draw(job_types),
        orchestrator="0xo",
        capability=draw(capabilities),
    )


@st.composite
def payments(draw: st.DrawFn) -> Event:
    account, session = draw(sessions)
    return PaymentSigned(
        account_id=account,
        session_id=session,
        user_id=draw(users),
        app=draw(apps),
        job_type=draw(job_types),
        recipient=draw(st.sampled_from(["0xr", "0xs"])),
        payer="0xp",
        tickets=draw(st.integers(1, 100)),
        cost=draw(wei),
        face_value=draw(wei),
        win_prob=hex(draw(st.integers(0, WORD_MAX))),
        units=draw(st.integers(0, INTEGER_MAX)),
        price_per_unit=draw(st.integers(0, INTEGER_MAX)),
        pixels_per_unit=draw(st.one_of(st.integers(1, 3), st.integers(1, INTEGER_MAX))),
        creation_round=9,
        key_id=draw(keys),
        capability=draw(capabilities),
    )


@st.composite
def closings(draw: st.DrawFn) -> Event:
    account, session = draw(sessions)
    return SessionClosed(account_id=account, session_id=session, spent=5, ask_number=1)


@st.composite
def logs(draw: st.DrawFn, max_size: int = 40) -> list[LogEntry]:
    """A log with gaps between its positions; times run over the end of an hour."""
    events = draw(st.lists(st.one_of(payments(), payments(), openings(), closings()), max_size=max_size))
    return log_of(events, seconds=draw(st.lists(st.floats(0, 1), min_size=len(events), max_size=len(events))))


@st.composite
def splits(draw: st.DrawFn, entries: Sequence[LogEntry]) -> list[list[LogEntry]]:
    """The same entries in batches, one after the other."""
    cuts = draw(st.sets(st.integers(1, max(1, len(entries) - 1))))
    edges = [0, *sorted(cut for cut in cuts if cut < len(entries)), len(entries)]
    return [list(entries[start:end]) for start, end in pairwise(edges) if start < end]


def log_of(events: Sequence[Event], seconds: Sequence[float] | None = None) -> list[LogEntry]:
    return [
        LogEntry(
            epoch=1,
            position=3 * number + 3,
            previous_position=3 * number,
            subject=event.subject,
            at=START + timedelta(seconds=seconds[number] if seconds else 0.1 * number),
            event=event.model_dump(mode="json"),
        )
        for number, event in enumerate(events)
    ]


def of_payments(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    return [entry.event for entry in entries if entry.subject == PaymentSigned.subject]
