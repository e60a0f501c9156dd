"""Reads the logs of all publishers as one, from a cursor on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from contracts.message import LogPage, ReadLog
from contracts.public_log import Cursor, LogPlace, Place, Reading, Wanted, follows, merge, way_on
from shared.bus import CommandRefusedError, ServiceUnavailableError

PAGE = 500
EPOCH_CHANGED = "log_epoch_changed"

# Asks one publisher for a page; raises CommandRefusedError or ServiceUnavailableError.
type AskPage = Callable[[str, ReadLog], Awaitable[LogPage]]


class EpochOverError(Exception):
    """What the reader has read of a log is no longer what that log says.

    `cursor` is where it can go on: nothing is left out from there, and what is told again has
    another id. `logs` says which ones.
    """

    def __init__(self, logs: Sequence[LogPlace], cursor: Cursor) -> None:
        places = ", ".join(
            f"{log.service} is in epoch {log.epoch} since position {log.began_after}, "
            f"you are at {log.read_position} of epoch {log.read_epoch}"
            for log in logs
        )
        super().__init__(f"a log began a new epoch: {places}")
        self.logs = list(logs)
        self.cursor = cursor


class LogReader:
    def __init__(self, ask_page: AskPage) -> None:
        self._ask_page = ask_page

    async def read(self, cursor: Cursor, wanted: Wanted, limit: int, *, size: int = PAGE) -> Reading:
        """Read one page of `size` entries of each log on; at most `limit` events of those that are wanted.

        Of a publisher that does not answer nothing is read, and the reading is not at the end;
        raises ServiceUnavailableError where that leaves nothing, EpochOverError where a log was restored.
        """
        services = wanted.services()
        answers = await asyncio.gather(*(self._page(service, cursor, size) for service in services))
        pages: dict[str, LogPage] = {}
        logs: list[LogPlace] = []
        places, problem = dict(cursor), None
        for service, answer in zip(services, answers, strict=True):
            match answer:
                case LogPage():
                    pages[service] = answer
                case (place, log):
                    places[service] = place
                    logs.append(log)
                case ServiceUnavailableError():
                    problem = answer
        if logs:
            raise EpochOverError(logs, places)
        reading = merge(pages, cursor, wanted, limit)
        if problem is None:
            return reading
        if reading.cursor == cursor:
            raise problem
        return Reading(reading.events, reading.cursor, at_end=False)

    async def ends(self) -> Cursor:
        """Where all logs end now. Raises ServiceUnavailableError if one of them does not say."""
        services = Wanted().services()
        asked = ReadLog(after=0, limit=1)
        pages = await asyncio.gather(*(self._ask_page(service, asked) for service in services))
        return {service: Place(page.epoch, page.head) for service, page in zip(services, pages, strict=True)}

    async def _page(
        self, service: str, cursor: Cursor, limit: int
    ) -> LogPage | tuple[Place, LogPlace] | ServiceUnavailableError:
        place = cursor.get(service)
        try:
            page = await self._ask_page(service, _asked(place, limit))
        except ServiceUnavailableError as problem:
            return problem
        except CommandRefusedError as refused:
            if place is None or refused.refusal.code != EPOCH_CHANGED:
                raise
            return await self._way_on(service, place)
        if not follows(page, place):
            return ServiceUnavailableError(f"the log of {service} went back, and does not say why yet")
        return page

    async def _way_on(self, service: str, place: Place) -> tuple[Place, LogPlace] | ServiceUnavailableError:
        try:
            page = await self._ask_page(service, ReadLog(after=place.position, limit=1))
        except ServiceUnavailableError as problem:
            return problem
        found = way_on(service, page, place)
        return found or ServiceUnavailableError(f"the log of {service} went back, and does not say why yet")


def _asked(place: Place | None, limit: int) -> ReadLog:
    if place is None:
        return ReadLog(after=0, limit=limit)
    return ReadLog(after=place.position, limit=limit, epoch=place.epoch)
