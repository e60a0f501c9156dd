"""Odd quotes: any field of an OrchestratorInfo replaced, for tests that need a hostile orchestrator.

Unless the recipientRandHash is among the replaced fields it is made anew, so that tickets under
an odd quote would be honoured, as a hostile orchestrator would do.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict, Field

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address
from tilt.orchestrator.quotes import Quotes
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.tickets import minimal_bytes

type Occasion = Literal["get_orchestrator", "challenge", "refresh_payment", "result"]

RAND_HASH = "recipient_rand_hash"


class OddQuote(BaseModel):
    """`fields` by their names in payments.proto; null clears one, bytes are hex or a whole number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    fields: dict[str, Any]
    on: list[Occasion] | None = None  # none: whenever something is quoted
    times: int | None = Field(default=None, ge=1)


@dataclass(slots=True)
class Oddities:
    quotes: Quotes
    wanted: OddQuote | None = None
    quoted: int = 0

    def want(self, quote: OddQuote | None) -> None:
        """Quote oddly from now on, or honestly again; raises ValueError for what no field can hold."""
        if quote is not None:
            replace_fields(pb.OrchestratorInfo(), quote.fields)
        self.wanted, self.quoted = quote, 0

    def applied(self, info: pb.OrchestratorInfo, occasion: Occasion, sender: Address) -> pb.OrchestratorInfo:
        """Return the quote, made odd if that is wanted now."""
        wanted = self.wanted
        if wanted is None or (wanted.on is not None and occasion not in wanted.on):
            return info
        if wanted.times is not None and self.quoted >= wanted.times:
            return info
        self.quoted += 1
        replace_fields(info, wanted.fields)
        params = wanted.fields.get("ticket_params", {})
        if info.HasField("ticket_params") and RAND_HASH not in (params or {}):
            with suppress(RefusedError):
                self.quotes.seal(info, sender)
        return info


def replace_fields(message: Message, fields: dict[str, Any]) -> None:
    """Replace a message's fields; raises ValueError for an unknown one and for a value it cannot hold."""
    for name, value in fields.items():
        field = message.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            raise ValueError(f"{message.DESCRIPTOR.name} has no field {name}")
        if value is None:
            message.ClearField(name)
        elif field.is_repeated:
            message.ClearField(name)
            _parse(message, {name: value})
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            _replace_message(getattr(message, name), value, name)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, name, _bytes(value, name))
        else:
            _parse(message, {name: value})


def _replace_message(message: Message, value: object, name: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004 - a value from outside
    message.SetInParent()
    replace_fields(message, value)


def _parse(message: Message, document: dict[str, Any]) -> None:
    try:
        ParseDict(document, message)
    except ParseError as error:
        raise ValueError(str(error)) from error


def _bytes(value: object, name: str) -> bytes:
    if isinstance(value, int) and value >= 0:
        return minimal_bytes(value)
    if isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x"))
    raise ValueError(f"{name} must be hex or a whole number")
