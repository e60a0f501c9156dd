"""This version and the one before it run side by side: each reads what the other says and stores.

`previous/` was written by the version before: its JSON Schemas, and for each aggregate a history of
stored events with the state it folded them to.
"""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest
from eventsourcing.persistence import Mapper, StoredEvent
from pydantic_core import to_json

from contracts.generate import MODULES, json_schema, messages_of
from services.metering.application import Metering
from services.metering.projections import usage_tables
from shared.store import EventSourced
from tests.architecture.examples import example
from tests.architecture.test_contracts_only_grow import domain_classes

PREVIOUS = Path(__file__).parent / "previous"
SCHEMA: dict[str, Any] = json.loads((PREVIOUS / "messages.json").read_text())
HISTORIES: dict[str, list[dict[str, Any]]] = json.loads((PREVIOUS / "histories.json").read_text())
MODELS = {model.__name__: model for module in MODULES for model in messages_of(module)}
# What aggregates no longer remember, as they have no use for it.
GONE = {("deposit_watcher.redemption", "paid")}
# What they remember elsewhere.
MOVED: dict[tuple[str, str], Callable[[dict[str, Any]], Any]] = {
    ("quota.budget", "spent"): lambda folded: folded["spending"]["all"][0],
    ("quota.budget", "limit_reached"): lambda folded: bool(folded["reached"]),
}
TOPICS = {found.TOPIC for found in domain_classes()}  # to find a stored event's class, it is imported
CASES = [(aggregate, number) for aggregate, found in HISTORIES.items() for number in range(len(found))]


@pytest.mark.parametrize("name", SCHEMA["$defs"])
@pytest.mark.parametrize("least", [True, False], ids=["least", "all"])
def test_what_the_previous_version_says_is_read_by_this_one(name: str, *, least: bool) -> None:
    if name not in MODELS:
        pytest.skip("a part of messages, not one itself")
    said = example(SCHEMA["$defs"][name], SCHEMA["$defs"], required_only=least)

    read = MODELS[name].model_validate_json(json.dumps(said))

    assert _holds(json.loads(read.model_dump_json()), said)


@pytest.mark.parametrize("name", [name for name in SCHEMA["$defs"] if name in MODELS])
def test_what_this_version_says_is_read_by_the_previous_one(name: str) -> None:
    definitions = json_schema()["$defs"]
    reader = jsonschema_rs.validator_for({**SCHEMA, "$ref": f"#/$defs/{name}"})

    reader.validate(example(definitions[name], definitions, required_only=False))


@pytest.mark.parametrize(("aggregate", "number"), CASES)
def test_a_stored_history_gives_the_state_it_gave_before(aggregate: str, number: int) -> None:
    history = HISTORIES[aggregate][number]
    mapper = _mapper(aggregate)

    state = None
    for version, (topic, stored) in enumerate(history["events"], start=1):
        event = mapper.to_domain_event(StoredEvent(UUID(int=1), version, topic, _packed(stored, topic)))
        state = event.mutate(state)  # type: ignore[attr-defined] # every event of ours does

    folded = json.loads(to_json(vars(state), fallback=_as_json))
    for name, value in history["state"].items():
        if (aggregate, name) in GONE:
            continue
        moved = MOVED.get((aggregate, name))
        assert _holds(moved(folded) if moved else folded[name], value), name


def test_every_event_that_was_stored_before_is_in_a_history() -> None:
    told = {topic for found in HISTORIES.values() for each in found for topic, _ in each["events"]}

    assert told <= TOPICS
    assert len(told) == 41


def _holds(read: Any, said: Any) -> bool:
    """Whether all that was said was understood; more may be there."""
    if isinstance(said, dict):
        return said.keys() <= read.keys() and all(_holds(read[key], said[key]) for key in said)
    if isinstance(said, list):
        return len(read) == len(said) and all(map(_holds, read, said))
    return bool(read == said)


def _mapper(aggregate: str) -> Mapper[UUID]:
    if aggregate.startswith("metering."):  # its events are compressed
        return Metering(usage_tables("metering")).mapper
    return EventSourced().mapper


def _packed(stored: str, topic: str) -> bytes:
    return zlib.compress(stored.encode()) if topic.startswith("metering.") else stored.encode()


def _as_json(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return vars(value) if hasattr(value, "__dict__") else repr(value)
