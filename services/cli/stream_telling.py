"""A stream as a person is told of it: its time, what it cost, its runs, and why it stopped."""

from contracts.metered_streams import (
    MeteredStreamView,
    StreamGap,
    StreamMoment,
    StreamRefusal,
    StreamRun,
    StreamSwap,
)
from services.cli.printing import Columns, print_line, print_table, said

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


def tell(view: MeteredStreamView) -> None:
    stream = view.stream
    print_line(
        f"{stream.stream_id} of {stream.account_id}, user {said(stream.user_id)}, app {said(stream.app)}"
    )
    print_line(f"{stream.state} for {duration(stream.elapsed_ms)} in all; {view.stopped or 'it runs'}")
    print_line(
        f"{view.payments} payments of {view.tickets} tickets in {view.session_count} sessions:"
        f" {view.cost_wei} wei; {view.orchestrator_swaps} swaps of the orchestrator"
    )
    for title, rows in (
        ("Runs", [_run(run) for run in view.runs]),
        ("Gaps", [_gap(gap) for gap in view.gaps]),
        ("Swaps", [_swap(swap) for swap in view.swaps]),
        ("Refusals", [_refusal(refusal) for refusal in view.refusals]),
        ("Timeline", [_moment(moment) for moment in view.timeline]),
    ):
        if rows:
            print_line(f"\n{title}")
            print_table(rows)


def duration(milliseconds: int) -> str:
    """Such as 1:02:03.004."""
    hours, rest = divmod(milliseconds, HOUR_MS)
    minutes, rest = divmod(rest, MINUTE_MS)
    return f"{hours}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"


def _run(run: StreamRun) -> Columns:
    return {
        "began": run.began_at,
        "ended": run.ended_at,
        "time": duration(run.elapsed_ms),
        "because": run.because,
        "told by": run.told_by,
    }


def _gap(gap: StreamGap) -> Columns:
    return {"from": gap.from_at, "to": gap.to_at, "time": duration(gap.elapsed_ms)}


def _swap(swap: StreamSwap) -> Columns:
    return {
        "session": swap.session_id,
        "orchestrator": swap.orchestrator,
        "opened": swap.opened_at,
        "minimum in wei": swap.minimum_wei,
    }


def _refusal(refusal: StreamRefusal) -> Columns:
    return {
        "session": refusal.session_id,
        "reason": refusal.reason,
        "status": refusal.status,
        "times": refusal.times,
        "last": refusal.last_at,
    }


def _moment(moment: StreamMoment) -> Columns:
    return {"at": moment.at, "what": moment.what, "of": moment.of, "because": moment.because}
