"""Payments per second hold in every interval, whatever the clock does; steady clients never wait."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from services.signer.pace import Pace

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MILLION = 1_000_000

rates = st.integers(min_value=1, max_value=50)
# Microseconds from one payment to the next: bursts, and rests of up to three seconds.
gaps = st.one_of(st.integers(0, 3), st.integers(0, 200_000), st.integers(0, 3 * MILLION))
steps_back = st.integers(-5 * MILLION, 0)


def admitted_at(rate: int, clock: list[int]) -> list[bool]:
    """Whether each payment was admitted that comes when the clock (in microseconds) says so."""
    pace = Pace()
    return [pace.take([("scope", rate)], START + timedelta(microseconds=at)) for at in clock]


def assert_no_interval_has_more(rate: int, elapsed: list[int], admitted: list[bool]) -> None:
    """In no interval, ends included, more than rate x time and a burst of one second's worth."""
    times = [at for at, is_admitted in zip(elapsed, admitted, strict=True) if is_admitted]
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            most = rate * Fraction(times[last] - start, MILLION) + rate
            assert last - first + 1 <= most


@given(rate=rates, between=st.lists(gaps, max_size=120))
def test_no_interval_has_more_than_its_rate_and_a_burst(rate: int, between: list[int]) -> None:
    clock = list(accumulate(between))

    assert_no_interval_has_more(rate, clock, admitted_at(rate, clock))


@given(rate=rates, between=st.lists(st.one_of(gaps, steps_back), max_size=120))
def test_a_clock_that_steps_back_never_frees_more(rate: int, between: list[int]) -> None:
    """What goes by while it steps back counts as no time at all."""
    elapsed = list(accumulate(max(gap, 0) for gap in between))

    assert_no_interval_has_more(rate, elapsed, admitted_at(rate, list(accumulate(between))))


@given(rate=rates, before=st.lists(gaps, max_size=40), late=st.lists(gaps, max_size=60))
def test_a_steady_client_never_waits_longer_than_for_its_turn(
    rate: int, before: list[int], late: list[int]
) -> None:
    """After whatever it did, once its turn came it is admitted each time it lets its turn come."""
    turn = -(-MILLION // rate)
    earlier = list(accumulate(before))
    steady = list(accumulate((turn + gap for gap in late), initial=(earlier or [0])[-1] + turn))

    assert all(admitted_at(rate, earlier + steady)[len(earlier) :])


@given(
    before=rates,
    after=rates,
    between=st.lists(gaps, max_size=40),
    since=st.lists(gaps, min_size=1, max_size=40),
)
def test_a_rate_that_changes_frees_no_more_than_the_higher_one(
    before: int, after: int, between: list[int], since: list[int]
) -> None:
    pace, clock = Pace(), list(accumulate(between + since))
    paces = [before] * len(between) + [after] * len(since)

    admitted = [
        pace.take([("scope", rate)], START + timedelta(microseconds=at))
        for rate, at in zip(paces, clock, strict=True)
    ]

    assert_no_interval_has_more(max(before, after), clock, admitted)


@given(
    account=rates,
    users=st.lists(rates, min_size=1, max_size=3),
    sent=st.lists(st.tuples(st.integers(0, 2), gaps), max_size=100),
)
def test_several_scopes_hold_together(account: int, users: list[int], sent: list[tuple[int, int]]) -> None:
    pace, now = Pace(), 0
    by_user: dict[int, list[int]] = {}
    for user, gap in sent:
        now += gap
        which = user % len(users)
        scopes = [("account", account), (f"user-{which}", users[which])]
        if pace.take(scopes, START + timedelta(microseconds=now)):
            by_user.setdefault(which, []).append(now)

    for which, times in by_user.items():
        assert_no_interval_has_more(users[which], times, [True] * len(times))
    together = sorted(at for times in by_user.values() for at in times)
    assert_no_interval_has_more(account, together, [True] * len(together))
