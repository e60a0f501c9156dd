"""Letters that a service's readers buried: listed, and applied once what was wrong is mended.

A letter is settled in the transaction that applies it, so it counts once, whoever redrives it where.
It stays in the table, with who did it, when and why.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, LiteralString

import structlog
from eventsourcing.persistence import PersistenceError
from faststream.nats import NatsBroker
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from contracts.dead_letters import (
    ENTRY_CHARACTERS_MAX,
    LETTER_ID_PATTERN,
    READERS,
    DeadLetter,
    DeadLetterPage,
    LetterState,
    ListDeadLetters,
    ReadDeadLetter,
    RedriveDeadLetters,
    letter_id,
    letters_subject,
)
from contracts.message import LogEntry
from shared import telemetry
from shared.inbox import BURIED_FOR, Inbox
from shared.positions import printable
from shared.refusal import Refused
from shared.store import Effect, EventSourced, ThinRecorder

log = structlog.get_logger()

COUNT_SECONDS = 5.0
COLUMNS: LiteralString = """
reader, epoch, position, subject, coalesce(happened_at, buried_at) AS happened_at, state, reason, tries,
buried_at, coalesce(tried_at, buried_at) AS tried_at, settled_at, settled_by, settled_why
"""
PAGE: LiteralString = f"""
SELECT {COLUMNS} FROM {{letters}} WHERE (%(reader)s = '' OR reader = %(reader)s)
    AND (state = 'waiting' OR NOT %(waiting)s)
    AND (reader, epoch, position) > (%(after_reader)s, %(after_epoch)s, %(after_position)s)
ORDER BY reader, epoch, position LIMIT %(limit)s
"""  # noqa: S608 (our own column names)
ONE: LiteralString = f"""
SELECT {COLUMNS}, entry::text AS entry FROM {{letters}} WHERE (reader, epoch, position) = (%s, %s, %s)
"""  # noqa: S608 (our own column names)
SETTLE: LiteralString = """
UPDATE {letters} SET state = %s, tries = tries + 1, tried_at = now(), settled_at = now(), settled_by = %s,
    settled_why = %s WHERE (reader, epoch, position) = (%s, %s, %s) AND state = 'waiting'
"""
KEEP: LiteralString = """
UPDATE {letters} SET reason = %s, tries = tries + 1, tried_at = now()
WHERE (reader, epoch, position) = (%s, %s, %s) AND state = 'waiting'
"""
COUNT: LiteralString = (
    "SELECT reader, count(*) AS waiting FROM {letters} WHERE state = 'waiting' GROUP BY reader"
)


class DeadLetterNotFound(Refused):
    code = "dead_letter_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no dead letter {name}")


class BadLetterId(Refused):
    code = "bad_letter_id"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name[:64]!r} is not <reader>:<epoch>:<position>")


class BadRedrive(Refused):
    code = "bad_redrive"


class LetterSettledError(Exception):
    """Somebody else redrove it meanwhile."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a letter's id says. The empty reader comes before all others."""

    reader: str = ""
    epoch: int = 0
    position: int = 0

    @classmethod
    def of(cls, name: str | None) -> "Place":
        if name is None:
            return cls()
        if not re.fullmatch(LETTER_ID_PATTERN, name):
            raise BadLetterId(name)
        reader, epoch, position = name.split(":")
        return cls(reader, int(epoch), int(position))

    @property
    def key(self) -> tuple[str, int, int]:
        return self.reader, self.epoch, self.position


class DeadLetters:
    """Those of one service; any replica of it may be asked."""

    def __init__(self, service: str, application: EventSourced, inboxes: list[Inbox]) -> None:
        recorder = application.recorder
        assert isinstance(recorder, ThinRecorder)
        self.service = service
        self._datastore = recorder.datastore
        self._letters = Identifier(recorder.datastore.schema, "dead_letters")
        self._inboxes = {inbox.reader: inbox for inbox in inboxes}

    def list_letters(self, asked: ListDeadLetters) -> DeadLetterPage:
        after = Place.of(asked.after)
        params = {
            "reader": asked.reader,
            "waiting": asked.waiting,
            "after_reader": after.reader,
            "after_epoch": after.epoch,
            "after_position": after.position,
            "limit": asked.limit,
        }
        return DeadLetterPage(letters=[self._letter(row) for row in self._select(PAGE, params)])

    def read_letter(self, name: str) -> DeadLetter:
        """Raises DeadLetterNotFound."""
        row = self._row(Place.of(name))
        return self._letter(row, row["entry"][:ENTRY_CHARACTERS_MAX])

    def redrive(self, asked: RedriveDeadLetters) -> DeadLetterPage:
        """Try each once; the answer is what they are afterwards. Raises BadRedrive, DeadLetterNotFound."""
        if (asked.letter_id is None) == (not asked.reader):
            raise BadRedrive("either letter_id or reader has to say which letters")
        names = [asked.letter_id] if asked.letter_id else self._waiting(asked)
        return DeadLetterPage(letters=[self._redrive_one(name, asked) for name in names])

    async def watch(self) -> None:
        """Tell for ever how many wait."""
        while True:
            try:
                for reader, waiting in (await asyncio.to_thread(self._count)).items():
                    telemetry.dead_letters_waiting.labels(reader).set(waiting)
            except PersistenceError as problem:
                log.warning("letters_not_counted", problem=repr(problem))
            await asyncio.sleep(COUNT_SECONDS)

    def _waiting(self, asked: RedriveDeadLetters) -> list[str]:
        if asked.reader not in self._inboxes:
            raise BadRedrive(f"reader: {asked.reader[:64]!r} is none of {', '.join(self._inboxes)}")
        page = self.list_letters(ListDeadLetters(reader=asked.reader, after=asked.after, limit=asked.limit))
        return [letter.letter_id for letter in page.letters]

    def _redrive_one(self, name: str, asked: RedriveDeadLetters) -> DeadLetter:
        place = Place.of(name)
        row = self._row(place)
        inbox = self._inboxes.get(place.reader)
        if inbox is None:
            raise BadRedrive(f"this release has no reader {place.reader}")
        if row["state"] == "waiting":
            self._try(inbox, LogEntry.model_validate_json(row["entry"]), place, asked)
        return self._letter(self._row(place))

    def _try(self, inbox: Inbox, entry: LogEntry, place: Place, asked: RedriveDeadLetters) -> None:
        settle = SQL(SETTLE).format(letters=self._letters)

        def settled(state: LetterState) -> Effect:
            def effect(cursor: Cursor[DictRow]) -> None:
                cursor.execute(settle, (state, asked.actor, asked.reason, *place.key))
                if not cursor.rowcount:
                    raise LetterSettledError(place)

            return effect

        try:
            inbox.redrive(entry, settled)
        except LetterSettledError:
            log.info("dead_letter_was_settled", reader=place.reader, position=place.position)
        except BURIED_FOR as problem:
            self._keep(place, f"{type(problem).__name__}: {problem}")
        else:
            log.info("dead_letter_redriven", reader=place.reader, position=place.position, actor=asked.actor)

    def _keep(self, place: Place, reason: str) -> None:
        log.error("dead_letter_stays", reader=place.reader, position=place.position, reason=reason)
        with self._datastore.get_connection() as connection:
            query = SQL(KEEP).format(letters=self._letters)
            connection.execute(query, (printable(reason), *place.key))

    def _row(self, place: Place) -> DictRow:
        for row in self._select(ONE, place.key):
            return row
        raise DeadLetterNotFound(letter_id(*place.key))

    def _select(self, query: LiteralString, params: Any) -> list[DictRow]:
        with self._datastore.get_connection() as connection:
            return connection.execute(SQL(query).format(letters=self._letters), params).fetchall()

    def _letter(self, row: DictRow, entry: str | None = None) -> DeadLetter:
        told = {name: value for name, value in row.items() if name != "entry"}
        reader = READERS.get(row["reader"])
        return DeadLetter(
            **told,
            letter_id=letter_id(row["reader"], row["epoch"], row["position"]),
            service=self.service,
            publisher=reader.publisher if reader is not None else "",
            entry=entry,
        )

    def _count(self) -> dict[str, int]:
        found = {row["reader"]: row["waiting"] for row in self._select(COUNT, ())}
        return dict.fromkeys(self._inboxes, 0) | found


def answer_for(letters: DeadLetters, broker: NatsBroker) -> NatsBroker:
    """Have the service's broker answer the commands of dead letters as well."""
    service = letters.service

    @broker.subscriber(letters_subject(service, ListDeadLetters), queue=service)
    def list_dead_letters(command: ListDeadLetters) -> DeadLetterPage:
        return letters.list_letters(command)

    @broker.subscriber(letters_subject(service, ReadDeadLetter), queue=service)
    def read_dead_letter(command: ReadDeadLetter) -> DeadLetter:
        return letters.read_letter(command.letter_id)

    @broker.subscriber(letters_subject(service, RedriveDeadLetters), queue=service)
    def redrive_dead_letters(command: RedriveDeadLetters) -> DeadLetterPage:
        return letters.redrive(command)

    return broker
