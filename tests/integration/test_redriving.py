"""Letters of metering redriven in any order, often and by several replicas: as if nothing had been buried.

On real PostgreSQL. A release that cannot read some entries buries them; the next one can.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from psycopg.rows import DictRow

from contracts.dead_letters import ListDeadLetters, RedriveDeadLetters
from contracts.message import Event, LogEntry
from contracts.signer import PaymentRefused, SessionClosed, SessionOpened, TicketRecovered
from contracts.stream_starts import StreamStarted, StreamStopped
from services.metering import deliveries, entries, handlers, stream_handlers
from services.metering.app import CONSUMERS_BY_PUBLISHER, make_tables
from services.metering.application import Metering
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.metering.replay import replay as metering_replay
from services.metering.stream_tables import StreamStore
from services.metering.streaming import Streaming
from shared.dead_letters import BadRedrive, DeadLetterNotFound, DeadLetters
from shared.inbox import Inbox
from shared.log import PublicLog
from shared.positions import Positions
from shared.store import ThinRecorder, postgres_env
from tests.integration.redriven_letters import (
    ORPHANED_CLIENT,
    SEEDS,
    START,
    Databases,
    FixedClock,
    Older,
    entry,
    log_of,
    payment,
    redrive,
    redrive_all,
    rows,
)


@contextmanager
def metering_of(dsn: str) -> Iterator[tuple[Metering, list[Inbox]]]:
    with Metering(usage_tables("metering"), postgres_env(dsn, "metering", create_tables=True)) as made:
        make_tables(made, PublicLog(made, MeteringOutbox(made)))
        assert isinstance(made.recorder, ThinRecorder)
        store = StreamStore(made.recorder.datastore)
        streaming, clock = Streaming(made, store, grace=timedelta(hours=12), raw_days=7), FixedClock()
        follows: dict[str, Any] = {
            "signer": (handlers.recording(made, clock), entries.READS),
            "quota": (stream_handlers.following(streaming, clock), deliveries.READS),
        }
        inboxes = [
            Inbox(CONSUMERS_BY_PUBLISHER[publisher], ORPHANED_CLIENT, made, *read)
            for publisher, read in follows.items()
        ]
        for inbox in inboxes:
            Positions(made).get(inbox.reader)
        yield made, inboxes


METERING_TABLES = ("usage_hourly", "sessions", "session_refusals", "streams", "stream_hourly")


def metered(made: Metering) -> dict[str, list[DictRow]]:
    return {table: rows(made, f"SELECT * FROM metering.{table}") for table in METERING_TABLES}


def signers_log(random: Random) -> list[LogEntry]:
    """Sessions that pay, are refused, close, and go on."""
    events: list[Event] = []
    for number in range(40):
        session = f"session-{random.randrange(3)}"
        refused = PaymentRefused(account_id="acme", session_id=session, status=402, reason="limit")
        closed = SessionClosed(account_id="acme", session_id=session, spent=number, ask_number=number)
        events.append(random.choice([payment(session, random), payment(session, random), refused, closed]))
    opened = {
        name: SessionOpened(
            account_id="acme", session_id=name, user_id="ann", key_id="key", stream_id="stream-1",
            app="daydream", job_type="lv2v", orchestrator="0xo",
        )
        for name in ("session-0", "session-1", "session-2")
    }  # fmt: skip
    return log_of([*opened.values(), *events])


def quotas_log(random: Random) -> list[LogEntry]:
    events: list[Event] = []
    for _ in range(20):
        stream = f"stream-{random.randrange(2)}"
        started = StreamStarted(
            account_id="acme", stream_id=stream, user_id="ann", key_id=None, app="daydream", job_type="lv2v"
        )
        events.append(
            random.choice([started, StreamStopped(account_id="acme", stream_id=stream, because="ended")])
        )
    return log_of(events)


@pytest.mark.parametrize("seed", SEEDS)
def test_metering_is_as_if_nothing_had_been_buried(database: Databases, seed: int) -> None:
    random = Random(seed)
    logs = signers_log(random), quotas_log(random)
    with metering_of(database("metering").dsn("metering")) as (made, inboxes):
        for inbox, told in zip(inboxes, logs, strict=True):
            Older(inbox, set()).follow(told)
        expected = metered(made)

    dsn = database("metering").dsn("metering")
    with metering_of(dsn) as (made, inboxes):
        for inbox, told in zip(inboxes, logs, strict=True):
            poison = {each.position for each in random.sample(told, 9)}
            cut = random.randrange(1, len(told))
            older = Older(inbox, poison)
            older.follow(told[:cut])
            older.follow(told[cut:])
    with metering_of(dsn) as (made, first), metering_of(dsn) as (other, second):
        replicas = DeadLetters("metering", made, first), DeadLetters("metering", other, second)
        settled = redrive_all(replicas, random)

        assert metered(made) == expected
        assert [letter.state for letter in settled] == ["applied"] * 18
        assert {(letter.settled_by, letter.settled_why) for letter in settled} == {("operator-1", "mended")}
    assert metering_replay.verify(dsn).differing == {}


def test_what_fails_again_stays_with_its_new_reason(database: Databases) -> None:
    dsn = database("metering").dsn("metering")
    [told] = log_of([payment("session-1", Random(1)).model_copy(update={"app": "a" * 500})])
    with metering_of(dsn) as (made, inboxes):
        Older(inboxes[0], {told.position}).follow([told])
    with metering_of(dsn) as (made, inboxes):
        letters = DeadLetters("metering", made, inboxes)
        [buried] = letters.list_letters(ListDeadLetters()).letters

        stays = redrive(letters, buried.letter_id)

        assert (buried.reason, buried.tries) == ("ValueError: not read by this release", 1)
        assert (stays.state, stays.tries, stays.settled_at) == ("waiting", 2, None)
        assert stays.reason.startswith("ValueError: text: 'aaa")
        assert rows(made, "SELECT * FROM metering.usage_hourly") == []
    assert metering_replay.verify(dsn).differing == {}


def test_letters_of_a_reader_are_paged_and_redriven_oldest_first(database: Databases) -> None:
    dsn = database("metering").dsn("metering")
    told = log_of([payment("session-1", Random(number)) for number in range(5)])
    with metering_of(dsn) as (made, inboxes):
        Older(inboxes[0], {each.position for each in told}).follow(told)
    with metering_of(dsn) as (made, inboxes):
        letters = DeadLetters("metering", made, inboxes)
        reader, command = inboxes[0].reader, {"actor": "operator-1", "reason": "mended"}
        two = letters.list_letters(ListDeadLetters(reader=reader, limit=2)).letters
        rest = letters.list_letters(ListDeadLetters(after=two[-1].letter_id)).letters

        first = letters.redrive(RedriveDeadLetters(reader=reader, limit=3, **command)).letters
        after = letters.redrive(
            RedriveDeadLetters(reader=reader, after=first[-1].letter_id, **command)
        ).letters

        assert [letter.position for letter in two + rest] == [each.position for each in told]
        assert [letter.position for letter in first + after] == [each.position for each in told]
        assert {letter.state for letter in first + after} == {"applied"}
        everything = letters.list_letters(ListDeadLetters(waiting=False)).letters
        assert [letter.letter_id for letter in everything] == [letter.letter_id for letter in first + after]


def test_what_names_no_letter_is_refused(database: Databases) -> None:
    with metering_of(database("metering").dsn("metering")) as (made, inboxes):
        letters = DeadLetters("metering", made, inboxes)
        author = {"actor": "operator-1", "reason": "mended"}

        with pytest.raises(DeadLetterNotFound):
            redrive(letters, "metering-record-usage:1:3")
        for wrong in ({}, {"reader": "nobody"}, {"reader": "a", "letter_id": "metering-record-usage:1:3"}):
            with pytest.raises(BadRedrive):
                letters.redrive(RedriveDeadLetters.model_validate({**wrong, **author}))


def test_a_ticket_told_again_counts_once_beside_its_letter(database: Databases) -> None:
    """The signer lost the entry that is a letter here, and told it again in its next epoch."""
    dsn, random = database("metering").dsn("metering"), Random(3)
    [lost, *_] = log_of([payment("session-1", random)])
    recovered = TicketRecovered(
        lost_epoch=1, lost_position=lost.position, happened_at=lost.at, **_fields_of(lost)
    )
    with metering_of(dsn) as (made, inboxes):
        Older(inboxes[0], {lost.position}).follow([lost])
        inboxes[0]._past = {1: lost.position}  # noqa: SLF001 (as it reads it after the epoch changed)
        inboxes[0]._apply_batch([entry(2, 3, recovered, START + timedelta(hours=1))])  # noqa: SLF001
    with metering_of(dsn) as (made, inboxes):
        letters = DeadLetters("metering", made, inboxes)
        for _ in range(2):
            assert redrive(letters, f"metering-record-usage:1:{lost.position}").state == "applied"

        assert [row["payments"] for row in rows(made, "SELECT * FROM metering.usage_hourly")] == [1]


def test_a_letter_that_tells_again_what_was_applied_changes_nothing(database: Databases) -> None:
    dsn, random = database("metering").dsn("metering"), Random(4)
    [lost] = log_of([payment("session-1", random)])
    recovered = TicketRecovered(lost_epoch=7, lost_position=5, happened_at=lost.at, **_fields_of(lost))
    told = log_of([recovered, recovered])
    with metering_of(dsn) as (made, inboxes):
        older = Older(inboxes[0], {told[0].position})
        for each in told:
            older.follow([each])
    with metering_of(dsn) as (made, inboxes):
        letter = redrive(
            DeadLetters("metering", made, inboxes), f"metering-record-usage:1:{told[0].position}"
        )

        assert letter.state == "repeated"
        assert [row["payments"] for row in rows(made, "SELECT * FROM metering.usage_hourly")] == [1]


def _fields_of(told: LogEntry) -> dict[str, Any]:
    return {name: value for name, value in told.event.items() if name in TicketRecovered.model_fields}
