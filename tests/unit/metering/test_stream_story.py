"""Why a stream stopped, when nothing of it ran, and what happened in which order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.metered_streams import StreamEnd, StreamRefusal, StreamRun
from contracts.metering import SessionRow
from services.metering.stream_story import ENDS, MOMENTS_MAX, gaps, stopped, timeline

NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def run(began: int, ended: int | None, because: StreamEnd = "ended") -> StreamRun:
    return StreamRun(
        told_by="streams",
        state="running" if ended is None else "idle",
        began_at=at(began),
        ended_at=None if ended is None else at(ended),
        elapsed_ms=0 if ended is None else 1000 * (ended - began),
        because=None if ended is None else because,
    )


def refusal(last: int, first: int = 0) -> StreamRefusal:
    return StreamRefusal(
        session_id="s1",
        reason="spend_limit_reached",
        status=402,
        times=2,
        first_at=at(first),
        last_at=at(last),
    )


def session(opened: int, last: int, **told: Any) -> SessionRow:
    content = {
        "session_id": "s1",
        "account_id": "acme",
        "user_id": None,
        "app": "",
        "job_type": "lv2v",
        "orchestrator": "0xo",
        "stream_id": "stream-1",
        "opened_at": at(opened),
        "last_at": at(last),
        "payments": 1,
        "tickets": 1,
        "cost_wei": 1,
        "closed": False,
    }
    return SessionRow.model_validate({**content, **told})


def test_a_stream_that_runs_has_not_stopped() -> None:
    assert stopped([run(0, 5), run(9, None)], [refusal(10)], None) is None


@pytest.mark.parametrize("because", ENDS)
def test_each_end_has_its_words(because: StreamEnd) -> None:
    assert stopped([run(0, 5, because), run(-9, -5)], [], at(3)) == ENDS[because]


def test_refusals_are_told_only_where_nothing_was_paid_after_them() -> None:
    runs = [run(0, 60, "lease_expired")]

    refused = stopped(runs, [refusal(7), refusal(50)], at(40))
    paid_again = stopped(runs, [refusal(50)], at(51))

    assert refused == (
        "No heartbeat came for the time of its lease. "
        "Its last payments were refused: spend_limit_reached (402)."
    )
    assert paid_again == "No heartbeat came for the time of its lease."


def test_gaps_are_where_no_run_covers_the_time() -> None:
    runs = [run(0, 10), run(30, 31), run(2, 20), run(31, 40), run(50, None), run(60, 70)]

    found = [(gap.from_at, gap.to_at, gap.elapsed_ms) for gap in gaps(runs)]

    assert found == [(at(20), at(30), 10_000), (at(40), at(50), 10_000)]


def test_the_timeline_is_in_order_and_has_an_end() -> None:
    few = timeline([run(0, 60)], [session(1, 55, closed=True)], [refusal(50, 20)])
    many = timeline([run(2 * number, 2 * number + 1) for number in range(300)], [], [])

    assert [(moment.what, (moment.at - NOON).seconds) for moment in few] == [
        ("run_began", 0),
        ("session_opened", 1),
        ("payments_refused", 20),
        ("payments_refused", 50),
        ("session_closed", 55),
        ("run_ended", 60),
    ]
    assert len(many) == MOMENTS_MAX
    assert many[-1].at == at(599)
