"""The one clock of all services. Code takes the time as an argument; roots read it here."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Wall time in UTC, moved by a setting so that a year can be simulated."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self._offset = offset

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset


class SetClock(Clock):
    """A clock that stands still until it is told to move."""

    def __init__(self, now: datetime) -> None:
        super().__init__()
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, delta: timedelta) -> None:
        self._now += delta
