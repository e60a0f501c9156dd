"""Pushed usage as it is stored: the records of one account that were saved together, and corrections.

What repeats is told once and named by its index. A correction carries what it takes back, so that
whoever sums only adds, and needs no other event.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple, TypedDict
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.metering.domain.counting import Counted, Data, Said, Value, is_late
from services.metering.domain.meters import Counting
from services.metering.domain.usage import EPOCH, MICROSECOND

RECORDS_MAX = 500  # with corrections

# shape, and a value for each name of it; None: the record was voided
type PackedData = tuple[int, Sequence[Value]] | None
# source, id, type, user, at after the batch's `at`, shape, values
type PackedRecord = tuple[int, str, int, int, int, int, Sequence[Value]]
# source, id, corrects, number, type, user, at after the batch's, late, since, before, after
type PackedCorrection = tuple[int, str, str, int, int, int, int, bool, int, PackedData, PackedData]


class Packed(TypedDict):
    """`texts` are sources, types and users; `shapes` are the names of data; `at` in us since 1970."""

    at: int
    texts: Sequence[str]
    shapes: Sequence[Sequence[str]]
    records: Sequence[PackedRecord]
    corrections: Sequence[PackedCorrection]


class Record(NamedTuple):
    source: str
    event_id: str
    said: Said


class Correction(NamedTuple):
    """The `number`th of the record `corrects` of the same source: says `after` now, or nothing (None).

    `said` is the record's own but for its data, which was `before` until now.
    """

    source: str
    event_id: str
    corrects: str
    number: int
    said: Said
    before: Data | None
    after: Data | None


class UsageEventBatch(Aggregate):
    """Records of one account; written once, and named by its first, so that it cannot be stored twice."""

    TOPIC = "metering.usage_event_batch"

    class Event(Aggregate.Event):
        TOPIC = "metering.usage_event_batch.event"

    class Recorded(Event, Aggregate.Created):
        TOPIC = "metering.usage_events_recorded"
        account_id: str
        meters: int  # the version of `Meters` that counted
        first_open: int  # hour since 1970; 0: none of the account's is closed
        usage: Packed

    @staticmethod
    def create_id(account_id: str, usage: Packed) -> UUID:
        return uuid5(NAMESPACE_URL, f"/usage-events/{_first_key(account_id, usage).hex}")

    @event(Recorded)
    def __init__(
        self, account_id: str, meters: int, first_open: int, usage: Packed, timestamp: datetime
    ) -> None:
        self.account_id = account_id


def key_of(account_id: str, source: str, event_id: str) -> UUID:
    """What a record is known by for ever: 16 bytes of SHA-256 over the three, each after its length."""
    digest = _digest_of(account_id, source).copy()
    digest.update(_with_length(event_id))
    return UUID(bytes=digest.digest()[:16])


@lru_cache(1_000)
def _digest_of(account_id: str, source: str) -> "hashlib._Hash":
    return hashlib.sha256(_with_length(account_id) + _with_length(source))


def _with_length(text: str) -> bytes:
    part = text.encode()
    return len(part).to_bytes(4, "big") + part


class Packing:
    """Packs what is recorded of one account together."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._texts: dict[str, int] = {}
        self._shapes: dict[tuple[str, ...], int] = {}
        self._records: list[PackedRecord] = []
        self._corrections: list[PackedCorrection] = []

    def record(self, record: Record) -> None:
        said = record.said
        self._records.append(
            (
                self._text(record.source),
                record.event_id,
                self._text(said.event_type),
                self._text(said.user_id),
                said.at - self._at,
                self._shape(said.data),
                list(said.data.values()),
            )
        )

    def correct(self, correction: Correction) -> None:
        said = correction.said
        self._corrections.append(
            (
                self._text(correction.source),
                correction.event_id,
                correction.corrects,
                correction.number,
                self._text(said.event_type),
                self._text(said.user_id),
                said.at - self._at,
                said.late,
                said.since,
                self._data(correction.before),
                self._data(correction.after),
            )
        )

    def packed(self) -> Packed:
        return Packed(
            at=self._at,
            texts=list(self._texts),
            shapes=[list(shape) for shape in self._shapes],
            records=self._records,
            corrections=self._corrections,
        )

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _shape(self, data: Data) -> int:
        return self._shapes.setdefault(tuple(data), len(self._shapes))

    def _data(self, data: Data | None) -> PackedData:
        return None if data is None else (self._shape(data), list(data.values()))


def records_of(batch: UsageEventBatch.Recorded) -> Iterator[Record]:
    usage, now = batch.usage, _microseconds(batch.timestamp)
    texts, shapes, start = usage["texts"], usage["shapes"], usage["at"]
    for source, event_id, event_type, user, after, shape, values in usage["records"]:
        at = start + after
        data = dict(zip(shapes[shape], values, strict=True))
        said = Said(texts[event_type], texts[user], at, is_late(at, now), batch.meters, data)
        yield Record(texts[source], event_id, said)


def corrections_of(batch: UsageEventBatch.Recorded) -> Iterator[Correction]:
    usage = batch.usage
    texts, start = usage["texts"], usage["at"]
    for source, event_id, corrects, number, kind, user, at, late, since, *data in usage["corrections"]:
        before, after = (_unpacked(usage, each) for each in data)
        said = Said(texts[kind], texts[user], start + at, late, since, {})
        yield Correction(texts[source], event_id, corrects, number, said, before, after)


def _unpacked(usage: Packed, data: PackedData) -> Data | None:
    return None if data is None else dict(zip(usage["shapes"][data[0]], data[1], strict=True))


def counted(batch: UsageEventBatch.Recorded, counting: Counting) -> Counted:
    """What a batch changes, counted with the meters of its own version."""
    if counting.version != batch.meters:
        raise ValueError(f"meters of version {counting.version} do not count a batch of {batch.meters}")
    rows = Counted(batch.first_open)
    for record in records_of(batch):
        rows.add(counting, record.said, 1)
    for correction in corrections_of(batch):
        if correction.before is not None:
            rows.add(counting, correction.said._replace(data=correction.before), -1)
        if correction.after is not None:
            rows.add(counting, correction.said._replace(data=correction.after), 1)
    return rows


def _first_key(account_id: str, usage: Packed) -> UUID:
    first: Sequence[object] = usage["records"][0] if usage["records"] else usage["corrections"][0]
    source, event_id, *_ = first
    assert isinstance(source, int)
    assert isinstance(event_id, str)
    return key_of(account_id, usage["texts"][source], event_id)


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND
