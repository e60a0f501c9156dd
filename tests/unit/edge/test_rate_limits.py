from datetime import UTC, datetime, timedelta

import pytest

from contracts.limits import LimitRow
from services.edge.rate_limits import rate_limit_fields

NOW = datetime(2031, 5, 17, 8, 14, 15, 500_000, tzinfo=UTC)
FULL_HOUR = datetime(2031, 5, 17, 9, tzinfo=UTC)


def row(name: str, limit: int, remaining: int, resets_at: datetime | None = None) -> LimitRow:
    return LimitRow(
        name=name, limit=limit, used=limit - remaining, held=0, remaining=remaining, resets_at=resets_at
    )


def test_each_limit_is_told_with_its_window_and_what_is_left() -> None:
    rows = [
        row("spend_per_hour_micro_usd", 5_000_000, 1_200, FULL_HOUR),
        row("spend_per_day_wei", 900_000_000_000_000, 7, FULL_HOUR + timedelta(hours=15)),
        row("spend_per_month_micro_usd", 70, 0, datetime(2031, 6, 1, tzinfo=UTC)),
        row("streams_max", 3, 1),
    ]

    assert rate_limit_fields(rows, NOW) == {
        "RateLimit-Policy": '"spend_per_hour_micro_usd";q=5000000;w=3600, '
        '"spend_per_day_wei";q=900000000000000;w=86400, '
        '"spend_per_month_micro_usd";q=70;w=2678400, "streams_max";q=3',
        "RateLimit": '"spend_per_hour_micro_usd";r=1200;t=2745, "spend_per_day_wei";r=7;t=56745, '
        '"spend_per_month_micro_usd";r=0;t=1266345, "streams_max";r=1',
    }


def test_no_limits_no_fields() -> None:
    assert rate_limit_fields([], NOW) == {}


@pytest.mark.parametrize(
    ("limit", "policy", "left"),
    [
        (10**15 - 1, '"spend_limit_wei";q=999999999999999', '"spend_limit_wei";r=999999999999998'),
        (10**15, '"spend_limit_gwei";q=1000000', '"spend_limit_gwei";r=999999'),
        (10**24 - 1, '"spend_limit_gwei";q=999999999999999', '"spend_limit_gwei";r=999999999999999'),
    ],
)
def test_what_has_over_fifteen_digits_is_told_in_gwei_rounded_down(
    limit: int, policy: str, left: str
) -> None:
    fields = rate_limit_fields([row("spend_limit_wei", limit, limit - 1)], NOW)

    assert fields == {"RateLimit-Policy": policy, "RateLimit": left}


@pytest.mark.parametrize(("name", "limit"), [("spend_limit_wei", 10**24), ("spend_limit_micro_usd", 10**15)])
def test_what_does_not_fit_even_so_is_left_out(name: str, limit: int) -> None:
    fields = rate_limit_fields([row(name, limit, 1), row("sessions_max", 2, 2)], NOW)

    assert fields == {"RateLimit-Policy": '"sessions_max";q=2', "RateLimit": '"sessions_max";r=2'}


def test_the_unit_does_not_change_as_the_limit_is_used_up() -> None:
    fields = rate_limit_fields([row("spend_limit_wei", 10**15, 5)], NOW)

    assert fields["RateLimit"] == '"spend_limit_gwei";r=0'


def test_a_window_that_has_just_ended_has_no_time_left() -> None:
    fields = rate_limit_fields([row("spend_per_hour_wei", 7, 7, NOW - timedelta(seconds=2))], NOW)

    assert fields["RateLimit"] == '"spend_per_hour_wei";r=7;t=0'
