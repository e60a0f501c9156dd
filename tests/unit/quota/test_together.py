"""Commands that wait for each other are answered together; each gets what it asked for."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from eventsourcing.persistence import OperationalError

from services.quota.together import Together

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECONDS = 10.0


class Slow:
    """Doubles numbers; the first batch waits until it is let go. Refuses what is negative."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.times: list[datetime] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.store_is_away = False

    def __call__(self, numbers: Sequence[int], now: datetime) -> list[int]:
        self.batches.append(list(numbers))
        self.times.append(now)
        if len(self.batches) == 1:
            self.begun.set()
            assert self.go_on.wait(SECONDS)
        elif self.store_is_away:
            raise OperationalError("away")
        if min(numbers) < 0:
            raise ValueError("negative")
        return [2 * number for number in numbers]


class House:
    """One command that is under way, and others that come meanwhile."""

    def __init__(self, most: int = 10) -> None:
        self.slow = Slow()
        self._together = Together(self.slow, most=most)
        self._threads = ThreadPoolExecutor(8)
        self.asked = 0

    def ask(self, *numbers: int) -> Future[Sequence[int]]:
        now = NOW + timedelta(seconds=self.asked)
        self.asked += 1
        answer = self._threads.submit(self._together.ask, numbers, now)
        if self.asked == 1:
            assert self.slow.begun.wait(SECONDS)
        else:
            self._wait_until_it_waits()
        return answer

    def _wait_until_it_waits(self) -> None:
        deadline = threading.Event()
        for _ in range(1000):
            if len(self._together.waiting) == self.asked - 1:
                return
            deadline.wait(SECONDS / 1000)
        raise AssertionError("a command did not come")


def test_what_comes_meanwhile_is_answered_in_one_batch_each_by_its_own_answers() -> None:
    house = House()
    first, second, third = house.ask(1), house.ask(2, 3), house.ask(4)
    house.slow.go_on.set()

    assert [list(each.result(SECONDS)) for each in (first, second, third)] == [[2], [4, 6], [8]]
    assert house.slow.batches == [[1], [2, 3, 4]]


def test_a_batch_is_decided_at_the_time_of_the_last_who_came() -> None:
    house = House()
    answers = [house.ask(1), house.ask(2), house.ask(3)]
    house.slow.go_on.set()
    [each.result(SECONDS) for each in answers]

    assert house.slow.times == [NOW, NOW + timedelta(seconds=2)]


def test_a_batch_is_bounded_and_no_command_is_cut() -> None:
    house = House(most=3)
    answers = [house.ask(1), house.ask(2, 3), house.ask(4, 5), house.ask(6)]
    house.slow.go_on.set()
    [each.result(SECONDS) for each in answers]

    assert house.slow.batches == [[1], [2, 3], [4, 5, 6]]


def test_a_command_that_cannot_be_answered_takes_nobody_with_it() -> None:
    house = House()
    answers = [house.ask(1), house.ask(2), house.ask(-1), house.ask(3)]
    house.slow.go_on.set()

    with pytest.raises(ValueError, match="negative"):
        answers[2].result(SECONDS)
    assert [list(answers[each].result(SECONDS)) for each in (0, 1, 3)] == [[2], [4], [6]]


def test_where_the_store_is_away_it_is_asked_once_for_all() -> None:
    house = House()
    house.slow.store_is_away = True
    answers = [house.ask(1), house.ask(2), house.ask(3)]
    house.slow.go_on.set()

    assert list(answers[0].result(SECONDS)) == [2]
    for each in answers[1:]:
        with pytest.raises(OperationalError):
            each.result(SECONDS)
    assert house.slow.batches == [[1], [2, 3]]
