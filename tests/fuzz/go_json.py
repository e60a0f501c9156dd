"""What Go's encoding/json makes of the body of a payment request (protocol §1, §1.2, §14).

The first value counts and the rest of the text does not; field names in any case, two letters
outside of ASCII included; null changes nothing but bytes and pointers; the last of two equal names
wins, and objects merge. One field of a wrong type spoils the whole, wherever it stands.
"""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

INT64 = range(-(2**63), 2**63)
BYTE = range(256)
BLANKS = " \t\r\n"
FOLDED = str.maketrans({"\u212a": "k", "\u017f": "s"})  # the Kelvin sign and the long s
TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"')
HALF_A_PAIR = re.compile("[\ud800-\udfff]")
BRACKET = re.compile(r"[][{}]")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
WHOLE_DIGITS_MAX = 20


type Read = Callable[[Any, Any], Any]


class NotAcceptedError(Exception):
    """No payment request can be read from the text; says why."""


@dataclass(frozen=True)
class Number:
    """A number as it is written; what it is worth depends on who asks."""

    literal: str


class Members(list[tuple[str, Any]]):
    """An object, its names in the order they came and as often as they came."""


@dataclass
class MaxPrice:
    price: str = ""
    currency: str = ""
    unit: str = ""


@dataclass
class State:
    state: bytes = b""
    sig: bytes = b""


@dataclass
class Request:
    """RemotePaymentRequest, each field at its zero value until the body says more."""

    state: State = field(default_factory=State)
    orchestrator: bytes = b""
    manifest_id: str = ""
    app: str = ""
    in_pixels: int = 0
    job_type: str = ""
    max_price: MaxPrice | None = None
    capabilities: bytes = b""

    @property
    def has_state(self) -> bool:
        return bool(self.state.state or self.state.sig)


def read_request(text: str, depth_max: int) -> Request:
    value = first_value(text, depth_max)
    if value is None:
        return Request()
    return _fill(Request(), value, REQUEST)


def fold(name: str) -> str:
    """Names that Go takes for one another fold to the same."""
    folded = name.translate(FOLDED)
    return folded.lower() if folded.isascii() else name


def first_value(text: str, depth_max: int) -> Any:
    """Read one value strictly by RFC 8259 and leave what follows it alone."""
    begin = len(text) - len(text.lstrip(BLANKS))
    try:
        value, end = DECODER.raw_decode(text, begin)
    except (ValueError, RecursionError) as problem:
        raise NotAcceptedError(f"not JSON: {problem}") from None
    brackets = text.count("[", begin, end) + text.count("{", begin, end)
    if brackets > depth_max and _depth(text[begin:end]) > depth_max:
        raise NotAcceptedError("nested too deeply")
    return value


def _depth(value: str) -> int:
    deepest = depth = 0
    for bracket in BRACKET.findall(TEXT.sub("", value)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _no_number(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is no number")


DECODER = json.JSONDecoder(
    object_pairs_hook=Members, parse_int=Number, parse_float=Number, parse_constant=_no_number
)


# What each kind of field makes of a value, given what it was before


def _text(value: Any, old: str) -> str:
    if value is None:
        return old
    if not isinstance(value, str):
        raise NotAcceptedError("text is expected")
    return HALF_A_PAIR.sub("\ufffd", value)


def _int64(value: Any, old: int) -> int:
    return old if value is None else _whole(value, INT64)


def _whole(value: Any, allowed: range) -> int:
    literal = value.literal if isinstance(value, Number) else ""
    if not WHOLE.fullmatch(literal) or len(literal) > WHOLE_DIGITS_MAX or int(literal) not in allowed:
        raise NotAcceptedError("a whole number in range is expected")
    return int(literal)


def _bytes(value: Any, _: bytes) -> bytes:
    if value is None:
        return b""
    if isinstance(value, Members) or not isinstance(value, (str, list)):
        raise NotAcceptedError("bytes are expected")
    if isinstance(value, list):
        return bytes(0 if each is None else _whole(each, BYTE) for each in value)
    return decode_base64(value)


def decode_base64(text: str) -> bytes:
    """Standard alphabet, padded; line ends anywhere do not count."""
    packed = text.replace("\r", "").replace("\n", "")
    if not BASE64.fullmatch(packed):
        raise NotAcceptedError("not base64")
    return b64decode(packed)


def _number_text(value: Any, old: str) -> str:
    """json.Number: a number, or a text that holds one."""
    if value is None:
        return old
    literal = value.literal if isinstance(value, Number) else value
    if not isinstance(literal, str) or not NUMBER.fullmatch(literal):
        raise NotAcceptedError("a number is expected")
    return literal


def _state(value: Any, old: State) -> State:
    return old if value is None else _fill(old, value, STATE)


def _max_price(value: Any, old: MaxPrice | None) -> MaxPrice | None:
    return None if value is None else _fill(old or MaxPrice(), value, MAX_PRICE)


def _fill[T](target: T, members: Any, fields: Mapping[str, tuple[str, Read]]) -> T:
    if not isinstance(members, Members):
        raise NotAcceptedError("an object is expected")
    for name, value in members:
        if (found := fields.get(fold(name))) is not None:
            attribute, read = found
            setattr(target, attribute, read(value, getattr(target, attribute)))
    return target


STATE: dict[str, tuple[str, Read]] = {"state": ("state", _bytes), "sig": ("sig", _bytes)}
MAX_PRICE: dict[str, tuple[str, Read]] = {
    "price": ("price", _number_text),
    "currency": ("currency", _text),
    "unit": ("unit", _text),
}
REQUEST: dict[str, tuple[str, Read]] = {
    "state": ("state", _state),
    "orchestrator": ("orchestrator", _bytes),
    "manifestid": ("manifest_id", _text),
    "app": ("app", _text),
    "inpixels": ("in_pixels", _int64),
    "type": ("job_type", _text),
    "maxprice": ("max_price", _max_price),
    "capabilities": ("capabilities", _bytes),
}
