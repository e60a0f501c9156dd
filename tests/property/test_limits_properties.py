"""Whatever the order of asks, payments, closes, take-backs and turns: no window has more than its limit."""

from datetime import UTC, datetime
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.quota.application import Quota
from services.quota.domain.limit_set import Scope
from services.quota.domain.limits import Limits
from shared.money import Wei
from tests.property.limited_house import ACCOUNT, House

# Clocks are changed in these in the days that the house lives through, or by a half hour, or not.
ZONES = {
    "UTC": datetime(2026, 2, 28, 1, tzinfo=UTC),
    "Europe/Berlin": datetime(2026, 3, 28, 20, 7, tzinfo=UTC),
    "America/New_York": datetime(2026, 10, 31, 20, tzinfo=UTC),
    "Asia/Kolkata": datetime(2026, 3, 31, 11, 30, tzinfo=UTC),
    "Australia/Lord_Howe": datetime(2026, 4, 4, 6, tzinfo=UTC),
    "Africa/Casablanca": datetime(2026, 3, 21, 20, tzinfo=UTC),
}
AMOUNTS = st.none() | st.integers(40, 900).map(Wei)
LIMITS = st.builds(
    Limits,
    spend_limit_wei=st.none() | st.integers(200, 3000).map(Wei),
    spend_per_hour_wei=AMOUNTS,
    spend_per_day_wei=AMOUNTS,
    spend_per_month_wei=st.none() | st.integers(200, 2000).map(Wei),
    sessions_max=st.none() | st.integers(1, 5),
)
SCOPES = (Scope(ACCOUNT), Scope(ACCOUNT, user_id="ann"), Scope(ACCOUNT, key_id="key-1"))


@settings(max_examples=40, deadline=None)
@given(
    limits=st.tuples(LIMITS, LIMITS, LIMITS),
    zone=st.sampled_from(sorted(ZONES)),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_window_has_more_than_its_limit(limits: tuple[Limits, ...], zone: str, seed: int) -> None:
    quota = Quota(Wei(10_000))
    house = House([quota], zone, dict(zip(SCOPES, limits, strict=True)), Random(seed), ZONES[zone])
    house.open()

    for _ in range(120):
        house.step()
