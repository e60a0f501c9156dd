"""Calendar windows of a time zone, and what was spent in them.

A window is the hour, the day or the month of the account's clock. Its windows of one kind follow
each other without gap or overlap, also where clocks are put back or forward: such an hour is
shorter, such a day longer.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.refusal import Refused

type Kind = Literal["hour", "day", "month"]
KINDS: tuple[Kind, ...] = get_args(Kind.__value__)
GRAIN_SECONDS = 900  # offsets of all time zones are multiples: no window begins inside
WINDOWS_KEPT = 100_000


class BadTimeZone(Refused):
    code = "bad_time_zone"

    def __init__(self, name: str) -> None:
        super().__init__(f"time_zone: {name[:64]!r} is none; such as Europe/Berlin is expected")


def check_time_zone(name: str) -> None:
    """Raise BadTimeZone unless the IANA database has it."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as problem:
        raise BadTimeZone(name) from problem


def grain(at: datetime) -> int:
    """Moments of one grain lie in the same windows, whatever the time zone."""
    return int(at.timestamp()) // GRAIN_SECONDS


def starts_at(kind: Kind, at: datetime, zone: str) -> datetime:
    """When the window began in which a moment lies; in UTC."""
    return datetime.fromtimestamp(_start(kind, grain(at), zone), UTC)


def ends_at(kind: Kind, at: datetime, zone: str) -> datetime:
    """When the next window begins; in UTC."""
    return datetime.fromtimestamp(_end(kind, grain(at), zone), UTC)


@lru_cache(maxsize=WINDOWS_KEPT)
def _start(kind: Kind, number: int, zone: str) -> int:
    at = datetime.fromtimestamp(number * GRAIN_SECONDS, ZoneInfo(zone))
    if kind == "hour":
        return _start_of_hour(at)
    midnight = at.replace(hour=0, minute=0, second=0, fold=0)
    return _seconds(midnight if kind == "day" else midnight.replace(day=1))


def _start_of_hour(at: datetime) -> int:
    """The full hour on the clock, or the moment the clock was changed since."""
    start = _seconds(at) - at.minute * 60
    for moment in range(_seconds(at), start, -GRAIN_SECONDS):
        before = datetime.fromtimestamp(moment - GRAIN_SECONDS, at.tzinfo)
        if before.utcoffset() != at.utcoffset():
            return moment
    return start


@lru_cache(maxsize=WINDOWS_KEPT)
def _end(kind: Kind, number: int, zone: str) -> int:
    start = _start(kind, number, zone)
    if kind == "hour":
        moments = range(start + GRAIN_SECONDS, start + 3600, GRAIN_SECONDS)
        return next((m for m in moments if _start(kind, m // GRAIN_SECONDS, zone) != start), start + 3600)
    local = datetime.fromtimestamp(start, ZoneInfo(zone))
    days = 1 if kind == "day" else 32
    noon = local.replace(hour=12, minute=0, second=0, fold=0) + timedelta(days=days)
    midnight = noon.replace(hour=0, fold=0)
    following = _seconds(midnight if kind == "day" else midnight.replace(day=1))
    if following > start:
        return following
    return _end(kind, (start + 36 * 3600) // GRAIN_SECONDS, zone)  # a date that a zone left out


def _seconds(local: datetime) -> int:
    return int(local.timestamp())
