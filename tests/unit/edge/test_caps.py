"""So many a second of each, with a burst."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.caps import Cap, Pace


class FakeTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_after_the_burst_it_is_so_many_a_second() -> None:
    time, pace = FakeTime(), Pace(per_second=4, burst=3)
    cap = Cap(10, time)

    assert [cap.take("a", pace) for _ in range(4)] == [0, 0, 0, 0.25]
    time.now += 0.25
    assert [cap.take("a", pace) for _ in range(2)] == [0, 0.25]


def test_others_are_counted_by_themselves_and_looking_takes_nothing() -> None:
    cap, pace = Cap(10, FakeTime()), Pace(per_second=2, burst=1)
    cap.take("a", pace)

    assert cap.wait("a", pace) == cap.wait("a", pace) == pytest.approx(0.5)
    assert cap.take("b", pace) == 0


@given(
    st.integers(1, 50),
    st.integers(1, 20),
    st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_pace_allow(
    per_second: int, burst: int, pauses: list[float]
) -> None:
    time, pace = FakeTime(), Pace(per_second, burst)
    cap, taken = Cap(10, time), 0
    for pause in pauses:
        time.now += pause
        taken += cap.take("a", pace) == 0
        assert taken <= burst + (time.now - 1000.0) * per_second + 1e-6


def test_who_waits_as_long_as_told_may_go_on() -> None:
    time, pace = FakeTime(), Pace(per_second=3, burst=1)
    cap = Cap(10, time)
    cap.take("a", pace)

    time.now += cap.take("a", pace) + 1e-9

    assert cap.take("a", pace) == 0


def test_memory_is_bounded_and_the_one_not_seen_longest_goes_first() -> None:
    cap, pace = Cap(3, FakeTime()), Pace(per_second=1, burst=1)
    for name in ("a", "b", "c"):
        cap.take(name, pace)

    cap.take("d", pace)

    assert len(cap) == 3
    assert cap.wait("a", pace) == 0
    assert cap.wait("b", pace) > 0
