"""Runs of a stream whose facts lie at the same moment."""

from services.metering.domain.runs import IDLE, STARTED, Run, runs_of

NOON = 1_792_843_200_000
HOUR = 3_600_000


def test_a_run_that_follows_at_once_takes_nothing_from_the_one_before() -> None:
    facts = [(NOON, STARTED), (NOON + HOUR, STARTED), (NOON + HOUR, IDLE), (NOON + 2 * HOUR, IDLE)]

    assert runs_of(facts, [], 0) == [
        Run(NOON, NOON + HOUR, "idle"),
        Run(NOON + HOUR, NOON + 2 * HOUR, "idle"),
    ]


def test_a_run_that_ends_when_it_begins_is_over() -> None:
    assert runs_of([(NOON, IDLE), (NOON, STARTED)], [], 0) == [Run(NOON, NOON, "idle")]
