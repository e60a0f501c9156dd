"""The use case of pushed usage: what waits together is one commit, of records, keys and sums.

Everything is decided before the commit, which stores it only if the meters and the closed hours are
still those it was decided with.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import batched
from typing import Literal, NamedTuple
from uuid import UUID

from eventsourcing.persistence import IntegrityError
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import Identifier

from services.metering.application import Metering
from services.metering.closings import TABLE, Closings
from services.metering.domain.counting import Data, Said, Unfit, is_late, unfit
from services.metering.domain.meters import Counting
from services.metering.domain.usage import EPOCH, MICROSECOND
from services.metering.domain.usage_events import (
    Correction,
    Packing,
    Record,
    UsageEventBatch,
    corrections_of,
    counted,
    key_of,
    records_of,
)
from services.metering.meter_tables import EventPlaces, MeterTables, Place
from services.metering.meters import MeterBook
from services.metering.streaming import decided_again
from shared.store import Effect, ThinRecorder

BATCHES_PAGE = 20  # that are in memory at once when records are corrected


class HoursClosedError(IntegrityError):
    """Hours were closed meanwhile: decide again."""


@dataclass(frozen=True)
class Arrival:
    """An event as it came. `data` is None if it voids the record that it corrects."""

    account_id: str
    source: str
    event_id: str
    event_type: str
    user_id: str  # "" of the account itself
    own_only: bool  # it may correct records of its user only
    at: datetime | None
    data: Data | None = field(repr=False)
    corrects: str | None

    @cached_property
    def key(self) -> UUID:
        return key_of(self.account_id, self.source, self.event_id)

    @cached_property
    def corrected_key(self) -> UUID | None:
        return key_of(self.account_id, self.source, self.corrects) if self.corrects is not None else None


class Outcome(NamedTuple):
    """What became of an event; the rest tells why it was refused."""

    status: Literal["recorded", "repeated", "refused"]
    code: str = ""
    field: str = ""
    detail: str = ""


RECORDED, REPEATED = Outcome("recorded"), Outcome("repeated")


@dataclass(frozen=True, slots=True)
class Window:
    """When a record may have happened, seen from now."""

    past: timedelta
    future: timedelta

    def around(self, now: datetime) -> tuple[datetime, datetime]:
        return now - self.past, now + self.future


class Standing(NamedTuple):
    """A record as it counts now; `said.data` is empty where it was voided, and `data` None."""

    said: Said
    data: Data | None
    corrections: int


class UsageEvents:
    """Records events once each, for ever."""

    def __init__(self, metering: Metering, tables: MeterTables, book: MeterBook, window: Window) -> None:
        assert isinstance(metering.recorder, ThinRecorder)
        self._metering = metering
        self._recorder = metering.recorder
        self._tables = tables
        self._book = book
        self._window = window
        self._places = EventPlaces(self._recorder.datastore)
        closings = Identifier(self._recorder.datastore.schema, TABLE)
        self._closings = Closings(closings)
        self._closings_now = Closings(closings, lock=False)
        self._turn = threading.Lock()

    @decided_again
    def record(self, arrivals: Sequence[Arrival], now: datetime) -> list[Outcome]:
        """Say of each what became of it, once all that was recorded is stored."""
        with self._turn:
            counting = self._book.counting()
            known = self._known(arrivals)
            standing = self._standing(known, {key for each in arrivals if (key := each.corrected_key)})
            deciding = Deciding(counting, self._window, now, set(known), standing)
            outcomes = [deciding.decide(arrival) for arrival in arrivals]
            self._save(deciding, now)
            return outcomes

    def _known(self, arrivals: Sequence[Arrival]) -> dict[UUID, Place]:
        keys = {arrival.key for arrival in arrivals}
        return self._places.known(keys | {key for each in arrivals if (key := each.corrected_key)})

    def _standing(self, known: Mapping[UUID, Place], corrected: set[UUID]) -> dict[UUID, Standing]:
        """How the records that are to be corrected count now."""
        wanted = {key: known[key] for key in corrected if key in known}
        corrections = self._places.corrected(wanted)
        keys: dict[Place, list[UUID]] = {}
        for key, place in (wanted | corrections).items():
            keys.setdefault(place, []).append(key)
        found: dict[UUID, Standing] = {}
        for page in batched({place.batch for place in keys}, BATCHES_PAGE):
            for stored in self._recorder.newer(dict.fromkeys(page, 0)):
                batch = self._metering.mapper.to_domain_event(stored)
                assert isinstance(batch, UsageEventBatch.Recorded)
                for row, standing in enumerate(_standing_of(batch)):
                    is_record = row < len(batch.usage["records"])  # a correction is not corrected itself
                    for key in keys.get(Place(batch.originator_id, row), ()):
                        if is_record or key in corrections:
                            found[key] = standing
        return found

    def _save(self, deciding: "Deciding", now: datetime) -> None:
        if not deciding.packings:
            return
        accounts = sorted(deciding.packings)
        first_open = self._first_open(accounts)
        batches = [
            UsageEventBatch(
                account_id,
                deciding.counting.version,
                first_open.get(account_id, 0),
                deciding.packings[account_id].packed(),
                timestamp=now,
            )
            for account_id in accounts
        ]
        effects = [
            self._still_open(accounts, first_open),
            self._book.unchanged(deciding.counting),
            self._add(batches, deciding.counting),
        ]
        try:
            self._metering.save(*batches, effects=effects)
        finally:
            self._metering.forget(*(batch.id for batch in batches))

    def _first_open(self, accounts: Iterable[str]) -> dict[str, int]:
        with self._recorder.datastore.get_connection() as connection, connection.cursor() as cursor:
            return self._closings_now.first_open(cursor, accounts)

    def _still_open(self, accounts: Sequence[str], first_open: Mapping[str, int]) -> Effect:
        def effect(cursor: Cursor[DictRow]) -> None:
            if self._closings.first_open(cursor, accounts) != first_open:
                raise HoursClosedError("hours were closed meanwhile")

        return effect

    def _add(self, batches: Iterable[UsageEventBatch], counting: Counting) -> Effect:
        events = [event for batch in batches for event in batch.pending_events]
        stored = [
            (event, counted(event, counting))
            for event in events
            if isinstance(event, UsageEventBatch.Recorded)
        ]
        return lambda cursor: self._tables.add(cursor, stored)


class Deciding:
    """Decides one event after the other; `packings` has by account what is to be stored."""

    def __init__(
        self,
        counting: Counting,
        window: Window,
        now: datetime,
        known: set[UUID],
        standing: dict[UUID, Standing],
    ) -> None:
        self.counting = counting
        self.packings: dict[str, Packing] = {}
        self._begin, self._end = window.around(now)
        self._now = now
        self._now_microseconds = _microseconds(now)
        self._known = known
        self._standing = standing

    def decide(self, arrival: Arrival) -> Outcome:
        if arrival.key in self._known:
            return REPEATED
        refused = self._correct(arrival) if arrival.corrects is not None else self._record(arrival)
        if refused is not None:
            return refused
        self._known.add(arrival.key)
        return RECORDED

    def _record(self, arrival: Arrival) -> Outcome | None:
        at = arrival.at or self._now
        if not self._begin <= at <= self._end:
            window = " and ".join(each.isoformat(timespec="seconds") for each in (self._begin, self._end))
            return Outcome("refused", "event_out_of_window", "time", f"not between {window}")
        moment, data = _microseconds(at), arrival.data or {}
        late = is_late(moment, self._now_microseconds)
        said = Said(arrival.event_type, arrival.user_id, moment, late, self.counting.version, data)
        if (problem := self._unfit(said)) is not None:
            return problem
        self._packing(arrival).record(Record(arrival.source, arrival.event_id, said))
        self._standing[arrival.key] = Standing(said, data, 0)
        return None

    def _correct(self, arrival: Arrival) -> Outcome | None:
        key, corrects = arrival.corrected_key, arrival.corrects
        standing = self._standing.get(key) if key is not None else None
        if standing is None or key is None or corrects is None or _is_anothers(arrival, standing):
            detail = f"there is no record {corrects} of this source"
            return Outcome("refused", "corrects_not_found", "corrects", detail)
        if (refused := _differing(arrival, standing)) is not None:
            return refused
        said = standing.said._replace(data=arrival.data or {})
        if arrival.data is not None and (problem := self._unfit(said)) is not None:
            return problem
        number = standing.corrections + 1
        self._packing(arrival).correct(
            Correction(arrival.source, arrival.event_id, corrects, number, said, standing.data, arrival.data)
        )
        self._standing[key] = Standing(said, arrival.data, number)
        return None

    def _unfit(self, said: Said) -> Outcome | None:
        for meter in self.counting.of(said.event_type, said.since):
            if (problem := unfit(meter, said.data)) is not None:
                return _refused(problem)
        return None

    def _packing(self, arrival: Arrival) -> Packing:
        packing = self.packings.get(arrival.account_id)
        if packing is None:
            packing = self.packings[arrival.account_id] = Packing(self._now_microseconds)
        return packing


def _standing_of(batch: UsageEventBatch.Recorded) -> Iterable[Standing]:
    """What stands where in a batch, corrections after the records."""
    for record in records_of(batch):
        yield Standing(record.said, record.said.data, 0)
    for each in corrections_of(batch):
        yield Standing(each.said, each.after, each.number)


def _is_anothers(arrival: Arrival, standing: Standing) -> bool:
    return arrival.own_only and arrival.user_id != standing.said.user_id


def _differing(arrival: Arrival, standing: Standing) -> Outcome | None:
    """A correction replaces data, and nothing else of a record."""
    told = {"type": arrival.event_type, "subject": arrival.user_id or standing.said.user_id}
    recorded = {"type": standing.said.event_type, "subject": standing.said.user_id}
    for name, value in told.items():
        if value != recorded[name]:
            return Outcome("refused", "corrects_differs", name, f"the record's is {recorded[name]!r}")
    return None


def _refused(problem: Unfit) -> Outcome:
    return Outcome("refused", "unfit_value", problem.field, problem.detail)


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND
