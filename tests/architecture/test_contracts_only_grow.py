"""What others rely on stays: stored names, subjects, and the fields of every message."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.domain import Aggregate

import services
from contracts.generate import MODULES, json_schema, messages_of
from contracts.message import Command, Event

COMMITTED = Path(__file__).parent / "committed.json"
SERVICES = sorted(module.name for module in pkgutil.iter_modules(services.__path__))


def domain_classes() -> set[type[Any]]:
    """Every aggregate and event with a stored name; the library refuses to define one without."""
    return {
        base
        for service in SERVICES
        for modules in [domain_modules(service)]
        for module in modules
        for _, aggregate in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if issubclass(aggregate, Aggregate)
        for _, inner in [("", aggregate), *inspect.getmembers(aggregate, inspect.isclass)]
        for base in inner.__mro__  # a decorated event is wrapped by a class of the library's
        if base.__module__ in modules and "TOPIC" in vars(base)
    }


def domain_modules(service: str) -> list[str]:
    folder = Path(services.__path__[0]) / service
    if (folder / "domain.py").exists():
        return [f"services.{service}.domain"]
    return [f"services.{service}.domain.{path.stem}" for path in sorted(folder.glob("domain/[a-z]*.py"))]


def present() -> dict[str, Any]:
    """Topics with their fields, subjects, and the messages' fields with their types."""
    topics = {found.TOPIC: sorted(getattr(found, "__dataclass_fields__", {})) for found in domain_classes()}
    subjects = sorted(
        model.subject
        for module in MODULES
        for model in messages_of(module)
        if issubclass(model, (Command, Event)) and hasattr(model, "subject")
    )
    messages = {
        name: {
            "properties": {field: json.dumps(shape, sort_keys=True) for field, shape in _shapes(schema)},
            "required": sorted(schema.get("required", [])),
        }
        for name, schema in json_schema()["$defs"].items()
    }
    return {"topics": topics, "subjects": subjects, "messages": messages}


def _shapes(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for field, shape in schema.get("properties", {}).items():
        yield field, {key: value for key, value in shape.items() if key not in {"title", "description"}}


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    """What was there before. New things are added with `python -m tests.architecture.commit`."""
    read: dict[str, Any] = json.loads(COMMITTED.read_text())
    return read


def test_every_aggregate_and_event_has_a_name_of_its_own() -> None:
    topics = [found.TOPIC for found in domain_classes()]

    assert len(topics) > len(SERVICES)
    assert len(set(topics)) == len(topics)


def test_no_stored_name_ever_leaves(committed: dict[str, Any]) -> None:
    there = present()["topics"]

    for topic, fields in committed["topics"].items():
        assert set(fields) <= set(there.get(topic, ())), topic


def test_no_subject_ever_leaves(committed: dict[str, Any]) -> None:
    assert set(committed["subjects"]) <= set(present()["subjects"])


def test_a_message_only_grows_by_fields_with_a_default(committed: dict[str, Any]) -> None:
    there = present()["messages"]

    for name, message in committed["messages"].items():
        assert name in there, name
        for field, shape in message["properties"].items():
            assert there[name]["properties"].get(field) == shape, f"{name}.{field}"
        new = set(there[name]["required"]) - set(message["required"])
        assert not new & set(there[name]["properties"]) - set(message["properties"]), (name, new)


def test_everything_new_is_committed(committed: dict[str, Any]) -> None:
    there = present()

    assert committed == there, "python -m tests.architecture.commit"
