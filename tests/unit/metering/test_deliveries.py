"""What quota's log says of streams, as metering takes it."""

from datetime import UTC, datetime, timedelta

import pytest

from contracts.message import Event, LogEntry
from contracts.stream_starts import StreamStarted, StreamStopped
from services.metering.deliveries import read_changes
from services.metering.domain.stream import Stream

NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
STARTED = StreamStarted(
    account_id="acme", stream_id="s", user_id="ann", key_id=None, app="demo", job_type="lv2v"
)


def stopped(because: str, alive: timedelta | None) -> StreamStopped:
    alive_at = NOON + alive if alive is not None else None
    told = {"account_id": "acme", "stream_id": "s", "because": because, "alive_at": alive_at}
    return StreamStopped.model_validate(told)


def entry(position: int, event: Event, after: timedelta) -> LogEntry:
    return LogEntry(
        epoch=1,
        position=position,
        previous_position=position - 1,
        subject=event.subject,
        at=NOON + after,
        event=event.model_dump(mode="json"),
    )


@pytest.mark.parametrize(
    ("end", "seconds"),
    [
        (stopped("lease_expired", timedelta(seconds=50)), 50),
        (stopped("lease_expired", timedelta()), 0),
        (stopped("lease_expired", None), 111),  # by a quota of an older release, or after a rebuild
        (stopped("ended", None), 111),
        (stopped("lease_expired", timedelta(days=1)), 111),
    ],
)
def test_time_counts_up_to_the_last_heartbeat_where_nobody_told_the_end(
    end: StreamStopped, seconds: int
) -> None:
    stream = Stream("acme", "s", timestamp=NOON)

    for _, _, change in read_changes(
        [entry(1, STARTED, timedelta()), entry(2, end, timedelta(seconds=111))], NOON
    ):
        change(stream)

    assert sum(stream.known.hours().values()) == 1000 * seconds
    assert stream.known.last_run is not None
    assert stream.known.last_run[1] == end.because
