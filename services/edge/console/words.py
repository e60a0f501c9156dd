"""Limits and states in the words of the page."""

from dataclasses import dataclass
from datetime import datetime

from contracts.limits import LimitRow, LimitsView
from contracts.metered_streams import StreamState
from services.edge.console import amounts
from services.edge.console.figures import SessionLine

WEI, MICRO_USD = "_wei", "_micro_usd"
NAMES = {
    "spend_limit": "Spend in all",
    "spend_per_hour": "Spend per hour",
    "spend_per_day": "Spend per day",
    "spend_per_month": "Spend per month",
    "credit_limit": "Credit",
    "sessions_max": "Sessions at once",
    "streams_max": "Streams at once",
}
NEARLY, FULL = 80, 100  # percent
WHY_STREAMS_STOPPED: dict[StreamState, str] = {
    "running": "It runs.",
    "idle": "It ended.",
    "timed_out": "No sign of life came any more, so it counts as ended.",
    "incomplete": "Its start or its end was not told.",
}
STATE_NAMES: dict[StreamState, str] = {
    "running": "running",
    "idle": "ended",
    "timed_out": "timed out",
    "incomplete": "incomplete",
}
MS_PER_SECOND, SECONDS_PER_MINUTE, SECONDS_PER_HOUR = 1_000, 60, 3_600


@dataclass(frozen=True, slots=True)
class LimitLine:
    """A limit as a bar; amounts are texts with their unit, and exact in the titles."""

    name: str
    whose: str
    limit: str
    used: str
    remaining: str
    exact: str
    percent: int
    level: str  # plain, near or full
    resets_at: datetime | None


def limit_lines(view: LimitsView, whose: str) -> list[LimitLine]:
    return [_limit_line(row, whose) for row in view.rows]


def _limit_line(row: LimitRow, whose: str) -> LimitLine:
    taken = max(0, row.limit - row.remaining)
    percent = min(FULL, taken * 100 // row.limit) if row.limit else FULL
    name, unit = _split(row.name)
    return LimitLine(
        name=NAMES.get(name, name.replace("_", " ")),
        whose=whose,
        limit=_amount(row.limit, unit, row.limit),
        used=_amount(row.used, unit, row.limit),
        remaining=_amount(row.remaining, unit, row.limit),
        exact=f"{row.name}: {row.used} used, {row.held} held, {row.remaining} of {row.limit} left",
        percent=percent,
        level="full" if percent == FULL else "near" if percent >= NEARLY else "plain",
        resets_at=row.resets_at,
    )


def _split(name: str) -> tuple[str, str]:
    for unit in (MICRO_USD, WEI):
        if name.endswith(unit):
            return name.removesuffix(unit), unit
    return name, ""


def _amount(amount: int, unit: str, among: int) -> str:
    del among
    if unit == WEI:
        return f"{amounts.eth(amount)} ETH"
    return amounts.micro_usd(amount) if unit == MICRO_USD else f"{amount:,}"


def session_state(line: SessionLine) -> str:
    if line.running:
        return "running"
    return "closed" if line.row.closed else "idle"


def duration(milliseconds: int) -> str:
    """`1 h 02 min`, `2 min 05 s`, `7 s`."""
    seconds = milliseconds // MS_PER_SECOND
    if seconds >= SECONDS_PER_HOUR:
        return f"{seconds // SECONDS_PER_HOUR:,} h {seconds % SECONDS_PER_HOUR // SECONDS_PER_MINUTE:02} min"
    if seconds >= SECONDS_PER_MINUTE:
        return f"{seconds // SECONDS_PER_MINUTE} min {seconds % SECONDS_PER_MINUTE:02} s"
    return f"{seconds} s"
