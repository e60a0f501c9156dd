"""CloudEvents over HTTP: one event, structured or in headers, or a batch of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from contracts.cloud_events import BadEvent, BadJson, read_json
from contracts.usage_events import EVENTS_MAX

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
BINARY = "application/json"
PREFIX = b"ce-"
WAYS = (
    f"an event comes as {STRUCTURED}, as {BINARY} with the headers ce-id, ce-source, ce-type and"
    f" ce-specversion, or with others as {BATCH}"
)


class UnreadableRequest(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """No event can be found in a request."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a request brings, not yet read: one event, or many."""

    kind: Literal["one", "many"]
    events: list[object]


def read_request(head: Mapping[bytes, bytes], body: bytes) -> Pushed:
    """Find the events of a request. Raise UnreadableRequest, or BadEvent of the only one."""
    media_type = head.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if media_type == BATCH:
        return Pushed("many", _batch(_json(body)))
    if media_type == STRUCTURED:
        return Pushed("one", [_json(body)])
    if media_type in {BINARY, ""} and PREFIX + b"specversion" in head:
        return Pushed("one", [_binary(head, body)])
    raise UnreadableRequest(415, "unsupported_media_type", WAYS)


def _batch(content: object) -> list[object]:
    if not isinstance(content, list):
        raise UnreadableRequest(422, "invalid_request", "body: a JSON array of events is expected")
    if len(content) > EVENTS_MAX:
        raise UnreadableRequest(422, "invalid_request", f"body: at most {EVENTS_MAX} events")
    return content


def _binary(head: Mapping[bytes, bytes], body: bytes) -> dict[str, object]:
    """Put attributes and data together as the structured form has them."""
    event: dict[str, object] = {
        name.removeprefix(PREFIX).decode("latin-1"): _attribute(name, value)
        for name, value in head.items()
        if name.startswith(PREFIX) and name not in {b"ce-data", b"ce-data_base64"}
    }
    if body:
        event["data"] = _json(body)
    return event


def _attribute(name: bytes, value: bytes) -> str:
    try:
        return unquote(value.decode(), errors="strict")
    except UnicodeDecodeError:
        raise BadEvent(name.removeprefix(PREFIX).decode("latin-1"), "not UTF-8") from None


def _json(body: bytes) -> object:
    try:
        return read_json(body)
    except BadJson:
        raise UnreadableRequest(400, "malformed_json", "the body is not JSON") from None
