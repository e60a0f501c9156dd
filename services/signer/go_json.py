"""JSON as Go's encoding/json reads it into a struct: what go-livepeer takes, we take.

Unknown fields are ignored, keys match whatever their case, null is as good as absent, and what
follows the first value is not looked at. Bytes are base64 text or an array of numbers. Integers are
written without point and exponent. A name that comes again is read again over what there is: each
value has to fit, the last one counts, objects merge.
"""

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from services.signer.refusal import BadRequestError

DEPTH_MAX = 20
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
BYTE_MAX = 255
BASE64_QUANTUM, BASE64_PADDING_MAX = 4, 2
INT64_DIGITS_MAX = 20
BLANKS = " \t\r\n"
# The two letters beyond ASCII that Go takes for one within it.
GO_FOLDS = str.maketrans({"\u017f": "s", "\u212a": "k"})


class Literal(str):
    """A number with point or exponent, or of many digits, as it was written."""

    __slots__ = ()


class Members(dict[str, list[Any]]):
    """A JSON object: the values of each name, which is folded, as they came."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one object; each is read as what it has to be.

    Every reader raises BadRequestError, which names the field.
    """

    members: Members
    path: str = ""  # what stands before a name in messages

    def text(self, name: str, longest: int) -> str:
        text = ""
        for value in self.values(name):
            if value is None:
                continue
            if not isinstance(value, str) or isinstance(value, Literal):
                raise self._not(name, "a string")
            text = value
        if len(text) > longest:
            raise BadRequestError(f"{self.path}{name} is longer than {longest} characters")
        return text

    def int64(self, name: str) -> int:
        number = 0
        for value in self.values(name):
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not INT64_MIN <= value <= INT64_MAX:
                raise self._not(name, "a whole number of 64 bits")
            number = value
        return number

    def octets(self, name: str) -> bytes:
        octets = b""
        for value in self.values(name):
            if value is None:
                octets = b""
            elif isinstance(value, list):
                octets = self._octets_of_numbers(value, name)
            elif isinstance(value, str) and not isinstance(value, Literal):
                octets = self._octets_of_base64(value, name)
            else:
                raise self._not(name, "base64 text")
        return octets

    def number(self, name: str) -> str:
        """A number as it was written, or a string for one; empty if there is none."""
        written = ""
        for value in self.values(name):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, str)):
                raise self._not(name, "a number")
            written = str(value)
        return written

    def object(self, name: str) -> "Fields | None":
        """All that were given, merged, whatever nulls between; None if there is none."""
        found = [each for each in self.pointers(name) if each is not None]
        if not found:
            return None
        merged = Members()
        for each in found:
            each.merge_into(merged)
        return Fields(merged, found[0].path)

    def pointers(self, name: str) -> list["Fields | None"]:
        """What a Go pointer held one after the other: objects merge, until a null takes them back."""
        held: list[Fields | None] = []
        for value in self.values(name):
            if value is None:
                held.append(None)
                continue
            if not isinstance(value, Members):
                raise self._not(name, "an object")
            last = held[-1] if held else None
            if last is None:
                last = Fields(Members(), f"{self.path}{name}.")
                held.append(last)
            Fields(value).merge_into(last.members)
        return held

    def merge_into(self, members: Members) -> None:
        for name, values in self.members.items():
            members.setdefault(name, []).extend(values)

    def values(self, name: str) -> Sequence[Any]:
        return self.members.get(name.lower(), ())

    def _octets_of_base64(self, text: str, name: str) -> bytes:
        if "\n" in text or "\r" in text:
            text = text.replace("\n", "").replace("\r", "")
        try:
            if len(text) % BASE64_QUANTUM or text.count("=") > BASE64_PADDING_MAX:
                raise ValueError("incorrect padding")
            return b64decode(text, validate=True)
        except (Base64Error, ValueError) as problem:
            raise BadRequestError(f"{self.path}{name} is not base64: {problem}") from problem

    def _octets_of_numbers(self, values: list[Any], name: str) -> bytes:
        numbers = [0 if value is None else value for value in values]
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
            raise self._not(name, "base64 text, or an array of numbers")
        try:
            return bytes(numbers)
        except ValueError as problem:
            raise self._not(name, f"an array of numbers up to {BYTE_MAX}") from problem

    def _not(self, name: str, what: str) -> BadRequestError:
        return BadRequestError(f"{self.path}{name} must be {what}")


def read_object(text: str) -> Fields:
    """The first JSON value of a text, which has to be an object or null."""
    try:
        value, _ = DECODER.raw_decode(text.lstrip(BLANKS))
    except (ValueError, RecursionError) as problem:
        raise BadRequestError(f"body is not JSON: {problem}") from problem
    if value is None:
        return Fields(Members())
    if not isinstance(value, Members):
        raise BadRequestError("body must be a JSON object")
    _check_depth(value, text)
    return Fields(value)


def _members(pairs: list[tuple[str, Any]]) -> Members:
    members = Members()
    for key, value in pairs:
        members.setdefault(_folded(key), []).append(_whole(value))
    return members


def _folded(key: str) -> str:
    return key.lower() if key.isascii() else key.translate(GO_FOLDS).lower()


def _whole(value: Any) -> Any:
    """Text that has half of a surrogate pair, with Go's sign for what is no letter in its place."""
    if type(value) is not str or value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _integer(written: str) -> int | Literal:
    return int(written) if len(written) <= INT64_DIGITS_MAX else Literal(written)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_float=Literal, parse_int=_integer, parse_constant=_no_constant
)


def _check_depth(value: Any, text: str) -> None:
    if text.count("{") + text.count("[") <= DEPTH_MAX:
        return  # it cannot be deeper than that
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [inner for outer in level for inner in _inside(outer)]
    if any(isinstance(inner, (Members, list)) for inner in level):
        raise BadRequestError(f"body is nested deeper than {DEPTH_MAX}")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Members):
        return [inner for values in value.values() for inner in values]
    return value if isinstance(value, list) else []
