"""Bends the JSON body of a payment request: its text, so that what is no JSON comes up too."""

import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import Error as BinasciiError
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

from tests.fuzz.mutate_quote import damage
from tests.fuzz.predicate import BODY_BYTES_MAX, DEPTH_MAX, UNIT_BY_TYPE

WRONG_VALUES = (
    *("null", "true", "false", "[]", "{}", '""', '"x"', "[null]", "[1,2,3]", '{"State":{}}', '"AA=="'),
    *("0", "-0", "1", "-1", "7", "1.0", "1.5", "1e3", "1E400", "-1e-400", "1e999999999", "1e-999999999"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("255", "256", "1" + "0" * 400, "1" * 5000, "0." + "0" * 5000 + "1", "01", "1.", ".5", "+1", "0x10"),
    *("NaN", "Infinity", "-Infinity", "nul", "undefined", "'x'", '"\\x41"', '"\\u12"', '"\\ud800"'),
    *('"\\ud83d\\ude00"', '"\\udfff\\ud800"', '"\\u0000"', '"\x00"', '"\x1f"', '"\t"', '"\x7f"', '"\ufffd"'),
    *('"\\u2028"', '"' + "x" * 256 + '"', '"' + "x" * 257 + '"', '"' + "é" * 200 + '"', '"live"', '"LIVE"'),
    *('"' + "m" * 100 + '"', '"' + "m" * 101 + '"', '"' + "m" * 104 + '"', '"' + "é" * 84 + '"'),
    *('"lv2v"', '"fixed"', '"forever"', '" live"', "/**/1", "1//", "tru", '"unfinished'),
)
PRICES = (
    *("1e30", '"1e30"', "1.012e+30", "0", "-1", "-0", "1e-40", '"-1e30"', '""', '"x"', '" 1e30"', '"1e30 "'),
    *('"0x10"', '"1/3"', '"1_0"', '"NaN"', '"Infinity"', '"٣"', "null", "true", "[1]", "1e999999999"),
    *('"1e999999999"', "1e-999999999", "1e9999", "1e99999", "9" * 5000, "1" + "0" * 60 + ".5", "1E+30"),
)
CURRENCIES = ('"WEI"', '" wei\\n"', '"usd"', '""', "null", "1", '"wei "', '"ẃei"')
UNITS = ('"SECONDS"', '" seconds "', '"fixed"', '"hour"', '"720p-pixel-seconds"', "null", "{}")
JUNK_AFTER = ("x", "{}", "]", "}", ",", "null", " \n", "\x00", "\x1f", '{"orchestrator":null}', "\ufeff", '"')
LETTERS = (
    *(("s", "\u017f"), ("s", "\\u017f"), ("S", "\u017f"), ("k", "\u212a"), ("a", "\\u0061"), ("i", "\u0131")),
    *(("i", "\u0130"), ("a", "\u0430"), ("t", "\uff54"), ("p", "\\ud800"), ("o", "o\u0301"), ("e", "e ")),
)
PIXELS = (
    *("10", "1", "0", "-5", "1.0", "1e3", "null", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775809", "18446744073709551617"),
)
NUMBERS_INSTEAD = ("256", "-1", "1.0", "1e1", '"1"', "null", "[]", "-0")


@dataclass
class Draft:
    """A body before it is written: names and values as text, in order, repeats included."""

    members: list[tuple[str, str]]
    before: str = ""
    after: str = ""
    job_type: str = "live"
    price: Fraction = Fraction(1)
    old_states: list[str] = field(default_factory=list)

    def text(self) -> str:
        inside = ",".join(f"{name}:{value}" for name, value in self.members)
        return f"{self.before}{{{inside}}}{self.after}"

    def find(self, name: str) -> int | None:
        quoted = json.dumps(name)
        return next((place for place, (here, _) in enumerate(self.members) if here == quoted), None)

    def set(self, name: str, value: str) -> None:
        """Put a value where the name is, else at the end."""
        place = self.find(name)
        if place is None:
            self.members.append((json.dumps(name), value))
        else:
            self.members[place] = (self.members[place][0], value)


type Change = Callable[[Draft, Random], None]


def mutate(draft: Draft, rng: Random) -> bytes:
    for _ in range(rng.choices((1, 2, 4), (75, 15, 10))[0]):
        rng.choice(CHANGES)(draft, rng)
    data = draft.text().encode()
    return damage(data, rng) if rng.random() < 0.1 else data


def base64_text(data: bytes) -> str:
    return json.dumps(b64encode(data).decode())


# Names


def _change_case(draft: Draft, rng: Random) -> None:
    place = rng.randrange(len(draft.members))
    name, value = draft.members[place]
    changed = "".join(rng.choice((letter.upper(), letter.lower())) for letter in name)
    draft.members[place] = (changed, value)


def _change_letters(draft: Draft, rng: Random) -> None:
    """Letters that Go's folding takes for s and k, escapes, and letters that merely look alike."""
    place = rng.randrange(len(draft.members))
    name, value = draft.members[place]
    old, new = rng.choice(LETTERS)
    draft.members[place] = (name.replace(old, new), value)


def _repeat_a_name(draft: Draft, rng: Random) -> None:
    name, value = rng.choice(draft.members)
    another = rng.choice((value, "null", rng.choice(WRONG_VALUES), rng.choice(draft.members)[1]))
    draft.members.insert(rng.randint(0, len(draft.members)), (name, another))


def _add_an_unknown_name(draft: Draft, rng: Random) -> None:
    name = rng.choice(('"capability"', '""', '"k"', '"\u212a"', '"state "', '"__proto__"', "unquoted"))
    draft.members.insert(rng.randint(0, len(draft.members)), (name, rng.choice(WRONG_VALUES)))


def _add_a_constant(draft: Draft, rng: Random) -> None:
    """What some JSON readers take for a number, under a name that nobody reads."""
    value = rng.choice(("NaN", "Infinity", "-Infinity", "[NaN]", "nan", "undefined"))
    draft.members.insert(rng.randint(0, len(draft.members)), ('"x"', value))


# Values


def _remove(draft: Draft, rng: Random) -> None:
    draft.members.pop(rng.randrange(len(draft.members)))
    if not draft.members:
        draft.members.append(('"x"', "1"))


def _set_a_wrong_value(draft: Draft, rng: Random) -> None:
    name = rng.choice(("orchestrator", "ManifestID", "app", "inPixels", "type", "maxPrice", "state"))
    draft.set(name, rng.choice(WRONG_VALUES))


def _set_pixels(draft: Draft, rng: Random) -> None:
    draft.set("inPixels", rng.choice(PIXELS))


def _set_type(draft: Draft, rng: Random) -> None:
    draft.set("type", rng.choice(('""', '"live"', '"lv2v"', '"fixed"', "null", '"Live"')))


def _set_text(draft: Draft, rng: Random) -> None:
    name = rng.choice(("app", "ManifestID"))
    draft.set(name, rng.choice([value for value in WRONG_VALUES if value.startswith('"')]))


def set_max_price(draft: Draft, rng: Random) -> None:
    """Mostly a sensible one; at the price asked, just below, or nonsense in one of its parts."""
    at_price = [f"{draft.price.numerator}", f"{max(draft.price.numerator - 1, 0)}"]
    if draft.price.denominator > 1:
        at_price = [f"{float(draft.price):.17g}"]
    price = rng.choice((*at_price, "1e30", "1.012e+30", '"1e30"', rng.choice(PRICES)))
    currency = rng.choice(CURRENCIES) if rng.random() < 0.2 else '"wei"'
    unit = json.dumps(UNIT_BY_TYPE.get(draft.job_type, "seconds"))
    parts = [
        ("price", price),
        ("currency", currency),
        ("unit", unit if rng.random() < 0.8 else rng.choice(UNITS)),
    ]
    if rng.random() < 0.1:
        parts.pop(rng.randrange(3))
    if rng.random() < 0.1:
        parts.append(rng.choice(parts))
    draft.set("maxPrice", "{" + ",".join(f'"{name}":{value}' for name, value in parts) + "}")


def set_capabilities(draft: Draft, rng: Random) -> None:
    model = rng.choice((b"model-a", b"model-b", b"\xff"))
    models = b"\x0a" + bytes([len(model) + 4]) + b"\x0a" + bytes([len(model)]) + model + b"\x12\x00"
    entry = b"\x08\x23\x12" + bytes([len(models)]) + models
    constraints = b"\x0a\x020.\x12" + bytes([len(entry)]) + entry
    whole = b"\x0a\x02\x01\x00\x1a\x04\x08\x23\x10\x01\x2a" + bytes([len(constraints)]) + constraints
    data = rng.choice((whole, whole, b"", b"\x08\x01\x08\x02", whole + whole))
    draft.set("capabilities", base64_text(damage(data, rng) if rng.random() < 0.4 else data))


def _change_state(draft: Draft, rng: Random) -> None:
    """Another state we released, two of them mixed, damaged ones, halves."""
    if not draft.old_states:
        draft.set("state", rng.choice(('{"State":null,"Sig":null}', '{"State":"e30=","Sig":""}', "{}")))
        return
    one, other = (json.loads(rng.choice(draft.old_states)) for _ in range(2))
    own = [value for _, value in draft.members if value in draft.old_states]
    if own and rng.random() < 0.6:
        one = json.loads(own[0])
    match rng.randrange(6):
        case 0:
            one = other
        case 1:
            one["Sig"] = other["Sig"]
        case 2:
            part = rng.choice(("State", "Sig"))
            one[part] = b64encode(damage(b64decode(one[part]), rng)).decode()
        case 3:
            one[rng.choice(("State", "Sig"))] = rng.choice((None, "", "e30=", 7, [], "*"))
        case 4:
            one.pop(rng.choice(("State", "Sig")))
        case _:
            one = {name.lower(): value for name, value in one.items()}
    draft.set("state", json.dumps(one))


def _rewrite_bytes(draft: Draft, rng: Random) -> None:
    """The same bytes in another form: some of the forms Go reads, some it does not."""
    place = draft.find(rng.choice(("orchestrator", "orchestrator", "capabilities")))
    if place is None:
        return
    name, value = draft.members[place]
    try:
        data = b64decode(json.loads(value), validate=True)
    except (ValueError, TypeError, BinasciiError):
        return
    draft.members[place] = (name, rng.choice(BYTE_FORMS)(data, rng))


def _as_numbers(data: bytes, rng: Random) -> str:
    numbers = [str(byte) for byte in data]
    if numbers and rng.random() < 0.5:
        numbers[rng.randrange(len(numbers))] = rng.choice(NUMBERS_INSTEAD)
    return f"[{','.join(numbers)}]"


def _in_lines(data: bytes, rng: Random) -> str:
    end = rng.choice(("\\n", "\\r\\n", "\\r", "\n", " ", "\\t", "\\u000a"))
    packed = b64encode(data).decode()
    return '"' + end.join(packed[start : start + 64] for start in range(0, len(packed), 64)) + end + '"'


def _dirty(data: bytes, rng: Random) -> str:
    """Bits after the last byte that should be zero, and padding in the wrong place."""
    packed = b64encode(data).decode()
    if packed.endswith("=") and rng.random() < 0.5:
        at = packed.index("=") - 1
        packed = packed[:at] + chr(ord(packed[at]) + 1) + packed[at + 1 :]
        return f'"{packed}"'
    return rng.choice((f'"{packed.rstrip("=")}"', f'"{packed}="', f'"{packed}===="', f'"{packed}{packed}"'))


def _with_letters_between(data: bytes, rng: Random) -> str:
    """Letters that are none of base64's, as many as leave the length a multiple of four."""
    packed = b64encode(data).decode()
    at = rng.randrange(0, len(packed) + 1, 4)
    return json.dumps(
        packed[:at] + rng.choice((" ", "-", "*", "\t", "\u0130")) * rng.choice((1, 4)) + packed[at:]
    )


BYTE_FORMS: tuple[Callable[[bytes, Random], str], ...] = (
    _as_numbers,
    _in_lines,
    _dirty,
    _with_letters_between,
    lambda data, _: json.dumps(urlsafe_b64encode(data).decode()),
    lambda data, _: '"' + b64encode(data).decode().replace("/", "\\/").replace("A", "\\u0041") + '"',
    lambda data, _: json.dumps(data.hex()),
)

# The whole


def _nest(draft: Draft, rng: Random) -> None:
    depth = rng.choice((DEPTH_MAX - 2, DEPTH_MAX - 1, DEPTH_MAX, DEPTH_MAX + 1, 200, 5000, 30_000))
    opened, closed = rng.choice((("[", "]"), ('{"a":', "}")))
    value = opened * depth + ("1" if opened != "[" else "") + closed * depth
    draft.members.insert(rng.randint(0, len(draft.members)), ('"deep"', value))


def _say_more_after(draft: Draft, rng: Random) -> None:
    draft.after = rng.choice(JUNK_AFTER)


def _begin_otherwise(draft: Draft, rng: Random) -> None:
    draft.before = rng.choice(
        ("\ufeff", " \t\r\n", "\x00", "\x0b", "\u00a0", "[", "null", "//\n", "{}", '""')
    )


def _fill_up(draft: Draft, rng: Random) -> None:
    """To the limit of a body, and one byte over it."""
    length = BODY_BYTES_MAX - len(draft.text().encode()) + rng.choice((-1, 0, 1, 5000))
    if rng.random() < 0.5:
        draft.after += " " * max(length, 0)
    else:
        draft.members.append(('"padding"', '"' + "p" * max(length - len(',"padding":""'), 0) + '"'))


CHANGES: tuple[Change, ...] = (
    *[_change_case] * 3,
    *[_change_letters] * 2,
    *[_repeat_a_name] * 2,
    _add_an_unknown_name,
    _add_a_constant,
    _remove,
    *[_set_a_wrong_value] * 4,
    *[_set_pixels] * 2,
    *[_set_type] * 2,
    *[_set_text] * 2,
    *[set_max_price] * 5,
    *[set_capabilities] * 3,
    *[_change_state] * 4,
    *[_rewrite_bytes] * 4,
    _nest,
    *[_say_more_after] * 2,
    _begin_otherwise,
    _fill_up,
)
