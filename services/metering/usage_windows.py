"""Windows of a time zone's calendar, in whole hours of UTC, which is how usage is kept.

A window begins with the hour of UTC in which it begins: in zones whose offset is not a whole number
of hours that is up to 45 minutes early.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from contracts.metering import Window
from services.metering.refusal import BadQuery

WINDOWS_MAX = 10_000
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows one after the other: where each begins, and where the last one ends."""

    bounds: list[datetime]

    @property
    def starts(self) -> list[datetime]:
        return self.bounds[:-1]

    def end_of(self, start: datetime) -> datetime:
        return self.bounds[bisect_right(self.bounds, start)]


def windows(from_at: datetime, to_at: datetime, window: Window, time_zone: str) -> Windows:
    """Those with hours in [from_at, to_at); the first and the last are cut to it.

    Both lie in `refusal.YEARS`. Raises BadQuery for a time zone there is none of, and for too many windows.
    """
    zone = zone_of(time_zone)
    bounds = [from_at]
    for start in _starts(from_at, window, zone):
        if start >= to_at:
            break
        if start > bounds[-1]:  # not where a zone skipped a day
            bounds.append(start)
        if len(bounds) > WINDOWS_MAX:
            raise BadQuery(f"from_at and to_at are more than {WINDOWS_MAX} windows apart")
    return Windows([*bounds, to_at])


def zone_of(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as problem:
        raise BadQuery(f"time_zone: {name!r:.66} is none; such as Europe/Berlin is expected") from problem


def months_of(hours: set[datetime], zone: ZoneInfo) -> list[str]:
    """The months that hours of UTC lie in, such as 2026-06."""
    return sorted({f"{hour.astimezone(zone):%Y-%m}" for hour in hours})


def _starts(first: datetime, window: Window, zone: ZoneInfo) -> Iterator[datetime]:
    """From the window on in which `first` lies, for ever."""
    if window == "hour":
        while True:
            yield first
            first += HOUR
    day = first.astimezone(zone).date()
    if window == "month":
        day = day.replace(day=1)
    while True:
        # Where clocks skip midnight this is the moment they do; where they show it twice, the first.
        midnight = datetime.combine(day, time(), zone).astimezone(UTC)
        yield midnight.replace(minute=0, second=0)
        day = _next(day, window)


def _next(day: date, window: Window) -> date:
    if window == "day":
        return day + timedelta(days=1)
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
