"""However the logs are cut into pages, and whoever is away meanwhile: every event is told once.

Each service's come in its order, and a cursor stands for all that came before it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from contracts.public_log import Cursor, PublicEvent, Wanted, decode, encode
from contracts.streams import PUBLISHERS
from shared.bus import ServiceUnavailableError
from shared.log_reader import EpochOverError, LogReader
from tests.public_logs import FakeLogs, at, closed, ids, paid

SERVICES = ("accounts", "quota", "signer")
ACCOUNTS = ("acme", "other")
TRIES_MAX = 400


@dataclass(frozen=True)
class Written:
    """One entry: of which service, when, whose, and which of two types."""

    service: str
    second: int
    account_id: str
    pays: bool


@dataclass(frozen=True)
class Step:
    """Before a page is read: what is written, and who is away."""

    writes: Sequence[Written]
    away: frozenset[str]
    limit: int
    size: int


WRITES = st.lists(
    st.builds(
        Written, st.sampled_from(SERVICES), st.integers(0, 9), st.sampled_from(ACCOUNTS), st.booleans()
    ),
    max_size=6,
)
STEPS = st.lists(
    st.builds(
        Step,
        WRITES,
        st.frozensets(st.sampled_from(SERVICES), max_size=2),
        st.integers(1, 4),
        st.integers(1, 5),
    ),
    max_size=12,
)
WANTED = st.builds(
    Wanted,
    st.sampled_from([None, frozenset({"PaymentSigned"}), frozenset({"PaymentSigned", "SessionClosed"})]),
    st.sampled_from([None, "acme"]),
)


def write(logs: FakeLogs, writes: Sequence[Written]) -> None:
    for one in writes:
        event = paid(one.account_id) if one.pays else closed(one.account_id)
        logs.of[one.service].tell(event, at=at(one.second))


async def follow(logs: FakeLogs, steps: Sequence[Step], wanted: Wanted) -> tuple[list[PublicEvent], Cursor]:
    """Read page after page, and to the end at last."""
    reader = LogReader(logs.ask_page)
    seen: list[PublicEvent] = []
    cursor: Cursor = {}
    for step in steps:
        write(logs, step.writes)
        for service, log in logs.of.items():
            log.away = service in step.away
        try:
            reading = await reader.read(cursor, wanted, step.limit, size=step.size)
        except ServiceUnavailableError:
            continue
        assert len(reading.events) <= step.limit
        seen += reading.events
        cursor = decode(encode(reading.cursor)) if reading.cursor else {}
    for log in logs.of.values():
        log.away = False
    for _ in range(TRIES_MAX):
        reading = await reader.read(cursor, wanted, 2, size=3)
        seen += reading.events
        cursor = reading.cursor
        if reading.at_end:
            return seen, cursor
    raise AssertionError("it never comes to the end")


@given(first=WRITES, steps=STEPS, wanted=WANTED)
def test_every_event_that_is_wanted_is_told_once_and_in_its_logs_order(
    first: list[Written], steps: list[Step], wanted: Wanted
) -> None:
    logs = FakeLogs(*PUBLISHERS)
    write(logs, first)

    seen, cursor = asyncio.run(follow(logs, steps, wanted))

    for service, log in logs.of.items():
        there = [
            f"{service}:{entry.epoch}:{entry.position}"
            for entry in log.entries
            if (wanted.account_id is None or entry.event["account_id"] == wanted.account_id)
            and (wanted.types is None or entry.subject.split(".")[2] in names(wanted.types))
        ]
        asked = service in wanted.services()
        assert ids([event for event in seen if event.service == service]) == (there if asked else [])
        if asked and log.entries:
            assert cursor[service].position == log.head


def names(types: frozenset[str]) -> set[str]:
    known = {"PaymentSigned": "payment_signed", "SessionClosed": "session_closed"}
    return {known[name] for name in types}


@given(before=st.integers(0, 6), kept=st.integers(0, 6), after=st.integers(0, 4), read=st.integers(1, 6))
def test_over_a_restore_no_entry_of_what_the_log_says_now_is_left_out(
    before: int, kept: int, after: int, read: int
) -> None:
    logs = FakeLogs(*PUBLISHERS)
    log = logs.of["signer"]
    for _ in range(before):
        log.tell(paid())
    reader = LogReader(logs.ask_page)

    async def read_all() -> set[str]:
        reading = await reader.read({}, Wanted(), read, size=read)
        seen, cursor = set(ids(reading.events)), reading.cursor
        log.restore(min(kept, before), epoch=2)
        for _ in range(after):
            log.tell(paid())
        while True:
            try:
                reading = await reader.read(cursor, Wanted(), read, size=read)
            except EpochOverError as over:
                cursor = over.cursor
                continue
            seen |= set(ids(reading.events))
            cursor = reading.cursor
            if reading.at_end:
                return seen

    seen = asyncio.run(read_all())

    assert {f"signer:{entry.epoch}:{entry.position}" for entry in log.entries} <= seen
