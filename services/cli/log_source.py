"""The log as the command reads it: over the bus, patient with a service that is restarted."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Self

from contracts.message import LogPage, ReadLog, read_log_subject
from contracts.public_log import EVENTS, Cursor, Reading, Wanted, concerns_an_account, decode, encode
from services.cli.house import House
from services.cli.running import RefusedHereError
from shared.bus import ServiceUnavailableError
from shared.log_reader import AskPage, EpochOverError, LogReader

NOW = "now"
PAGE = 500
POLL_SECONDS = 0.5
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0)  # then it could not be done


class LogSource:
    def __init__(self, ask_page: AskPage) -> None:
        self._reader = LogReader(ask_page)

    @classmethod
    def of(cls, house: House) -> Self:
        async def ask_page(publisher: str, asked: ReadLog) -> LogPage:
            return await house.ask(asked, LogPage, subject=read_log_subject(publisher))

        return cls(ask_page)

    async def start(self, begin: str | None) -> Cursor:
        """Where to begin: a cursor, `now`, or without either the beginning."""
        if begin == NOW:
            return await self._reader.ends()
        return cursor_of(begin) if begin else {}

    async def read(self, cursor: Cursor, wanted: Wanted) -> Reading:
        """Read on, and try again for a while where a service does not answer.

        Raises ServiceUnavailableError and EpochOverError.
        """
        for seconds in RETRY_SECONDS:
            try:
                return await self._reader.read(cursor, wanted, PAGE)
            except ServiceUnavailableError as problem:
                sys.stderr.write(f"waiting: {problem}\n")
            await asyncio.sleep(seconds)
        return await self._reader.read(cursor, wanted, PAGE)


def cursor_of(text: str) -> Cursor:
    try:
        return decode(text)
    except ValueError:
        raise RefusedHereError("bad_cursor", "--from: not a cursor of this log") from None


def wanted_of(types: Sequence[str], account: str | None, service: str | None = None) -> Wanted:
    """What was asked for by options; raises RefusedHereError for types that there are not."""
    unknown = [name for name in types if name not in EVENTS]
    if unknown:
        raise RefusedHereError("bad_type", f"--types: there is no {unknown[0]}; {', '.join(sorted(EVENTS))}")
    if account is not None and (foreign := [name for name in types if not concerns_an_account(name)]):
        raise RefusedHereError("bad_type", f"--types: {foreign[0]} concerns no account")
    chosen = frozenset(types) or None
    if service is not None:
        told = {name for name, event in EVENTS.items() if event.subject.split(".")[1] == service}
        chosen = frozenset(told & (chosen or told))
        if not chosen:
            raise RefusedHereError("bad_service", f"--service: {service} tells nothing of that")
    return Wanted(chosen, account)


def epoch_over(over: EpochOverError, advice: str) -> RefusedHereError:
    return RefusedHereError("log_epoch_changed", f"{over}; {advice} --from {encode(over.cursor)}")
