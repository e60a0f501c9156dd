"""Applies another service's log: every entry once, in order, whatever the bus does.

An entry is applied only if its `previous_position` is the position applied last, in the
transaction of its effect. Lower: it was applied before. Higher: the gap is read from the log
first. An idle reader asks the log too, so a wiped bus costs a second, not an entry.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from psycopg import Cursor
from psycopg.rows import DictRow
from pydantic import ValidationError
from pydantic_core import to_json

from contracts.dead_letters import LetterState
from contracts.message import (
    CHECKSUM_HEADER,
    LogEntry,
    LogEpoch,
    LogPage,
    ReadLog,
    checksum,
    read_log_subject,
)
from contracts.streams import DEAD_SUBJECT, Consumer, stream_of
from shared import telemetry
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask
from shared.positions import OvertakenError, Position, PositionMovedError, Positions
from shared.store import Effect, EventSourced

log = structlog.get_logger()

BATCH = 500
FETCH_SECONDS = 1.0
GATHER_SECONDS = 0.05
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)

# Applies entries and runs `done` in the same transaction (EventSourced.save takes it as an effect).
type Apply = Callable[[Sequence[LogEntry], Effect], None]
# Names what an entry sets, where the one that was told last counts; None where order changes nothing.
type Sets = Callable[[LogEntry], str | None]
# What is to be done with a letter in the transaction that applies it, or finds that nothing is left to do.
type Settle = Callable[[LetterState], Effect]
BURIED_FOR = (ValueError, KeyError, TypeError)


def sets_nothing(_: LogEntry) -> None:
    return None


class LogWentBackError(Exception):
    """The publisher's log ends before what was applied, and no epoch of it says why (yet)."""


class Inbox:
    """One durable reader of one publisher's log."""

    def __init__(
        self,
        consumer: Consumer,
        client: Client,
        application: EventSourced,
        apply: Apply,
        reads: Sequence[str],
        *,
        sets: Sets = sets_nothing,
        apply_late: Apply | None = None,
    ) -> None:
        """`apply_late` applies an entry long after those that followed it; None: `apply` does it as well."""
        self._consumer = consumer
        self.reader = self._reader = consumer.durable
        self._client = client
        self._application = application
        self._positions = Positions(application)
        self._apply = apply
        self._apply_late = apply_late or apply
        self._sets = sets
        self._reads = frozenset(reads)
        self._families = frozenset(_family(subject) for subject in reads)
        self._at = Position(1, 0)
        self._past: dict[int, int] = {}  # by epoch
        self._buried: list[dict[str, Any]] = []
        self._failures = 0  # since the last step that went well

    async def run(self) -> None:
        """Apply for ever; a broken world is retried with growing pauses."""
        while True:
            try:
                await self._follow()
            except PositionMovedError:
                self._failures = 0
            except (
                PersistenceError,
                CommandRefusedError,  # a publisher of another release may not know the question yet
                ServiceUnavailableError,
                NatsError,
                LogWentBackError,
            ) as problem:
                if isinstance(problem, LogWentBackError):
                    log.error("log_went_back", reader=self._reader, problem=str(problem))
                pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
                self._failures += 1
                log.warning("inbox_waits", reader=self._reader, problem=repr(problem), seconds=pause)
                await asyncio.sleep(pause)

    async def _follow(self) -> None:
        self._at = await asyncio.to_thread(self._positions.get, self._reader)
        self._past = await asyncio.to_thread(self._positions.past, self._reader)
        jetstream = self._client.jetstream()
        stream = stream_of(self._consumer.publisher)
        subscription = await jetstream.pull_subscribe_bind(durable=self._reader, stream=stream)
        try:
            while True:
                await self._step(subscription)
                self._failures = 0
        finally:
            await subscription.unsubscribe()

    async def _step(self, subscription: JetStreamContext.PullSubscription) -> None:
        messages = await _fetch(subscription)
        entries = [entry for message in messages if (entry := self._read(message)) is not None]
        entries = [entry for entry in entries if entry.epoch >= self._at.epoch]  # older ones are over
        entries.sort(key=lambda entry: (entry.epoch, entry.position))
        if not entries or entries[0].epoch > self._at.epoch:
            await self._fill_gap(upto=None)
        else:
            if entries[0].previous_position > self._at.position:
                telemetry.inbox_gaps_total.labels(self._consumer.publisher).inc()
                await self._fill_gap(upto=entries[0].previous_position)
            await self._apply_chain(entries)
        if messages:
            await messages[-1].ack()  # the consumer acknowledges all before it too

    def _read(self, message: Msg) -> LogEntry | None:
        """The entry, unless it is not what was published: the log has it, and the gap is read there."""
        told = (message.headers or {}).get(CHECKSUM_HEADER)  # none from an older publisher
        if told is not None and told != checksum(message.data):
            telemetry.inbox_altered_total.labels(self._consumer.publisher).inc()
            log.error(
                "altered_entry", reader=self._reader, message_id=(message.headers or {}).get("Nats-Msg-Id")
            )
            return None
        try:
            return LogEntry.model_validate_json(message.data)
        except ValidationError as problem:
            log.error("unreadable_entry", reader=self._reader, problem=str(problem))
            return None

    async def _fill_gap(self, upto: int | None) -> None:
        """Read entries from the publisher until `upto`, or until its log ends."""
        subject = read_log_subject(self._consumer.publisher)
        while upto is None or self._at.position < upto:
            # Where a whole page takes longer than we wait for it, a smaller one still gets us on.
            asked = ReadLog(after=self._at.position, limit=max(1, BATCH >> self._failures))
            page = await ask(self._client, asked, LogPage, subject=subject)
            before = self._at
            await self._enter_next_epoch(page)
            if self._at != before:
                upto = None  # it counted in the epoch that is over
                continue
            if page.head < self._at.position:
                raise LogWentBackError(f"{self._at} is after the head {page.head}")
            if not page.entries:
                return
            await self._apply_chain(page.entries)
            if self._at == before:
                raise LogWentBackError(f"the log does not go on from {before}")

    async def _enter_next_epoch(self, page: LogPage) -> None:
        """Leave an epoch that is over once all of it was applied, or more than there is now.

        What the publisher lost, and we applied, stays applied: how far we got is remembered, and
        what it recovers and tells again is left out.
        """
        following = self._next_epoch(page)
        if following is None or self._at.position < following.began_after:
            return
        new = Position(following.epoch, following.began_after)
        log.warning("epoch_entered", reader=self._reader, left=str(self._at), entered=str(new))
        effects = [
            self._positions.advance(self._reader, self._at, new),
            self._positions.leave(self._reader, self._at),
        ]
        await asyncio.to_thread(self._application.recorder.insert_events, [], effects=effects)
        self._past[self._at.epoch] = self._at.position
        self._at = new

    def _next_epoch(self, page: LogPage) -> LogEpoch | None:
        """The epoch after ours; if ours itself was lost, after the last one that we share."""
        if page.epoch == self._at.epoch:
            return None
        known = {epoch.epoch for epoch in page.epochs}
        shared = [epoch for epoch in (self._at.epoch, *self._past) if epoch in known]
        if not shared:
            raise LogWentBackError(f"{self._at} is of no epoch of the log, which is in {page.epoch}")
        return next((epoch for epoch in page.epochs if epoch.epoch > max(shared)), None)

    async def _apply_chain(self, entries: Sequence[LogEntry]) -> None:
        """Apply what follows our position without a gap; what lies before it was applied."""
        chain: list[LogEntry] = []
        position = self._at.position
        for entry in entries:
            if entry.epoch != self._at.epoch:
                break  # another epoch is entered first
            if entry.position <= position:
                continue
            if entry.previous_position != position:
                break  # the next step finds the gap
            chain.append(entry)
            position = entry.position
        for start in range(0, len(chain), BATCH):
            await asyncio.to_thread(self._apply_batch, chain[start : start + BATCH])
            await self._announce_buried()
        telemetry.inbox_position.labels(self._consumer.publisher).set(self._at.position)

    def _apply_batch(self, batch: Sequence[LogEntry]) -> None:
        telemetry.batch_size.labels(self._reader).observe(len(batch))
        wanted = _once([entry for entry in batch if self._wants(entry)])
        try:
            self._apply_in_one(wanted, batch[-1], ())
        except BURIED_FOR as problem:
            if len(batch) == 1:
                self._bury(batch[0], problem)
                return
            for entry in batch:
                self._apply_batch([entry])

    def _wants(self, entry: LogEntry) -> bool:
        """A version we do not know of an event we do read waits for a newer release of us."""
        if entry.subject in self._reads:
            return not self._was_applied(entry, self._past)
        if _family(entry.subject) in self._families:
            raise ServiceUnavailableError(f"{entry.subject} is newer than this reader")
        return False

    def redrive(self, entry: LogEntry, settle: Settle) -> None:
        """Apply an entry that was buried, whatever was applied since; our position stays.

        Raises what it was buried for, if that is so still.
        """
        if entry.subject not in self._reads:
            raise ValueError(f"{entry.subject} is not read by this release")
        if self._was_applied(entry, self._positions.past(self._reader)):
            self._application.recorder.insert_events([], effects=[settle("repeated")])
            return
        notes = self._notes([entry], must_be_last=True)
        try:
            self._apply_late([entry], _all_of([settle("applied"), *notes]))
        except OvertakenError:
            self._application.recorder.insert_events([], effects=[settle("overtaken")])

    def _was_applied(self, entry: LogEntry, past: Mapping[int, int]) -> bool:
        """Whether this tells again what was lost by its publisher, but not by us."""
        lost = _lost_place(entry)
        if lost is None:
            return False
        got_to = past.get(lost.epoch, 0)
        return got_to >= lost.position or self._positions.was_recovered(self._reader, lost)

    def _apply_in_one(self, entries: Sequence[LogEntry], last: LogEntry, effects: Sequence[Effect]) -> None:
        new = Position(last.epoch, last.position)
        advance = self._positions.advance(self._reader, self._at, new)
        done = _all_of([advance, *effects, *self._notes(entries, must_be_last=False)])
        if entries:
            self._apply(entries, done)
        else:
            self._application.recorder.insert_events([], effects=[done])
        self._at = new

    def _notes(self, entries: Sequence[LogEntry], *, must_be_last: bool) -> list[Effect]:
        """What is remembered of entries that are applied: which were told again, and what they set."""
        effects = []
        if lost := [place for entry in entries if (place := _lost_place(entry)) is not None]:
            effects.append(self._positions.recover(self._reader, lost))
        named = ((self._sets(entry), entry) for entry in entries)
        set_by = {what: Position(by.epoch, by.position) for what, by in named if what is not None}
        if set_by:
            effects.append(self._positions.note_set(self._reader, set_by, must_be_last=must_be_last))
        return effects

    def _bury(self, entry: LogEntry, problem: Exception) -> None:
        """Keep a poisonous entry with its reason and go on; nothing vanishes, nobody else stops."""
        reason = f"{type(problem).__name__}: {problem}"
        log.error("entry_buried", reader=self._reader, position=entry.position, reason=reason)
        telemetry.dead_letters_total.labels(self._consumer.publisher).inc()
        self._apply_in_one([], entry, [self._positions.bury(self._reader, entry, reason)])
        self._buried.append({"reader": self._reader, "reason": reason, "entry": entry})

    async def _announce_buried(self) -> None:
        """Say it on the bus too, for whoever watches; the table is what counts."""
        while self._buried:
            letter = self._buried.pop()
            await self._client.publish(f"{DEAD_SUBJECT}.{self._consumer.service}", to_json(letter))


def _all_of(effects: Sequence[Effect]) -> Effect:
    def done(cursor: Cursor[DictRow]) -> None:
        for effect in effects:
            effect(cursor)

    return done


async def _fetch(subscription: JetStreamContext.PullSubscription) -> list[Msg]:
    """Wait up to a second for a first message, then take what else is there or nearly so.

    Two requests, because this client's fetch of many waits until its time-out for the last one.
    Nothing if there is no stream or consumer now: the log is asked instead.
    """
    try:
        first = await subscription.fetch(batch=1, timeout=FETCH_SECONDS)
    except TimeoutError:
        return []
    except NatsError:
        await asyncio.sleep(FETCH_SECONDS)
        return []
    try:
        return first + await subscription.fetch(batch=BATCH - 1, timeout=GATHER_SECONDS)
    except (NatsError, TimeoutError):
        return first


def _once(entries: Sequence[LogEntry]) -> list[LogEntry]:
    """Without those that tell the same lost entry again."""
    places = [_lost_place(entry) for entry in entries]
    return [
        entry
        for number, (entry, place) in enumerate(zip(entries, places, strict=True))
        if place is None or place not in places[:number]
    ]


def _lost_place(entry: LogEntry) -> Position | None:
    """Where an entry was told first that tells again what a restore had lost (contracts, Recovered)."""
    epoch, position = entry.event.get("lost_epoch"), entry.event.get("lost_position")
    return Position(int(epoch), int(position)) if epoch is not None and position is not None else None


def _family(subject: str) -> str:
    """`evt.signer.payment_signed.v1` without its version."""
    return subject.rsplit(".v", 1)[0]
