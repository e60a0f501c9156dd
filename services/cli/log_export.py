"""`clearinghouse log export`: the log as JSON lines in a file, that a later run goes on with."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ValidationError

from contracts.public_log import Cursor, Place, PublicEvent, Wanted
from services.cli.log_source import LogSource, epoch_over
from services.cli.running import RefusedHereError
from shared.log_reader import EpochOverError

LINE_BYTES_MAX = 4 * 1024 * 1024  # no entry is longer than a message on the bus
MODE = 0o600  # who paid whom is nobody else's business


@dataclass(frozen=True)
class Exported:
    """What a run has added, and how far the file goes now."""

    events: int
    cursor: Cursor


async def export(source: LogSource, path: Path, begin: str | None) -> Exported:
    """Append what the file lacks up to where the logs end, page by page, each on disk before the next."""
    with _locked(path) as file:
        cursor: Cursor = {**await source.start(begin), **_written(file)}
        events = 0
        while True:
            try:
                reading = await source.read(cursor, Wanted())
            except EpochOverError as over:
                raise epoch_over(over, f"{path} stays as it is: begin another file with") from None
            _append(file, reading.events)
            events += len(reading.events)
            cursor = reading.cursor
            if reading.at_end:
                return Exported(events, cursor)


class Line(BaseModel):
    """What a line of the file says of its place; what else it says need not be read again."""

    id: str
    service: str
    epoch: int
    position: int


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, MODE)
    except OSError as problem:
        raise RefusedHereError("bad_file", f"--to: {problem.strerror}: {path}") from None
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RefusedHereError("file_in_use", f"--to: another export writes {path}") from None
        yield file


def _written(file: BinaryIO) -> dict[str, Place]:
    """How far each log is in the file, up to its last whole line; the rest of a torn one is cut off."""
    places: dict[str, Place] = {}
    end = 0
    for number, line in enumerate(_lines(file), start=1):
        if not line.endswith(b"\n"):
            break
        try:
            event = Line.model_validate_json(line)
        except ValidationError:
            raise RefusedHereError("bad_file", f"--to: line {number} is no event of the log") from None
        place = Place(event.epoch, event.position)
        if place <= places.get(event.service, Place(0, 0)):
            raise RefusedHereError("bad_file", f"--to: line {number} is not after what comes before it")
        places[event.service] = place
        end += len(line)
    file.truncate(end)
    file.seek(end)
    return places


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES_MAX):
        yield line


def _append(file: BinaryIO, events: Iterable[PublicEvent]) -> None:
    file.writelines(event.model_dump_json().encode() + b"\n" for event in events)
    file.flush()
    os.fsync(file.fileno())
