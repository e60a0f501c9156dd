"""Runs of a stream: from when to when it ran, told by facts that come in any order.

All times are whole milliseconds since 1970. What is computed here depends on the set of facts alone.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Literal, NamedTuple

HOUR_MS = 3_600_000
RUN_MS_MAX = 31 * 24 * HOUR_MS  # longer than anything runs; bounds the hours a pair of facts can fill
STARTED, IDLE = 0, 1

type Fact = tuple[int, int]  # when, and STARTED or IDLE
type RunState = Literal["running", "idle", "timed_out", "incomplete"]


class Run(NamedTuple):
    """A run; `ended` is its last sign of life unless its end was told.

    `incomplete`: its start or its end was lost. `timed_out`: nothing was heard of it for so long
    that it counts as ended.
    """

    began: int
    ended: int
    state: RunState

    @property
    def ms(self) -> int:
        return self.ended - self.began


def runs_of(facts: Iterable[Fact], signs: Sequence[int], given_up: int) -> list[Run]:
    """Pair starts and ends, in the order of their times.

    Of a start and an end at the same time the end comes first where a run is open: another one follows
    it. Else a run began and ended at once. `signs` of life are sorted. An open run whose last sign is
    not after `given_up` has timed out.
    """
    runs: list[Run] = []
    began: int | None = None
    for at, same in groupby(sorted(set(facts)), key=itemgetter(0)):
        kinds = [kind for _, kind in same]
        for kind in kinds if began is None else reversed(kinds):
            if kind == STARTED:
                if began is not None:
                    runs.append(_run(began, _last_sign(signs, began, at), "incomplete"))
                began = at
            elif began is None:
                runs.append(Run(at, at, "incomplete"))
            else:
                runs.append(_run(began, at, "idle"))
                began = None
    if began is not None:
        last = _last_sign(signs, began, None)
        runs.append(_run(began, last, "timed_out" if last <= given_up else "running"))
    return runs


def hours_of(runs: Iterable[Run]) -> dict[int, int]:
    """Milliseconds by hour (hours since 1970); never more than an hour has."""
    hours: dict[int, int] = {}
    for run in runs:
        at = run.began
        while at < run.ended:
            hour = at // HOUR_MS
            end = min(run.ended, (hour + 1) * HOUR_MS)
            hours[hour] = hours.get(hour, 0) + end - at
            at = end
    return hours


def _run(began: int, ended: int, state: RunState) -> Run:
    return Run(began, min(ended, began + RUN_MS_MAX), state)


def _last_sign(signs: Sequence[int], began: int, before: int | None) -> int:
    place = len(signs) if before is None else bisect_left(signs, before)
    return max(began, signs[place - 1]) if place else began
