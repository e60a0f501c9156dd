"""Everything that leaves the system, searched for signatures, whatever they are wrapped in."""

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from typing import Any

from tests.acceptance.system import Answer

SIGNATURE_BYTES = 65
HEX = re.compile(r"(?:0x)?([0-9a-fA-F]{130})(?![0-9a-fA-F])")
VARINT, FIXED_64, LENGTH_DELIMITED, FIXED_32 = 0, 1, 2, 5  # protobuf's wire types
FIXED = {FIXED_64: 8, FIXED_32: 4}


class NoProtobufError(Exception):
    pass


def signatures_in(answer: Answer) -> set[bytes]:
    """All that has the length of a signature, in the headers or the body of an answer."""
    texts = [*answer.headers.values(), *_texts(_content(answer.body) or answer.body.decode(errors="replace"))]
    return {found for text in texts for found in _in_text(text)}


def _content(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, inner in value.items():
                yield name
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)


def _in_text(text: str) -> Iterator[bytes]:
    for digits in HEX.findall(text):
        yield bytes.fromhex(digits)
    try:
        raw = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return
    for inner in _texts(_content(raw)):
        yield from _in_text(inner)
    yield from _in_bytes(raw)


def _in_bytes(raw: bytes) -> Iterator[bytes]:
    """The bytes themselves, and the fields of the message that they may be, however deep."""
    if len(raw) == SIGNATURE_BYTES:
        yield raw
    if len(raw) <= SIGNATURE_BYTES:
        return
    try:
        fields = list(_fields(raw))
    except NoProtobufError:
        return
    for field in fields:
        yield from _in_bytes(field)


def _fields(raw: bytes) -> Iterator[bytes]:
    """The fields of a protobuf that are bytes, text or messages."""
    place = 0
    while place < len(raw):
        tag, place = _varint(raw, place)
        kind = tag & 7
        if kind == VARINT:
            _, place = _varint(raw, place)
        elif kind == LENGTH_DELIMITED:
            length, start = _varint(raw, place)
            place = start + length
            yield raw[start:place]
        elif kind in FIXED:
            place += FIXED[kind]
        else:
            raise NoProtobufError
    if place > len(raw):
        raise NoProtobufError


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """A number, and where the next thing begins."""
    number = shift = 0
    while place < len(raw):
        byte = raw[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place
    raise NoProtobufError
