"""`clearinghouse usage push`: usage of an account from a file of CloudEvents, however often it is said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from contracts.cloud_events import BadEvent, BadJson, read_event, read_json
from contracts.message import Message
from contracts.usage_events import RecordUsageEvents, UsageEvent, UsageEventsAnswered
from services.cli import options
from services.cli.house import House
from services.cli.limits import require_account
from services.cli.line_files import Line, require_file, send_file, tell_refused
from services.cli.printing import print_rows
from services.cli.running import REFUSED, run


class PushedTotals(Message):
    """What became of a file's events. `repeated` were recorded before."""

    events: int = 0
    recorded: int = 0
    repeated: int = 0
    refused: int = Field(default=0, description="Their first lines are told on stderr.")


class Pushing:
    """Sends batch after batch, and adds up what became of them."""

    def __init__(self, house: House, account_id: str) -> None:
        self._house = house
        self._account_id = account_id
        self.counts = {"recorded": 0, "repeated": 0, "refused": 0}

    @property
    def totals(self) -> PushedTotals:
        return PushedTotals(events=sum(self.counts.values()), **self.counts)

    async def send(self, lines: Sequence[Line]) -> None:
        """Raise ServiceUnavailableError; all that was sent before is recorded then."""
        read: list[tuple[int, UsageEvent]] = []
        for number, text in lines:
            try:
                read.append((number, read_event(read_json(text), self._account_id, user_id=None)))
            except (BadEvent, BadJson) as bad:
                self._refuse(number, str(bad))
        if not read:
            return
        command = RecordUsageEvents(events=[event for _, event in read])
        answered = await self._house.ask(command, UsageEventsAnswered)
        for (number, _), outcome in zip(read, answered.outcomes, strict=True):
            if outcome.status == "refused":
                self._refuse(number, f"{outcome.field}: {outcome.detail} ({outcome.code})")
            else:
                self.counts[outcome.status] += 1

    def _refuse(self, number: int, why: str) -> None:
        self.counts["refused"] += 1
        tell_refused(number, why, self.counts["refused"])


def push(
    account_id: options.AccountId,
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A CloudEvent in JSON on each line; - is stdin.")
    ],
    *,
    json: options.Json = False,
) -> None:
    """Record usage that was metered elsewhere.

    What was recorded before is told apart by source and id: after whatever went wrong, say it again.
    Exits with 1 if some events were refused; all others are recorded.
    """
    require_file(path)
    refused = 0

    async def work(house: House) -> None:
        nonlocal refused
        await require_account(house, account_id)
        pushing = Pushing(house, account_id)
        await send_file(pushing, path)
        refused = pushing.counts["refused"]
        print_rows([(pushing.totals, pushing.totals.model_dump())], json=json)

    run(work, json=json)
    if refused:
        raise typer.Exit(REFUSED)
