"""Orchestrators as discovery saw them last, ready to be answered: `/discover-orchestrators`.

A snapshot is read once, when it comes; each answer is put together from pieces that are JSON already.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from pydantic import ValidationError
from pydantic_core import to_json

from contracts.discovery import SNAPSHOT, Orchestrator, OrchestratorsObserved, Runner

log = structlog.get_logger()

SCORE = b"1"  # go-livepeer's, of whoever may be used


class OrchestratorsUnknownError(Exception):
    """There is no snapshot yet, or nobody in it."""


class Bucket(Protocol):
    """A copy of the `orchestrators` bucket; an entry's bytes stay the same object until it changes."""

    def get(self, key: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class _Answers:
    """One snapshot: each orchestrator as the wire has it, and where each capability is found."""

    pieces: tuple[bytes, ...] = ()
    places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class ObservedOrchestrators:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._entry: bytes | None = None
        self._answers = _Answers()

    def find(self, capabilities: Iterable[str]) -> bytes:
        """Those with any of these capabilities, in their order, each once; all if none is given.

        Answers a JSON array; raises OrchestratorsUnknownError where go-livepeer says 503.
        """
        answers = self._current()
        if not answers.pieces:
            raise OrchestratorsUnknownError("no orchestrator is known")
        wanted = [capability for capability in capabilities if capability]
        if not wanted:
            return _array(answers.pieces)
        places = dict.fromkeys(place for one in wanted for place in answers.places.get(one, ()))
        return _array(answers.pieces[place] for place in places)

    def _current(self) -> _Answers:
        entry = self._bucket.get(SNAPSHOT)
        if entry is not self._entry:
            self._entry = entry
            if entry is not None:  # else the bucket is being read anew, and what we know will do
                self._answers = _read(entry)
        return self._answers


def _read(entry: bytes) -> _Answers:
    try:
        observed = OrchestratorsObserved.model_validate_json(entry)
    except ValidationError as problem:
        log.error("snapshot_unreadable", problem=str(problem)[:500])
        return _Answers()
    places: dict[str, list[int]] = {}
    for place, orchestrator in enumerate(observed.orchestrators):
        for capability in dict.fromkeys(orchestrator.capabilities):
            places.setdefault(capability, []).append(place)
    return _Answers(
        pieces=tuple(_orchestrator(orchestrator) for orchestrator in observed.orchestrators),
        places={capability: tuple(found) for capability, found in places.items()},
    )


def _orchestrator(orchestrator: Orchestrator) -> bytes:
    fields = {"address": to_json(orchestrator.address), "score": SCORE}
    if orchestrator.capabilities:
        fields["capabilities"] = to_json(orchestrator.capabilities)
    if orchestrator.runners:
        fields["runners"] = _array(_runner(runner) for runner in orchestrator.runners)
    return _object(fields)


def _runner(runner: Runner) -> bytes:
    """In go-livepeer's order; what it leaves out when empty, we leave out."""
    price = runner.price_info
    told: dict[str, object] = {
        "url": runner.url,
        "gpu": runner.gpu.model_dump(exclude_defaults=True) if runner.gpu else None,
        "app": runner.app,
        "version": runner.version or None,
        "metadata": runner.metadata or None,
        "mode": runner.mode or None,
        "capacity": runner.capacity,
        "capacity_used": runner.capacity_used,
        "capacity_available": runner.capacity_available,
    }
    fields = {name: to_json(value) for name, value in told.items() if value is not None}
    texts = {"currency": to_json(price.currency), "unit": to_json(price.unit)}
    fields["price_info"] = _object({"price": price.price.encode(), **texts})
    return _object(fields)


def _object(fields: Mapping[str, bytes]) -> bytes:
    return b"{" + b",".join(b'"' + name.encode() + b'":' + value for name, value in fields.items()) + b"}"


def _array(values: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(values) + b"]"
