"""Limits in the `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers-11.

`RateLimit-Policy: "spend_per_hour_micro_usd";q=5000000;w=3600`, and what is left of it in
`RateLimit: "spend_per_hour_micro_usd";r=1200;t=345`. An integer there has 15 digits: a limit in wei
that has more is told in gwei, rounded down, under a name that says so (`spend_per_hour_gwei`); one
that does not fit even then is left out. The rows of the answer itself are always whole.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from contracts.limits import LimitRow

INTEGER_MAX = 10**15 - 1
WEI, GWEI = "_wei", "_gwei"
WEI_PER_GWEI = 10**9
SECOND = timedelta(seconds=1)
# Of the longest window of a kind: a policy's parameters should not change from answer to answer.
SECONDS_BY_WINDOW = {"_per_hour_": 3_600, "_per_day_": 86_400, "_per_month_": 31 * 86_400}

# How answers that carry them are described.
DESCRIBED: dict[str, Any] = {
    "RateLimit-Policy": {
        "description": "Each limit of the answer, with its window in seconds where it has one.",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "What is left of each, and in how many seconds its window ends.",
        "schema": {"type": "string"},
    },
}


def rate_limit_fields(rows: Sequence[LimitRow], now: datetime) -> dict[str, str]:
    """Return both fields; neither where there is no limit, as an empty list has no form."""
    fitting = [(name, row, unit) for row in rows for name, unit in _fit(row)]
    if not fitting:
        return {}
    policies = [f'"{name}";q={row.limit // unit}{_window(row)}' for name, row, unit in fitting]
    left = [f'"{name}";r={row.remaining // unit}{_seconds_left(row, now)}' for name, row, unit in fitting]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}


def _fit(row: LimitRow) -> list[tuple[str, int]]:
    """The name a limit is told under, and by what its amounts are divided; none where it is too large."""
    if row.limit <= INTEGER_MAX:
        return [(row.name, 1)]
    if row.name.endswith(WEI) and row.limit // WEI_PER_GWEI <= INTEGER_MAX:
        return [(row.name.removesuffix(WEI) + GWEI, WEI_PER_GWEI)]
    return []


def _window(row: LimitRow) -> str:
    for window, seconds in SECONDS_BY_WINDOW.items():
        if window in row.name:
            return f";w={seconds}"
    return ""


def _seconds_left(row: LimitRow, now: datetime) -> str:
    if row.resets_at is None:
        return ""
    return f";t={max(0, -((now - row.resets_at) // SECOND))}"
