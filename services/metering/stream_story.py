"""What happened to a stream, told in order, and why it stopped, in words."""

from collections.abc import Sequence
from datetime import datetime

from contracts.metered_streams import (
    StreamEnd,
    StreamGap,
    StreamMoment,
    StreamRefusal,
    StreamRun,
)
from contracts.metering import SessionRow
from services.metering.domain.stream import MILLISECOND

SHOWN_MAX = 100
MOMENTS_MAX = 200
ENDS: dict[StreamEnd, str] = {
    "idle": "Livepeer Studio told its end.",
    "ended": "Whoever had begun it ended it.",
    "lease_expired": "No heartbeat came for the time of its lease.",
    "timed_out": "Nothing was heard of it for so long that it counts as ended.",
    "incomplete": "Its start or its end was lost.",
}


def stopped(
    runs: Sequence[StreamRun], refusals: Sequence[StreamRefusal], paid_at: datetime | None
) -> str | None:
    """Why the run that began last is over; None while it runs.

    Refusals are told where nothing was paid after the last of them.
    """
    last = max(runs, key=lambda run: (run.began_at, run.ended_at is None), default=None)
    if last is not None and last.because is None:
        return None
    words = [ENDS[last.because]] if last is not None and last.because is not None else []
    refused = max(refusals, key=lambda refusal: refusal.last_at, default=None)
    if refused is not None and (paid_at is None or refused.last_at >= paid_at):
        words.append(f"Its last payments were refused: {refused.reason} ({refused.status}).")
    return " ".join(words) or None


def gaps(runs: Sequence[StreamRun]) -> list[StreamGap]:
    """The last times between runs in which none ran, whoever tells of them."""
    found: list[StreamGap] = []
    over_at: datetime | None = None
    for run in sorted(runs, key=lambda run: run.began_at):
        if over_at is not None and run.began_at > over_at:
            length = (run.began_at - over_at) // MILLISECOND
            found.append(StreamGap(from_at=over_at, to_at=run.began_at, elapsed_ms=length))
        if run.ended_at is None:
            break
        over_at = max(over_at or run.ended_at, run.ended_at)
    return found[-SHOWN_MAX:]


def timeline(
    runs: Sequence[StreamRun], sessions: Sequence[SessionRow], refusals: Sequence[StreamRefusal]
) -> list[StreamMoment]:
    """The last moments of runs, sessions and refusals, in order of time."""
    moments: list[StreamMoment] = []
    for run in runs:
        moments.append(StreamMoment(at=run.began_at, what="run_began", of=run.told_by))
        if run.ended_at is not None:
            because = run.because or ""
            moments.append(StreamMoment(at=run.ended_at, what="run_ended", of=run.told_by, because=because))
    for session in sessions:
        moments.append(StreamMoment(at=session.opened_at, what="session_opened", of=session.session_id))
        if session.closed:
            moments.append(StreamMoment(at=session.last_at, what="session_closed", of=session.session_id))
    for refusal in refusals:
        times = {refusal.first_at, refusal.last_at}
        moments += [
            StreamMoment(at=at, what="payments_refused", of=refusal.session_id, because=refusal.reason)
            for at in times
        ]
    return sorted(moments, key=lambda moment: moment.at)[-MOMENTS_MAX:]
