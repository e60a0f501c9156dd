"""Writes the contracts as documents for other languages: `python -m contracts.generate [--check]`.

JSON Schema of every message, AsyncAPI of the bus, OpenAPI of the edge; into contracts/schemas/.
With --check nothing is written; it fails if what is there is not what would be.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic.json_schema import models_json_schema

from contracts import audit, dead_letters, discovery, message, public_log, webhooks_in
from contracts.message import CHECKSUM_HEADER, Command, Event, LogEntry, LogPage, Message, ReadLog
from contracts.streams import DEAD_LETTERS, DEAD_SUBJECT, PUBLISHERS, READER_PATTERN, stream_of

DIRECTORY = Path(__file__).parent / "schemas"
MODULES = (*public_log.MODULES, audit, dead_letters, discovery, message, public_log, webhooks_in)
VERSION = "1.0.0"


def main() -> int:
    documents = {
        "messages.json": json_schema(),
        "asyncapi.json": asyncapi(),
        "openapi.json": import_module("services.edge.openapi").openapi(),
    }
    stale = [name for name, document in documents.items() if _read(name) != _text(document)]
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"contracts/schemas/{name} is not current: make schemas\n")
        return 1 if stale else 0
    DIRECTORY.mkdir(exist_ok=True)
    for name in stale:
        (DIRECTORY / name).write_text(_text(documents[name]))
    return 0


def json_schema() -> dict[str, Any]:
    """Every message by its name, as JSON Schema 2020-12."""
    models = [(model, "serialization") for module in MODULES for model in messages_of(module)]
    _, schema = models_json_schema(models, title="Clearinghouse messages")  # type: ignore[arg-type] # its Literal of modes is lost in a list
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def asyncapi() -> dict[str, Any]:
    """Commands (request/reply) and events (JetStream) with their subjects, as AsyncAPI 3.0."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for module in MODULES:
        for model in messages_of(module):
            if issubclass(model, (Command, Event)) and hasattr(model, "subject"):
                name = model.__name__
                channels[name] = _channel(model)
                operations[name] = {
                    "action": "receive" if issubclass(model, Command) else "send",
                    "channel": {"$ref": f"#/channels/{name}"},
                }
    channels |= _reader_channels()
    operations |= _reader_operations()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Clearinghouse", "version": VERSION, "description": _ABOUT},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
    }


_ABOUT = (
    "Commands go over core NATS request/reply and are always answered. Events are published on "
    f"JetStream ({', '.join(stream_of(publisher) for publisher in PUBLISHERS)}), each inside a "
    "LogEntry. What a reader cannot apply it keeps in its table dead_letters and announces on "
    f"{DEAD_LETTERS} ({DEAD_SUBJECT}.>), until somebody redrives it. Apply an entry only "
    "if its previous_position is the position you applied last; read a gap with "
    f"cmd.<publisher>.read_log.v1. The header {CHECKSUM_HEADER} is the CRC-32 of the published bytes: if it "
    "does not fit, take the message for lost. Each name in PROVISIONER_READERS is a NATS user of its "
    "own, reader-<name>, that may fetch from and acknowledge the durable consumers reader-<name>, one on "
    "each stream, and ask for pages of the logs: docs/events.md."
)


def _channel(model: type[Command] | type[Event]) -> dict[str, Any]:
    message = {"payload": _schema_of(model)}
    if issubclass(model, Event):
        message = {"headers": _HEADERS, "payload": _enveloped(model)}
    return {
        "address": model.subject,
        "description": inspect.cleandoc(model.__doc__ or ""),
        "messages": {model.__name__: message},
    }


def _schema_of(model: type[Message]) -> dict[str, Any]:
    return {"$ref": f"./messages.json#/$defs/{model.__name__}"}


_HEADERS = {
    "type": "object",
    "required": ["Nats-Msg-Id"],
    "properties": {
        "Nats-Msg-Id": {
            "type": "string",
            "pattern": f"^({'|'.join(PUBLISHERS)}):[0-9]+:[0-9]+$",
            "description": "<service>:<epoch>:<position> of the entry",
        },
        CHECKSUM_HEADER: {"type": "string", "pattern": "^[0-9a-f]{8}$"},
    },
}


def _enveloped(event: type[Event]) -> dict[str, Any]:
    """An event travels as the `event` of a LogEntry."""
    inside = {"subject": {"const": event.subject}, "event": _schema_of(event)}
    return {"allOf": [_schema_of(LogEntry), {"type": "object", "properties": inside}]}


def _reader_channels() -> dict[str, Any]:
    """What a reader of its own (docs/events.md) fetches, acknowledges, and asks for gaps."""
    parameters = {
        "reader": {"description": f"a name of PROVISIONER_READERS, {READER_PATTERN}"},
        "stream": {"enum": [stream_of(publisher) for publisher in PUBLISHERS]},
    }
    fetching = {"payload": {"type": "object", "properties": {"batch": {"type": "integer"}}}}
    acknowledging = {"payload": {"type": "string", "const": "+ACK"}}
    return {
        "ReaderFetch": {
            "address": "$JS.API.CONSUMER.MSG.NEXT.{stream}.reader-{reader}",
            "description": "Entries come to the reply subject, in the order of the stream.",
            "parameters": parameters,
            "messages": {"Fetch": fetching},
        },
        "ReaderAck": {
            "address": "$JS.ACK.{stream}.reader-{reader}.{place}",
            "description": "The reply subject of an entry; it acknowledges all before it as well.",
            "parameters": {**parameters, "place": {"description": "as the server wrote it"}},
            "messages": {"Ack": acknowledging},
        },
        "LogPages": {"address": None, "messages": {"LogPage": {"payload": _schema_of(LogPage)}}},
    }


def _reader_operations() -> dict[str, Any]:
    """`receive`, as for commands: it is the house that does."""
    operations: dict[str, Any] = {
        name: {"action": "receive", "channel": {"$ref": f"#/channels/{name}"}}
        for name in ("ReaderFetch", "ReaderAck")
    }
    operations[ReadLog.__name__] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{ReadLog.__name__}"},
        "reply": {"channel": {"$ref": "#/channels/LogPages"}},
    }
    return operations


def messages_of(module: ModuleType) -> Iterator[type[Message]]:
    for _, model in sorted(inspect.getmembers(module, inspect.isclass)):
        if issubclass(model, Message) and model.__module__ == module.__name__:
            yield model


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _read(name: str) -> str:
    path = DIRECTORY / name
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
