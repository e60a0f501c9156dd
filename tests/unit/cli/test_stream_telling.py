"""What `clearinghouse streams show` prints of a stream."""

from datetime import UTC, datetime, timedelta

import pytest

from contracts.metered_streams import (
    MeteredStream,
    MeteredStreamView,
    StreamGap,
    StreamMoment,
    StreamRefusal,
    StreamRun,
    StreamSwap,
)
from services.cli.stream_telling import duration, tell

NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
STREAM = MeteredStream(
    stream_id="talk-show",
    account_id="acme",
    user_id=None,
    user_from=None,
    app="demo",
    state="idle",
    first_at=NOON,
    last_at=NOON,
    elapsed_ms=3_723_004,
    source_ms=None,
    differs=False,
    too_late=0,
)


def view(stopped: str | None) -> MeteredStreamView:
    return MeteredStreamView(
        stream=STREAM,
        runs=[],
        sessions=[],
        session_count=2,
        payments=7,
        tickets=9,
        cost_wei=10**20 + 1,
        orchestrator_swaps=1,
        stopped=stopped,
    )


def test_a_stream_is_told_with_all_that_happened_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    later = NOON + timedelta(seconds=61)
    told = view("Whoever had begun it ended it.").model_copy(
        update={
            "runs": [
                StreamRun(
                    told_by="streams", state="idle", began_at=NOON, ended_at=later, elapsed_ms=61_000,
                    because="ended",
                )
            ],
            "gaps": [StreamGap(from_at=NOON, to_at=later, elapsed_ms=61_000)],
            "swaps": [StreamSwap(session_id="s2", orchestrator="0xo", opened_at=NOON, minimum_wei=40)],
            "refusals": [
                StreamRefusal(
                    session_id="s2", reason="limit", status=402, times=3, first_at=NOON, last_at=later
                )
            ],
            "timeline": [StreamMoment(at=NOON, what="run_began", of="streams")],
        }
    )  # fmt: skip

    tell(told)

    printed = capsys.readouterr().out
    assert "talk-show of acme, user -, app demo" in printed
    assert "idle for 1:02:03.004 in all; Whoever had begun it ended it." in printed
    assert "7 payments of 9 tickets in 2 sessions: 100000000000000000001 wei; 1 swaps" in printed
    for title in ("Runs", "Gaps", "Swaps", "Refusals", "Timeline"):
        assert f"\n{title}\n" in printed
    assert "0:01:01.000" in printed


def test_a_stream_that_runs_has_no_end_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    tell(view(None))

    assert "it runs" in capsys.readouterr().out


@pytest.mark.parametrize(("milliseconds", "said"), [(0, "0:00:00.000"), (3_599_999, "0:59:59.999")])
def test_a_duration_is_exact(milliseconds: int, said: str) -> None:
    assert duration(milliseconds) == said
