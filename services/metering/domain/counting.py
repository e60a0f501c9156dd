"""What a record of pushed usage adds to which hour of which meter. Pure, exact, without a clock."""

from collections.abc import Mapping
from typing import NamedTuple

from services.metering.domain.meters import BUILT_IN, Aggregation, Counting, Meter
from services.metering.domain.runs import HOUR_MS
from services.metering.domain.usage import HOUR_MICROSECONDS

# Numbers are whole billionths: 15 digits before the point and 9 after it stay exact.
BILLION = 10**9
PLACES = 9
BILLIONTHS_PER_MS = 10**6
MICROSECONDS_PER_MS = 1_000
TIME_SECONDS_MAX = 86_400  # of one record: it lies in 25 hours at most

type Value = str | bool | int
type Data = Mapping[str, Value]


class Said(NamedTuple):
    """What a record says, as it counts now.

    `at` is in microseconds since 1970; `late`: it came more than an hour after its hour was over;
    `since` is the version of `Meters` at which it was first recorded.
    """

    event_type: str
    user_id: str  # "" of the account itself
    at: int
    late: bool
    since: int
    data: Data


class HourKey(NamedTuple):
    """Hours since 1970: where it counts, and where it happened."""

    meter: str
    hour: int
    of_hour: int
    user_id: str
    groups: tuple[str, ...]


class ValueKey(NamedTuple):
    meter: str
    hour: int
    of_hour: int
    user_id: str
    groups: tuple[str, ...]
    value: str


class HourSum(NamedTuple):
    """`amount` counts in units of 10**-places."""

    records: int
    late: int
    amount: int
    places: int


class Unfit(NamedTuple):
    """Why a meter cannot count a record."""

    field: str
    detail: str


class Counted:
    """What the records of one account change, by row; `first_open` is its first open hour."""

    def __init__(self, first_open: int) -> None:
        self.hours: dict[HourKey, HourSum] = {}
        self.values: dict[ValueKey, int] = {}
        self._first_open = first_open

    def add(self, counting: Counting, said: Said, sign: int) -> None:
        """Count a record, or with a sign of -1 take back what it counted."""
        hour = said.at // HOUR_MICROSECONDS
        self._sum(BUILT_IN, (said.event_type,), said, hour, HourSum(sign, sign * said.late, sign, 0))
        for meter in counting.of(said.event_type, said.since):
            if passes(meter, said.data):
                self._count(meter, said, hour, sign)

    def merge(self, other: "Counted") -> None:
        for key, added in other.hours.items():
            self._add(key, added)
        for value, records in other.values.items():
            self.values[value] = self.values.get(value, 0) + records

    def _count(self, meter: Meter, said: Said, hour: int, sign: int) -> None:
        groups = tuple(text_of(said.data.get(name)) for name in meter.group_by)
        late, value = sign * said.late, said.data.get(meter.value, 0)
        match meter.aggregation:
            case Aggregation.COUNT:
                self._sum(meter.name, groups, said, hour, HourSum(sign, late, sign, 0))
            case Aggregation.SUM:
                self._sum(meter.name, groups, said, hour, HourSum(sign, late, sign * int(value), PLACES))
            case Aggregation.TIME:
                self._sum(meter.name, groups, said, hour, HourSum(sign, late, 0, 3))
                for each, ms in pieces(said.at, int(value)).items():
                    self._sum(meter.name, groups, said, each, HourSum(0, 0, sign * ms, 3))
            case Aggregation.MAX | Aggregation.UNIQUE:
                counts_in = max(hour, self._first_open)
                key = ValueKey(meter.name, counts_in, hour, said.user_id, groups, text_of(value))
                self.values[key] = self.values.get(key, 0) + sign

    def _sum(self, meter: str, groups: tuple[str, ...], said: Said, of_hour: int, added: HourSum) -> None:
        self._add(HourKey(meter, max(of_hour, self._first_open), of_hour, said.user_id, groups), added)

    def _add(self, key: HourKey, added: HourSum) -> None:
        known = self.hours.get(key)
        if known is not None:
            added = HourSum(
                known.records + added.records,
                known.late + added.late,
                known.amount + added.amount,
                added.places,
            )
        self.hours[key] = added


def passes(meter: Meter, data: Data) -> bool:
    return all(name in data and text_of(data[name]) in allowed for name, allowed in meter.filter.items())


def unfit(meter: Meter, data: Data) -> Unfit | None:
    """Why this meter cannot count a record with this data; None if it can, or does not have to."""
    if meter.aggregation is Aggregation.COUNT or not passes(meter, data):
        return None
    value, field = data.get(meter.value), f"data.{meter.value}"
    if value is None:
        return Unfit(field, f"missing; the meter {meter.name} counts it")
    if meter.aggregation is Aggregation.UNIQUE:
        return None
    if isinstance(value, (str, bool)):
        return Unfit(field, f"no number; the meter {meter.name} counts it")
    if meter.aggregation is Aggregation.TIME and not 0 <= value <= TIME_SECONDS_MAX * BILLION:
        return Unfit(field, f"not within 0 and {TIME_SECONDS_MAX} seconds; the meter {meter.name} counts it")
    return None


def pieces(at: int, duration: int) -> dict[int, int]:
    """The milliseconds of a duration (billionths of a second) that ended then, by the hours they lie in."""
    end = at // MICROSECONDS_PER_MS
    start = end - duration // BILLIONTHS_PER_MS
    by_hour: dict[int, int] = {}
    while start < end:
        hour = start // HOUR_MS
        until = min(end, (hour + 1) * HOUR_MS)
        by_hour[hour] = until - start
        start = until
    return by_hour


def text_of(value: Value | None) -> str:
    """A value as groups and filters name it: numbers as short as they are exact, "" for none."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
    whole, rest = divmod(abs(value), BILLION)
    text = f"{whole}.{rest:09}".rstrip("0").rstrip(".") if rest else str(whole)
    return f"-{text}" if value < 0 else text


def billionths(number: str) -> int:
    """A decimal number as text, such as `-12.5`, as whole billionths."""
    whole, _, rest = number.partition(".")
    return int(whole + rest.ljust(PLACES, "0"))


def is_late(at: int, now: int) -> bool:
    """It came more than an hour after its hour was over; both in microseconds since 1970."""
    return at // HOUR_MICROSECONDS < now // HOUR_MICROSECONDS - 1
