"""An import of signed tickets adds up what became of each line, and names those that were refused."""

import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from contracts.accounts import AccountView
from contracts.message import Command, Message, Refusal
from contracts.signed_tickets import RecordSignedTickets, SignedTicketsAnswered
from services.cli.tickets import Importing
from shared.bus import CommandRefusedError
from tests.told_tickets import event

pytestmark = pytest.mark.anyio

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


class FakeHouse:
    """Accounts that know `acme`, and metering, which records each event once."""

    def __init__(self) -> None:
        self.asked: list[Command] = []
        self._known: set[str] = set()

    async def ask(self, command: Command, _: type[Message]) -> Message:
        self.asked.append(command)
        if isinstance(command, RecordSignedTickets):
            new = {ticket.event_id for ticket in command.tickets} - self._known
            self._known |= new
            outcomes = ["recorded" if each.event_id in new else "repeated" for each in command.tickets]
            return SignedTicketsAnswered.model_validate({"outcomes": outcomes})
        if cast("Any", command).account_id != "acme":
            raise CommandRefusedError(Refusal(code="account_not_found", message="no"))
        return AccountView(account_id="acme", status="open", opened_at=AT)


async def test_totals_and_the_lines_that_were_refused(capsys: pytest.CaptureFixture[str]) -> None:
    house = FakeHouse()
    importing = Importing(cast("Any", house))
    told = [
        event(at=AT),
        event(1, at=AT, computed_fee="1.5"),
        event(2, at=AT, type="create_new_payment"),
        event(3, at=AT, auth_id="nobody:x"),
        event(4, at=AT, auth_id="nobody:x"),
    ]
    lines = tuple(enumerate([*map(json.dumps, told), "nonsense"], 7))

    await importing.send(lines)
    await importing.send(lines[:1])

    totals = importing.totals
    assert (totals.events, totals.recorded, totals.repeated, totals.ignored, totals.refused) == (
        7,
        1,
        1,
        1,
        4,
    )
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "line 8",
        "line 10",
        "line 11",
        "line 12",
    ]
    assert len(house.asked) == 4  # of each account once, and two batches
