"""`clearinghouse usage push`: a file in batches, each line told apart, and gone on with after a failure."""

import json
from typing import Any, cast

import pytest

from contracts.usage_events import EventOutcome, RecordUsageEvents, UsageEventsAnswered
from services.cli.house import House
from services.cli.pushing import Pushing

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
    await pushing.send([*enumerate(lines, 1)])
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
