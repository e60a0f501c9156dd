"""A reader of protobuf's wire format: what any message says, without a library and without a schema.

Written apart from what it checks. Where decoders of other languages disagree (overlong varints,
UTF-8 in strings, what stands in unknown groups) it reads on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)
VARINT_BYTES_MAX = 10
WIDTH_BY_FIXED = {FIXED64: 8, FIXED32: 4}

type Value = int | bytes
type Schema = Mapping[int, Any]  # of sub-messages and packed numbers, by field: all else may be anything

PACKED = "packed"


class NotProtobufError(Exception):
    """The bytes are no message; says why."""


@dataclass(frozen=True)
class Field:
    number: int
    wire_type: int
    value: Value


class Reader:
    """Walks through bytes, and never past their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at >= len(self._data)

    def varint(self) -> int:
        """Read 64 bits, low groups first; a group too many is a mistake, bits too many are not."""
        value = 0
        for place in range(VARINT_BYTES_MAX):
            if self._at >= len(self._data):
                raise NotProtobufError("it ends in the middle of a varint")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:  # the bit that says: more follows
                return value & (2**64 - 1)
        raise NotProtobufError("a varint of more than ten bytes")

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise NotProtobufError("it ends in the middle of a field")
        self._at += count
        return taken

    def field(self) -> Field:
        number, wire_type = self._tag()
        if number == 0:
            raise NotProtobufError("no field has the number 0")
        return Field(number, wire_type, self._value(number, wire_type))

    def _tag(self) -> tuple[int, int]:
        tag = self.varint()
        if tag >= 2**32:
            raise NotProtobufError("a tag of more than 32 bits")
        return tag >> 3, tag & 7

    def _value(self, number: int, wire_type: int) -> Value:
        match wire_type:
            case 0:
                return self.varint()
            case 1 | 5:
                return self.take(WIDTH_BY_FIXED[wire_type])
            case 2:
                return self.take(self.varint())
            case 3:
                return self._skip_group(number)
        raise NotProtobufError(f"a field of wire type {wire_type}")

    def _skip_group(self, number: int) -> bytes:
        """Groups inside groups are counted, not called: input chooses how deep they go.

        Inside, field numbers may be 0: not all decoders look at those of what they skip.
        """
        begin, open_groups = self._at, [number]
        while open_groups:
            inner, wire_type = self._tag()
            if wire_type == GROUP:
                open_groups.append(inner)
            elif wire_type == GROUP_END:
                if open_groups.pop() != inner:
                    raise NotProtobufError("a group ends that is not the last begun")
            else:
                self._value(inner, wire_type)
        return self._data[begin : self._at]


@dataclass(frozen=True)
class Message:
    """The fields of a message, in the order they came."""

    fields: Sequence[Field]

    @cached_property
    def numbers(self) -> set[int]:
        return {field.number for field in self.fields}

    def integer(self, number: int) -> int:
        """An int64; the last one wins, as everywhere."""
        value = self.natural(number)
        return value - 2**64 if value >= 2**63 else value

    def natural(self, number: int) -> int:
        return next((int(value) for value in reversed(self._values(number, VARINT))), 0)

    def uint32(self, number: int) -> int:
        return self.natural(number) % 2**32

    def data(self, number: int) -> bytes:
        return next(reversed(self.all_data(number)), b"")

    def all_data(self, number: int) -> list[bytes]:
        return [value for value in self._values(number, BYTES) if isinstance(value, bytes)]

    def message(self, number: int) -> "Message | None":
        """A sub-message; where it comes several times, they merge into one."""
        parts = self.messages(number)
        return Message([field for part in parts for field in part.fields]) if parts else None

    def messages(self, number: int) -> list["Message"]:
        return [_kept(part) for part in self.all_data(number)]

    def numbers_of(self, number: int) -> list[int]:
        """A repeated uint64, packed or one by one."""
        found: list[int] = []
        for field in self.fields:
            if field.number == number and field.wire_type == VARINT:
                found.append(int(field.value))
            elif field.number == number and isinstance(field.value, bytes) and field.wire_type == BYTES:
                found += _packed(field.value)
        return found

    def _values(self, number: int, wire_type: int) -> list[Value]:
        return [
            field.value for field in self.fields if field.number == number and field.wire_type == wire_type
        ]


def read(data: bytes, schema: Schema | None = None) -> Message:
    """Read one message; with a schema, its sub-messages have to be readable too."""
    reader, fields = Reader(data), []
    while not reader.done:
        fields.append(reader.field())
    for field in fields:
        if schema and isinstance(field.value, bytes) and field.wire_type == BYTES:
            _check(schema.get(field.number), field.value)
    return Message(fields)


_kept = lru_cache(maxsize=1024)(read)  # parts are asked for again and again


def _check(kind: Any, value: bytes) -> None:
    if kind == PACKED:
        _packed(value)
    elif kind is not None:
        read(value, kind)


def _packed(data: bytes) -> list[int]:
    reader, numbers = Reader(data), []
    while not reader.done:
        numbers.append(reader.varint())
    return numbers


def write(fields: Iterable[tuple[int, Value]]) -> bytes:
    """Write numbers and bytes as proto3 does: shortest forms, nothing that says nothing."""
    parts: list[bytes] = []
    for number, value in fields:
        if isinstance(value, int) and value:
            parts += [_varint(number << 3 | VARINT), _varint(value % 2**64)]
        elif isinstance(value, bytes) and value:
            parts += [_varint(number << 3 | BYTES), _varint(len(value)), value]
    return b"".join(parts)


def write_message(number: int, content: bytes) -> bytes:
    """Write a sub-message, which says something also where it is empty."""
    return _varint(number << 3 | BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
