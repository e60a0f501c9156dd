"""Letters redriven in any order, often and by several replicas at once: as if nothing had been buried.

On real PostgreSQL. A release that cannot read some entries buries them; the next one can.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from threading import Barrier
from typing import Any

import pytest
from nats.aio.client import Client
from psycopg.rows import DictRow

from contracts.accounts import AccountResumed, AccountSuspended
from contracts.dead_letters import DeadLetter, ListDeadLetters, RedriveDeadLetters
from contracts.deposit_watcher import FundsObserved, RoundChanged
from contracts.message import Event, LogEntry
from contracts.signer import PaymentRefused, PaymentSigned, SessionClosed, SessionOpened, TicketRecovered
from contracts.stream_starts import StreamStarted, StreamStopped
from services.metering import deliveries, entries, handlers, stream_handlers
from services.metering.app import CONSUMERS_BY_PUBLISHER, make_tables
from services.metering.application import Metering
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.metering.replay import replay as metering_replay
from services.metering.stream_tables import StreamStore
from services.metering.streaming import Streaming
from services.quota.app import inboxes as quota_inboxes
from services.quota.application import Quota
from services.quota.domain.granting import Ask
from services.quota.outbox import QuotaOutbox
from services.quota.replay import replay as quota_replay
from shared.clock import Clock
from shared.dead_letters import BadRedrive, DeadLetterNotFound, DeadLetters
from shared.inbox import Inbox
from shared.log import PublicLog
from shared.money import Wei
from shared.positions import Positions
from shared.store import Effect, EventSourced, ThinRecorder, postgres_env
from tests import infra

START = datetime(2026, 7, 1, 11, 40, tzinfo=UTC)
PAYER = "0x" + "11" * 20
ORPHANED_CLIENT = Client()  # nothing here goes over the bus
SEEDS = range(6)

type Databases = Callable[..., infra.Database]


class FixedClock(Clock):
    def now(self) -> datetime:
        return START + timedelta(days=1)


def entry(epoch: int, position: int, event: Event, at: datetime) -> LogEntry:
    told = event.model_dump(mode="json")
    return LogEntry(
        epoch=epoch, position=position, previous_position=0, subject=event.subject, at=at, event=told
    )


def log_of(events: Sequence[Event]) -> list[LogEntry]:
    """With gaps, as positions have them."""
    return [
        entry(1, 3 * number + 3, event, START + timedelta(seconds=47 * number))
        for number, event in enumerate(events)
    ]


class Older:
    """The release before: it cannot read the entries of these positions."""

    def __init__(self, inbox: Inbox, unreadable: set[int]) -> None:
        self._inbox, self._apply = inbox, inbox._apply  # noqa: SLF001
        self._unreadable = unreadable
        inbox._apply = self._read  # noqa: SLF001

    def _read(self, found: Sequence[LogEntry], done: Effect) -> None:
        if any(each.position in self._unreadable for each in found):
            raise ValueError("not read by this release")
        self._apply(found, done)

    def follow(self, told: Sequence[LogEntry]) -> None:
        self._inbox._apply_batch(told)  # noqa: SLF001


def rows(application: EventSourced, query: str) -> list[DictRow]:
    assert isinstance(application.recorder, ThinRecorder)
    with application.recorder.datastore.get_connection() as connection:
        return sorted(connection.execute(query.encode()).fetchall(), key=str)


def together[R](*calls: Callable[[], R]) -> list[R]:
    barrier = Barrier(len(calls))

    def run(call: Callable[[], R]) -> R:
        barrier.wait(10)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [running.result(60) for running in [pool.submit(run, call) for call in calls]]


def redrive(letters: DeadLetters, letter_id: str) -> DeadLetter:
    asked = RedriveDeadLetters(letter_id=letter_id, actor="operator-1", reason="mended")
    [letter] = letters.redrive(asked).letters
    return letter


def redrive_all(replicas: Sequence[DeadLetters], random: Random) -> list[DeadLetter]:
    """In any order, each several times, two at a time at two replicas."""
    waiting = [letter.letter_id for letter in replicas[0].list_letters(ListDeadLetters()).letters]
    asked = waiting * 2
    random.shuffle(asked)
    for letter_id in asked:
        both = together(*(partial(redrive, replica, letter_id) for replica in replicas))
        assert both[0] == both[1]
    assert replicas[0].list_letters(ListDeadLetters()).letters == []
    return [replicas[0].read_letter(letter_id) for letter_id in waiting]


# Metering


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


def payment(session: str, random: Random) -> PaymentSigned:
    return PaymentSigned(
        account_id="acme",
        session_id=session,
        user_id="ann",
        app="daydream",
        job_type="lv2v",
        recipient="0x" + "22" * 20,
        payer=PAYER,
        tickets=random.randrange(1, 5),
        cost=random.randrange(1, 50),
        face_value=random.randrange(10**18),
        win_prob=hex(random.randrange(2**255)),
        units=random.randrange(10**6),
        price_per_unit=random.randrange(10**6),
        pixels_per_unit=random.choice([1, 7]),
        creation_round=random.choice([10, 11]),
    )


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


# Quota


@contextmanager
def quota_of(dsn: str) -> Iterator[tuple[Quota, dict[str, Inbox]]]:
    quota = Quota(Wei(10**9), postgres_env(dsn, "quota", create_tables=True))
    try:
        PublicLog(quota, QuotaOutbox(quota)).create_tables()
        Positions(quota).create_tables()
        quota.create_tables()
        found = {inbox.reader.split("-", 1)[1]: inbox for inbox in quota_inboxes(quota, ORPHANED_CLIENT)}
        for inbox in found.values():
            Positions(quota).get(inbox.reader)
        yield quota, found
    finally:
        quota.close()


def funds(deposit: int) -> FundsObserved:
    return FundsObserved(
        payer=PAYER, deposit=deposit, reserve=5, withdraw_round=0, pool_size=100, l1_block=1, block_hash="0x"
    )


def ask_of(session: str, number: int) -> Ask:
    return Ask(
        account_id="acme",
        key_id="key",
        session_id=session,
        number=number,
        payer=PAYER,
        needed=Wei(60),
        wanted=Wei(100),
    )


type Step = tuple[str, Event] | Ask


def house_of(random: Random) -> list[Step]:
    """What quota hears and is asked, in order; in the end every session closes."""
    asks = dict.fromkeys(("session-0", "session-1"), 0)
    steps: list[Step] = [("follow-funds", funds(10**9))]
    round_number = 10
    for number in range(50):
        session = random.choice(list(asks))
        match random.choice(
            ("ask", "ask", "pay", "pay", "pay", "close", "suspend", "resume", "funds", "round")
        ):
            case "ask":
                asks[session] += 1
                steps.append(ask_of(session, asks[session]))
            case "pay":
                steps.append(("follow-spend", payment(session, random)))
            case "close":
                steps.append(("follow-spend", _closed(session, asks[session])))
            case "suspend":
                steps.append(("follow-accounts", AccountSuspended(account_id="acme", reason="unpaid")))
            case "resume":
                steps.append(("follow-accounts", AccountResumed(account_id="acme")))
            case "funds":
                steps.append(("follow-funds", funds(10**8 + number)))
            case "round":
                round_number += 1
                changed = RoundChanged(round=round_number, round_hash="0x", ticket_validity_rounds=2)
                steps.append(("follow-funds", changed))
    return [*steps, *(("follow-spend", _closed(session, number)) for session, number in asks.items())]


def _closed(session: str, number: int) -> SessionClosed:
    return SessionClosed(account_id="acme", session_id=session, spent=0, ask_number=number)


def live(quota: Quota, inboxes: dict[str, Inbox], steps: Sequence[Step], unreadable: set[int]) -> None:
    older = {name: Older(inbox, unreadable) for name, inbox in inboxes.items()}
    for number, step in enumerate(steps):
        at = START + timedelta(seconds=47 * number)
        if isinstance(step, Ask):
            quota.grant_all([step], at)
        else:
            name, event = step
            older[name].follow([entry(1, 3 * number + 3, event, at)])


def held_and_spent(quota: Quota) -> dict[str, object]:
    budget, pool = quota.budget("acme", START), quota.pool(PAYER)
    return {
        "spent": budget.spent,
        "held": budget.held,
        "suspended": bool(budget.suspended),
        "pool": (pool.deposit, pool.reserve, pool.round, pool.held, pool.costs),
        "allowances": rows(quota, "SELECT account_id, session_id FROM quota.allowances"),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_quota_is_as_if_nothing_had_been_buried(database: Databases, seed: int) -> None:
    random = Random(seed)
    steps = house_of(random)
    with quota_of(database("quota").dsn("quota")) as (quota, inboxes):
        live(quota, inboxes, steps, set())
        expected = held_and_spent(quota)

    dsn = database("quota").dsn("quota")
    told = [3 * number + 3 for number, step in enumerate(steps) if not isinstance(step, Ask)]
    with quota_of(dsn) as (quota, inboxes):
        live(quota, inboxes, steps, set(random.sample(told[1:], 12)))
    with quota_of(dsn) as (quota, first), quota_of(dsn) as (other, second):
        replicas = (
            DeadLetters("quota", quota, list(first.values())),
            DeadLetters("quota", other, list(second.values())),
        )
        settled = redrive_all(replicas, random)

        assert held_and_spent(quota) == expected
        assert {letter.state for letter in settled} <= {"applied", "overtaken"}
    assert expected["held"] == 0
    assert quota_replay.verify(dsn).differing == {}


def test_a_suspension_that_was_lifted_since_is_not_suspended_again(database: Databases) -> None:
    dsn = database("quota").dsn("quota")
    suspended, resumed = log_of(
        [AccountSuspended(account_id="acme", reason="unpaid"), AccountResumed(account_id="acme")]
    )
    with quota_of(dsn) as (quota, inboxes):
        older = Older(inboxes["follow-accounts"], {suspended.position})
        older.follow([suspended])
        older.follow([resumed])
    with quota_of(dsn) as (quota, inboxes):
        letters = DeadLetters("quota", quota, list(inboxes.values()))

        letter = redrive(letters, f"quota-follow-accounts:1:{suspended.position}")

        assert letter.state == "overtaken"
        assert not quota.budget("acme", START).suspended
