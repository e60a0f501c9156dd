"""`clearinghouse usage push`: usage of an account from a file of CloudEvents, however often it is said."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import typer
from pydantic import Field

from contracts.cloud_events import BadEvent, BadJson, read_event, read_json
from contracts.message import Message
from contracts.usage_events import EVENTS_MAX, RecordUsageEvents, UsageEvent, UsageEventsAnswered
from services.cli import options
from services.cli.house import House
from services.cli.limits import require_account
from services.cli.printing import print_rows
from services.cli.running import REFUSED, RefusedHereError, run
from shared.bus import ServiceUnavailableError

BATCH_CHARACTERS_MAX = 1024 * 1024
LINE_CHARACTERS_MAX = 64 * 1024
TOLD_MAX = 20  # lines that were refused, on stderr

type Line = tuple[int, str]


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

    async def push(self, lines: list[Line]) -> None:
        """Raise ServiceUnavailableError; all that was pushed before is recorded then."""
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
        if self.counts["refused"] <= TOLD_MAX:
            sys.stderr.write(f"line {number}: {why}\n")


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
    if str(path) != "-" and not path.is_file():
        raise typer.BadParameter(f"there is no file {path}", param_hint="FILE")
    refused = 0

    async def work(house: House) -> None:
        nonlocal refused
        await require_account(house, account_id)
        pushing = Pushing(house, account_id)
        try:
            await _push_all(pushing, path)
        except ServiceUnavailableError as problem:
            done = pushing.totals.events
            raise ServiceUnavailableError(
                f"{problem}; {done} events are done, say it again to go on"
            ) from None
        refused = pushing.counts["refused"]
        print_rows([(pushing.totals, pushing.totals.model_dump())], json=json)

    run(work, json=json)
    if refused:
        raise typer.Exit(REFUSED)


async def _push_all(pushing: Pushing, path: Path) -> None:
    try:
        with sys.stdin if str(path) == "-" else path.open(encoding="utf-8") as file:
            for batch in _batches(file):
                await pushing.push(batch)
    except UnicodeDecodeError:
        raise RefusedHereError("bad_file", "the file is not UTF-8") from None


def _batches(file: TextIO) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = number = 0
    while text := file.readline(LINE_CHARACTERS_MAX + 1):
        number += 1
        if len(text) > LINE_CHARACTERS_MAX:
            raise RefusedHereError("bad_file", f"line {number}: longer than {LINE_CHARACTERS_MAX} characters")
        if not text.strip():
            continue
        if len(batch) == EVENTS_MAX or (batch and size + len(text) > BATCH_CHARACTERS_MAX):
            yield batch
            batch, size = [], 0
        batch.append((number, text))
        size += len(text)
    if batch:
        yield batch
