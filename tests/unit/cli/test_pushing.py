"""`clearinghouse usage push`: a file in batches, each line told apart, and gone on with after a failure."""

import io
import json
from typing import Any, cast

import pytest

from contracts.usage_events import EVENTS_MAX, EventOutcome, RecordUsageEvents, UsageEventsAnswered
from services.cli.house import House
from services.cli.pushing import LINE_CHARACTERS_MAX, Pushing, _batches
from services.cli.running import RefusedHereError

pytestmark = pytest.mark.anyio

EVENT = {"specversion": "1.0", "source": "books", "type": "used"}


class FakeHouse:
    """Metering: it knows which ids it has, and refuses what is called bad."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    async def ask(self, command: RecordUsageEvents, _: object) -> UsageEventsAnswered:
        return UsageEventsAnswered(outcomes=[self._record(event.event_id) for event in command.events])

    def _record(self, event_id: str) -> EventOutcome:
        if event_id == "bad":
            return EventOutcome(status="refused", code="unfit_value", field="data.n", detail="missing")
        if event_id in self.known:
            return EventOutcome(status="repeated")
        self.known.add(event_id)
        return EventOutcome(status="recorded")


def line(event_id: str, **told: Any) -> str:
    return json.dumps({**EVENT, "id": event_id, **told})


async def pushed(house: FakeHouse, *lines: str) -> Pushing:
    pushing = Pushing(cast("House", house), "acme")
    await pushing.push([*enumerate(lines, 1)])
    return pushing


async def test_lines_are_told_apart_and_what_is_wrong_is_told_by_its_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    house = FakeHouse()

    pushing = await pushed(house, line("1"), "{", line("bad"), line("1"), line("2", data={"n": []}))

    assert pushing.counts == {"recorded": 1, "repeated": 1, "refused": 3}
    assert pushing.totals.events == 5
    assert capsys.readouterr().err.splitlines() == [
        "line 2: not JSON",
        "line 5: data.n: a text, a number, true or false is expected",
        "line 3: data.n: missing (unfit_value)",
    ]


async def test_the_same_file_again_changes_nothing() -> None:
    house = FakeHouse()
    await pushed(house, line("1"), line("2"))

    again = await pushed(house, line("1"), line("2"), line("3"))

    assert again.counts == {"recorded": 1, "repeated": 2, "refused": 0}


def test_a_file_is_read_in_batches_without_its_empty_lines() -> None:
    lines = [line(str(number)) for number in range(EVENTS_MAX + 1)]
    text = "\n\n".join(lines)

    batches = [*_batches(io.StringIO(text))]

    assert [len(batch) for batch in batches] == [EVENTS_MAX, 1]
    assert batches[1] == [(2 * EVENTS_MAX + 1, lines[-1])]


def test_a_line_that_never_ends_is_refused() -> None:
    with pytest.raises(RefusedHereError, match="line 2: longer"):
        [*_batches(io.StringIO("{}\n" + "x" * (LINE_CHARACTERS_MAX + 1)))]
