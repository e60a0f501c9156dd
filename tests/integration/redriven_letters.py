"""A log of which some entries were buried, and their letters redriven by several replicas at once."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

from nats.aio.client import Client
from psycopg.rows import DictRow

from contracts.dead_letters import DeadLetter, ListDeadLetters, RedriveDeadLetters
from contracts.message import Event, LogEntry
from contracts.signer import PaymentSigned
from shared.clock import Clock
from shared.dead_letters import DeadLetters
from shared.inbox import Inbox
from shared.store import Effect, EventSourced, ThinRecorder
from tests import infra
from tests.beside import together

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
