"""Today and this month of an account's clock, in the whole hours of UTC that usage is kept by."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Hour:
    """The usage of one hour that begins at `at`."""

    at: datetime
    wei: int
    payments: int
    tickets: int


@dataclass(frozen=True, slots=True)
class Bar:
    """What one hour or one day of a chart cost, under its name on the account's clock."""

    name: str
    wei: int
    payments: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar for each hour or day that has begun; `names` are those of the whole day or month."""

    bars: Sequence[Bar]
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Calendar:
    """`days` are the beginnings, in UTC, of all days of this month and of the first after it.

    Where a time zone's midnight lies within an hour of UTC, the day begins with that hour.
    """

    zone: ZoneInfo
    now: datetime
    days: tuple[datetime, ...]

    @classmethod
    def of(cls, now: datetime, time_zone: str) -> "Calendar":
        zone = ZoneInfo(time_zone)
        first = now.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
        following = (first + timedelta(days=32)).replace(day=1)
        count = (following.date() - first.date()).days
        days = [first.replace(day=number) for number in range(1, count + 1)]
        return cls(zone, now, tuple(map(_whole_hour, [*days, following])))

    @property
    def month_from(self) -> datetime:
        return self.days[0]

    @property
    def today(self) -> tuple[datetime, datetime]:
        number = self._day_of(self.now)
        return self.days[number], self.days[number + 1]

    @property
    def month_name(self) -> str:
        return self.now.astimezone(self.zone).strftime("%B")

    def of_today(self, hours: Iterable[Hour]) -> list[Hour]:
        begin, end = self.today
        return [hour for hour in hours if begin <= hour.at < end]

    def day_chart(self, hours: Iterable[Hour]) -> Chart:
        by_start = {hour.at: [hour] for hour in hours}
        begin, end = self.today
        starts = [begin + HOUR * number for number in range((end - begin) // HOUR)]
        names = [at.astimezone(self.zone).strftime("%H:%M") for at in starts]
        bars = [
            _bar(name, by_start.get(at, [])) for name, at in zip(names, starts, strict=True) if at <= self.now
        ]
        return Chart(bars, names)

    def month_chart(self, hours: Iterable[Hour]) -> Chart:
        by_day: dict[int, list[Hour]] = {}
        for hour in hours:
            by_day.setdefault(self._day_of(hour.at), []).append(hour)
        month = self.now.astimezone(self.zone).strftime("%b")
        names = [f"{number + 1} {month}" for number in range(len(self.days) - 1)]
        begun = names[: self._day_of(self.now) + 1]
        return Chart([_bar(name, by_day.get(number, [])) for number, name in enumerate(begun)], names)

    def _day_of(self, at: datetime) -> int:
        return bisect_right(self.days, at, hi=len(self.days) - 1) - 1


def _bar(name: str, hours: list[Hour]) -> Bar:
    return Bar(name, sum(hour.wei for hour in hours), sum(hour.payments for hour in hours))


def _whole_hour(local: datetime) -> datetime:
    return local.astimezone(UTC).replace(minute=0)
