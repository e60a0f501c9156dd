"""Clients that import as the documents say: the same again until it was answered, whatever dies."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Protocol

import aiohttp

from tests.acceptance.system import System
from tests.faults.imports.feeds import Batch, Feed
from tests.faults.imports.sent import GOOD, Event, Sent, Ticket

RETRY_SECONDS = 0.2
PAUSE_SECONDS = 0.3  # between two batches
FILE_BATCHES = 12  # more than the command sends at once
FILE_PAUSE_SECONDS, FILE_RETRY_SECONDS = 3.0, 1.0
COMMAND_SECONDS, COMMAND_TIMEOUT_SECONDS = 60, 3
COULD_NOT = 2
INHERITED = ("PATH", "HOME", "LANG", "PYTHONPATH")


@dataclass
class Notes:
    """What all importers of a run saw; `problems` are what they may not be answered.

    `asked` is set while somebody waits for an answer.
    """

    sent: Sent
    counted: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    _asking: int = 0

    @contextmanager
    def asking(self) -> Iterator[None]:
        self._asking += 1
        self.asked.set()
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self.asked.clear()


class Importer(Protocol):
    """`answered` counts what was brought to its end."""

    answered: int

    async def run(self) -> None:
        """Import until the feed is closed and all of it was answered."""
        ...


class Pusher[Item: (Event, Ticket)]:
    """Pushes a feed to one edge: each batch when all clients are `there`, cut as it likes."""

    def __init__(
        self,
        system: System,
        edge_url: str,
        feed: Feed[Item],
        notes: Notes,
        *,
        there: asyncio.Barrier,
        random: Random,
    ) -> None:
        self.answered = 0
        self._system = system
        self._url = edge_url + feed.PATH
        self._feed: Feed[Item] = feed
        self._there = there
        self._random = random
        self._notes = notes

    def __str__(self) -> str:
        return f"{self._url}, {self.answered} batches"

    async def run(self) -> None:
        while (batch := self._feed.batch(self.answered)) is not None:
            await self._there.wait()
            for piece in batch.pieces(self._random):
                await self._push(piece)
            self.answered += 1
            self._notes.counted["batches answered"] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def _push(self, batch: Batch[Item]) -> None:
        url = self._url + batch.query
        while True:
            try:
                with self._notes.asking():
                    answer = await self._system.send("POST", url, data=batch.body, headers=batch.headers)
            except (aiohttp.ClientError, OSError):
                self._notes.counted["batches without an answer"] += 1
            else:
                if answer.status == self._feed.READ:
                    return self._note(batch, answer.json["events"])
                if answer.status != 503:
                    self._notes.problems.append(f"{self}: {answer.status} {answer.body[:300]!r}")
                    return None
                self._notes.counted["batches answered with 503"] += 1
            await asyncio.sleep(RETRY_SECONDS)

    def _note(self, batch: Batch[Item], answers: Sequence[Mapping[str, Any]]) -> None:
        for item, answer in zip(batch.items, answers, strict=True):
            said = answer["code"] if answer["status"] == "refused" else answer["status"]
            self._notes.sent.answered(item.key, said)
            self._notes.counted[f"{item.key[0]}s {answer['status']}"] += 1


class Command[Item: (Event, Ticket)]:
    """Imports files of a feed with the real `clearinghouse`, each said again until its status is 0."""

    def __init__(
        self, words: Sequence[str], bus_url: str, feed: Feed[Item], notes: Notes, path: Path
    ) -> None:
        self.answered = 0
        self._words = words
        self._feed: Feed[Item] = feed
        self._notes = notes
        self._path = path
        self._environment = {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "CLEARINGHOUSE_NATS_URL": bus_url,
            "CLEARINGHOUSE_TIMEOUT_SECONDS": str(COMMAND_TIMEOUT_SECONDS),
        }

    def __str__(self) -> str:
        return f"clearinghouse {' '.join(self._words)}, {self.answered} files"

    async def run(self) -> None:
        batches = self._batches()
        while part := list(islice(batches, FILE_BATCHES)):
            self._path.write_text("".join(f"{line}\n" for batch in part for line in batch.lines))
            await self._import([item for batch in part for item in batch.items])
            self.answered += 1
            if not self._feed.is_closed:
                await asyncio.sleep(FILE_PAUSE_SECONDS)

    def _batches(self) -> Iterator[Batch[Item]]:
        number = 0
        while (batch := self._feed.batch(number)) is not None:
            yield batch
            number += 1

    async def _import(self, items: Sequence[Item]) -> None:
        while True:
            status, out, err = await self._say()
            if status == 0:
                return self._note(items, json.loads(out))
            if status != COULD_NOT:
                self._notes.problems.append(f"{self} ended with {status}: {err[-600:]}")
                return None
            self._notes.counted["commands cut off"] += 1
            await asyncio.sleep(FILE_RETRY_SECONDS)

    async def _say(self) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", *self._words, str(self._path), "--json"),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return process.returncode, out.decode(), err.decode()

    def _note(self, items: Sequence[Item], totals: Mapping[str, int]) -> None:
        """It tells totals only: they say that each was kept, or told nothing."""
        ignored = sum(self._notes.sent.due(item.key) == "ignored" for item in items)
        told = (totals["events"], totals["recorded"] + totals["repeated"], totals.get("ignored", 0))
        if told != (len(items), len(items) - ignored, ignored):
            self._notes.problems.append(f"{self}: {totals} of {len(items)} events, {ignored} to be ignored")
        for item in items:
            self._notes.sent.answered(item.key, self._notes.sent.due(item.key) or "repeated")
        self._notes.counted["files imported by the command"] += 1
        for status in GOOD:
            self._notes.counted[f"{items[0].key[0]}s {status}, by the command"] += totals[status]
