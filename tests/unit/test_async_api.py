"""The bus as a document: what is published is described as it travels, and so is what readers may do."""

import json
import re

from contracts import generate
from contracts.message import CHECKSUM_HEADER
from contracts.public_log import EVENTS
from contracts.streams import reader_permissions, reader_user


def test_every_event_is_described_in_its_envelope_with_its_headers() -> None:
    channels = generate.asyncapi()["channels"]

    for name, event in EVENTS.items():
        [message] = channels[name]["messages"].values()
        envelope, inside = message["payload"]["allOf"]
        assert envelope == {"$ref": "./messages.json#/$defs/LogEntry"}
        assert inside["properties"]["event"] == {"$ref": f"./messages.json#/$defs/{name}"}
        assert inside["properties"]["subject"] == {"const": event.subject}
        assert set(message["headers"]["properties"]) == {"Nats-Msg-Id", CHECKSUM_HEADER}


def test_what_readers_may_say_is_described() -> None:
    channels = generate.asyncapi()["channels"]
    said = [channels[name]["address"] for name in ("ReaderFetch", "ReaderAck")]
    patterns = [
        re.escape(address)
        .replace(r"\{stream\}", "[A-Z_]+")
        .replace(r"reader\-\{reader\}", reader_user("billing"))
        .replace(r"\{place\}", ">")
        for address in said
    ]

    for subject in reader_permissions("billing").publish:
        known = any(re.fullmatch(pattern, subject) for pattern in patterns)
        assert known or subject.endswith(".read_log.v1") or ".CONSUMER.INFO." in subject, subject


def test_every_reference_leads_somewhere() -> None:
    document = generate.asyncapi()
    messages = generate.json_schema()["$defs"]

    for name in re.findall(r'"\./messages\.json#/\$defs/(\w+)"', json.dumps(document)):
        assert name in messages
    for name in re.findall(r'"#/channels/(\w+)"', json.dumps(document)):
        assert name in document["channels"]
