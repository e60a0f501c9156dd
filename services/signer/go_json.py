"""JSON as Go's encoding/json reads it into a struct: what go-livepeer takes, we take.

Unknown fields are ignored, keys match whatever their case, null is as good as absent, and what
follows the first value is not looked at. Bytes are base64 text or an array of numbers. Integers are
written without point and exponent. Stricter: depth, and text that is not Unicode (docs/protocol.md).
"""

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from services.signer.refusal import BadRequestError

DEPTH_MAX = 20
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
BYTE_MAX = 255
# The two letters beyond ASCII that Go takes for one within it.
GO_FOLDS = str.maketrans({"\u017f": "s", "\u212a": "k"})


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one JSON object; each is read once as what it has to be.

    Every reader raises BadRequestError, which names the field.
    """

    values: Mapping[str, Any]  # by folded key, without nulls
    path: str = ""  # what stands before a name in messages

    def text(self, name: str, longest: int) -> str:
        value = self.values.get(name.lower(), "")
        if not isinstance(value, str):
            raise self._not(name, "a string")
        if len(value) > longest:
            raise BadRequestError(f"{self.path}{name} is longer than {longest} characters")
        return value

    def int64(self, name: str) -> int:
        value = self.values.get(name.lower(), 0)
        if not isinstance(value, int) or isinstance(value, bool) or not INT64_MIN <= value <= INT64_MAX:
            raise self._not(name, "a whole number of 64 bits")
        return value

    def octets(self, name: str) -> bytes:
        value = self.values.get(name.lower(), "")
        if isinstance(value, list):
            return self._octets_of_numbers(value, name)
        if not isinstance(value, str):
            raise self._not(name, "base64 text")
        try:
            return b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
        except (Base64Error, ValueError) as problem:
            raise BadRequestError(f"{self.path}{name} is not base64: {problem}") from problem

    def object(self, name: str) -> "Fields | None":
        """None if it is absent or null, which is another thing than an empty object."""
        value = self.values.get(name.lower())
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._not(name, "an object")
        return Fields(_fold(value), f"{self.path}{name}.")

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


def read_object(text: str) -> tuple[Fields, str]:
    """The first JSON value of a text, which has to be an object or null, and that value's own text."""
    try:
        raw, own = from_json(text, allow_inf_nan=False), text
    except ValueError:
        own = _first_value(text)
        try:
            raw = from_json(own, allow_inf_nan=False)
        except ValueError as problem:
            raise BadRequestError(f"body is not JSON: {problem}") from problem
    if raw is None:
        return Fields({}), own
    if not isinstance(raw, dict):
        raise BadRequestError("body must be a JSON object")
    _check_depth(raw, own)
    return Fields(_fold(raw)), own


def literal(text: str, *names: str) -> str:
    """A number as it was written: read as a float, it has lost digits."""
    value = json.loads(text, parse_float=str)
    for name in names:
        value = _fold(value)[name.lower()]
    return str(value)


def _first_value(text: str) -> str:
    """Cut off what stands behind the first value; all of it if there is none."""
    begun = text.lstrip(" \t\r\n")
    try:
        _, end = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode(begun)
    except (ValueError, RecursionError):
        return text
    return begun[:end]


def _fold(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {_folded(key): value for key, value in raw.items() if value is not None}


def _folded(key: str) -> str:
    return key.lower() if key.isascii() else key.translate(GO_FOLDS).lower()


def _check_depth(raw: Any, text: str) -> None:
    if text.count("{") + text.count("[") <= DEPTH_MAX:
        return  # it cannot be deeper than that
    level = [raw]
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if any(isinstance(inner, (dict, list)) for inner in level):
        raise BadRequestError(f"body is nested deeper than {DEPTH_MAX}")
