"""What somebody has spent and holds: in all, and in the hours, days and months of a clock on the wall."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

ALL = "in all"
WORTH = 10**18  # of wei times micro-dollars of an ETH: a micro-dollar
QUARTER_SECONDS = 900
NAMES = {ALL: "spend_limit", "hour": "spend_per_hour", "day": "spend_per_day", "month": "spend_per_month"}

type Window = tuple[str, str]  # which kind, and what the clock shows


@lru_cache(maxsize=10_000)
def _windows(quarter: int, zone: str) -> tuple[Window, ...]:
    local = datetime.fromtimestamp(quarter * QUARTER_SECONDS, UTC).astimezone(ZoneInfo(zone))
    return (
        (ALL, ""),
        ("hour", local.strftime("%F %H %z")),
        ("day", local.strftime("%F")),
        ("month", local.strftime("%Y-%m")),
    )


def windows(at: datetime, zone: str) -> tuple[Window, ...]:
    """Those that a moment lies in."""
    return _windows(quarter(at), zone)


def quarter(at: datetime) -> int:
    """Which quarter of an hour: no window begins inside of one."""
    return int(at.timestamp()) // QUARTER_SECONDS


class Purse:
    """Of an account, a user, a key or a session token."""

    def __init__(self) -> None:
        self.sessions: dict[str, int] = {}  # what each holds that has not ended
        self._wei: Counter[Window] = Counter()
        self._worth: Counter[Window] = Counter()
        self._last_at = datetime.fromtimestamp(0, UTC)

    @property
    def held(self) -> int:
        return sum(self.sessions.values())

    def spend(self, amount: int, worth: int, at: datetime, zone: str) -> None:
        for window in windows(at, zone):
            self._wei[window] += amount
            self._worth[window] += worth
        self._last_at = max(self._last_at, at)

    def over(self, limits: dict[str, Any], at: datetime, zone: str, rate: int) -> Iterator[str]:
        """Each limit on spend that is passed by what was spent and is held.

        Where the clock of a signer has turned before quota's, the old window is not looked at.
        """
        later = windows(self._last_at, zone) if self._last_at > at else windows(at, zone)
        for window in set(windows(at, zone)) & set(later):
            name = NAMES[window[0]]
            amounts = {
                "wei": (self._wei[window] + self.held, 1),
                "micro_usd": (self._worth[window] + self.held * rate, WORTH),
            }
            for unit, (amount, scale) in amounts.items():
                limit = limits.get(f"{name}_{unit}")
                if limit is not None and amount > limit * scale:
                    yield f"{name}_{unit} {limit}: {amount // scale} {window[1]}"


class Credit:
    """An account's grants of credit, and what it owes; amounts in 10^-18 micro-dollars."""

    def __init__(self) -> None:
        self.grants: dict[str, dict[str, Any]] = {}
        self.owed = 0

    def grant(self, state: dict[str, Any]) -> None:
        self.grants[state["grant_id"]] = {**state, "left": state["amount"] * WORTH}

    def void(self, grant_id: str) -> None:
        self.grants[grant_id]["left"] = 0

    def draw(self, worth: int, at: datetime) -> None:
        """On those that are valid, the lowest priority first, of equals the one that expires first."""
        for grant in self._valid(at):
            taken = min(worth, grant["left"])
            grant["left"] -= taken
            worth -= taken
        self.owed += worth

    def prepaid(self, at: datetime) -> int:
        return sum(grant["left"] for grant in self._valid(at))

    def _valid(self, at: datetime) -> list[dict[str, Any]]:
        def order(grant: dict[str, Any]) -> tuple[int, bool, int, str]:
            expires = grant["expires"]
            return grant["priority"], expires is None, expires or 0, grant["grant_id"]

        return sorted((grant for grant in self.grants.values() if is_valid(grant, at)), key=order)


def is_valid(grant: dict[str, Any], at: datetime) -> bool:
    return bool(grant["left"]) and (grant["expires"] is None or grant["expires"] > at.timestamp())
