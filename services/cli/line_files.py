"""Files with something on each line, sent batch after batch; after whatever went wrong, say it again."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TextIO

import typer

from services.cli.running import RefusedHereError
from shared.bus import ServiceUnavailableError

LINES_MAX = 500  # of a batch, as many as one command takes
BATCH_CHARACTERS_MAX = 1024 * 1024
LINE_CHARACTERS_MAX = 64 * 1024
TOLD_MAX = 20  # lines that were refused, on stderr

type Line = tuple[int, str]  # its number, from 1


class Sender(Protocol):
    """Sends batches, and counts what became of their lines."""

    counts: dict[str, int]

    async def send(self, lines: Sequence[Line]) -> None:
        """Raise ServiceUnavailableError; all that was sent before is recorded then."""


def require_file(path: Path) -> None:
    """`-` is stdin. Raise before anybody is asked anything."""
    if str(path) != "-" and not path.is_file():
        raise typer.BadParameter(f"there is no file {path}", param_hint="FILE")


async def send_file(sender: Sender, path: Path) -> None:
    """Send all of it; raise RefusedHereError for what is no such file, ServiceUnavailableError."""
    try:
        with sys.stdin if str(path) == "-" else path.open(encoding="utf-8") as file:
            for lines in batches(file):
                await sender.send(lines)
    except UnicodeDecodeError:
        raise RefusedHereError("bad_file", "the file is not UTF-8") from None
    except ServiceUnavailableError as problem:
        done = sum(sender.counts.values())
        raise ServiceUnavailableError(f"{problem}; {done} events are done, say it again to go on") from None


def tell_refused(number: int, why: str, refused: int) -> None:
    """Say on stderr why a line was refused; `refused` are it and those before."""
    if refused <= TOLD_MAX:
        sys.stderr.write(f"line {number}: {why}\n")


def batches(file: TextIO) -> Iterator[list[Line]]:
    """Lines with something on them, as many at a time as travel together."""
    batch: list[Line] = []
    size = number = 0
    while text := file.readline(LINE_CHARACTERS_MAX + 1):
        number += 1
        if len(text) > LINE_CHARACTERS_MAX:
            raise RefusedHereError("bad_file", f"line {number}: longer than {LINE_CHARACTERS_MAX} characters")
        if not text.strip():
            continue
        if len(batch) == LINES_MAX or (batch and size + len(text) > BATCH_CHARACTERS_MAX):
            yield batch
            batch, size = [], 0
        batch.append((number, text))
        size += len(text)
    if batch:
        yield batch
