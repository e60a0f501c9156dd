"""Windows of a clock that is changed: none overlap, none is missing."""

from datetime import UTC, datetime, timedelta

import pytest

from services.quota.domain.windows import KINDS, BadTimeZone, Kind, check_time_zone, ends_at, starts_at

# A zone, and a day of 2026 on which something is odd there, if anything ever is.
DAYS = [
    ("UTC", "2026-01-01"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-11-01"),
    ("Asia/Kathmandu", "2026-05-05"),  # a quarter of an hour off
    ("Australia/Lord_Howe", "2026-04-05"),  # by half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Asia/Beirut", "2026-03-29"),  # at midnight
    ("America/Havana", "2026-11-01"),
    ("Atlantic/Azores", "2026-10-25"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Pacific/Apia", "2011-12-29"),  # the next day never was
]


@pytest.mark.parametrize(("zone", "day"), DAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_window_ends_where_the_next_begins(kind: Kind, zone: str, day: str) -> None:
    moment = datetime.fromisoformat(f"{day}T00:00:00+00:00") - timedelta(days=2)
    end = moment + timedelta(days=5)
    start = starts_at(kind, moment, zone)
    while start < end:
        following = ends_at(kind, start, zone)
        assert following > start
        assert starts_at(kind, following, zone) == following
        for inside in (start, following - timedelta(seconds=1)):
            assert starts_at(kind, inside, zone) == start
            assert ends_at(kind, inside, zone) == following
        start = following


@pytest.mark.parametrize(
    ("kind", "at", "zone", "start", "hours"),
    [
        ("day", "2026-03-29T12:00Z", "Europe/Berlin", "2026-03-28T23:00Z", 23),
        ("day", "2026-10-25T12:00Z", "Europe/Berlin", "2026-10-24T22:00Z", 25),
        ("hour", "2026-05-05T10:20Z", "Asia/Kathmandu", "2026-05-05T10:15Z", 1),
        ("hour", "2026-04-04T15:10Z", "Australia/Lord_Howe", "2026-04-04T15:00Z", 0.5),
        ("month", "2026-02-15T00:00Z", "America/New_York", "2026-02-01T05:00Z", 28 * 24),
    ],
)
def test_a_window_is_what_the_clock_on_the_wall_says(
    kind: Kind, at: str, zone: str, start: str, hours: float
) -> None:
    moment = datetime.fromisoformat(at)

    assert starts_at(kind, moment, zone) == datetime.fromisoformat(start)
    assert ends_at(kind, moment, zone) - starts_at(kind, moment, zone) == timedelta(hours=hours)
    assert starts_at(kind, moment, zone).tzinfo is UTC


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "Europe/Berlin\0", "x" * 300])
def test_a_name_that_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(BadTimeZone, match="time_zone"):
        check_time_zone(name)
