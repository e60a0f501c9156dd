"""Lines of a file: numbered as an editor numbers them, in batches, and never without an end."""

import io

import pytest

from contracts.signed_tickets import TICKETS_MAX
from contracts.usage_events import EVENTS_MAX
from services.cli.line_files import (
    BATCH_CHARACTERS_MAX,
    LINE_CHARACTERS_MAX,
    LINES_MAX,
    batches,
    tell_refused,
)
from services.cli.running import RefusedHereError


def test_empty_lines_are_counted_and_left_out() -> None:
    assert [*batches(io.StringIO("a\n\n  \nb"))] == [[(1, "a\n"), (4, "b")]]


def test_a_batch_is_what_one_command_takes() -> None:
    found = [*batches(io.StringIO("a\n" * (LINES_MAX + 1)))]

    assert [len(batch) for batch in found] == [LINES_MAX, 1]
    assert LINES_MAX == EVENTS_MAX == TICKETS_MAX


def test_long_lines_make_short_batches() -> None:
    line = "x" * (LINE_CHARACTERS_MAX - 1) + "\n"

    found = [*batches(io.StringIO(line * 40))]

    assert [len(batch) for batch in found] == [BATCH_CHARACTERS_MAX // LINE_CHARACTERS_MAX] * 2 + [8]


def test_a_line_that_never_ends_is_refused() -> None:
    with pytest.raises(RefusedHereError, match="line 2: longer"):
        [*batches(io.StringIO("{}\n" + "x" * (LINE_CHARACTERS_MAX + 1)))]


def test_no_more_lines_are_told_than_one_reads(capsys: pytest.CaptureFixture[str]) -> None:
    for refused in range(1, 100):
        tell_refused(refused, "not JSON", refused)

    assert len(capsys.readouterr().err.splitlines()) == 20
