"""The predicate itself: what it lets through, what it does not, and that it stands apart from the signer."""

import ast
import json
from base64 import b64decode, b64encode
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.predicate import Allowed, Chain, Released, Terms, check
from tests.fuzz.quoted import CERTAIN, Forbidden
from tests.fuzz.released import NotAsQuotedError, check_answer
from tests.fuzz.wire_format import NotProtobufError, read, write, write_message

APART = ("predicate.py", "quoted.py", "released.py", "wire_format.py", "go_json.py")
VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())
NOW = 1_800_000_000
CHAIN = Chain(100, 7, b"r" * 32, b"p" * 32, deposit=10**18, reserve=10**18)
QUOTE: dict[str, Any] = {
    "recipient": b"\x08" * 20,
    "face_value": b"\x03\xe8",
    "win_prob": (CERTAIN // 10).to_bytes(32).lstrip(b"\0"),
    "rand_hash": b"h" * 32,
    "seed": b"\x4d",
    "expiration_block": b"\x8c",
    "round": 7,
    "round_hash": b"r" * 32,
    "price": 10,
    "pixels": 1,
    "address": b"\x07" * 20,
    "expiration": NOW + 1800,
}


def quote(**changes: Any) -> bytes:
    """An OrchestratorInfo, written here field by field."""
    of = {**QUOTE, **changes}
    params = [
        (1, of["recipient"]),
        (2, of["face_value"]),
        (3, of["win_prob"]),
        (4, of["rand_hash"]),
        (5, of["seed"]),
        (6, of["expiration_block"]),
    ]
    made_at = write_message(7, write([(1, of["round"]), (2, of["round_hash"])]))
    return b"".join(
        (
            write_message(2, write(params) + made_at),
            write_message(3, write([(1, of["price"]), (2, of["pixels"])])),
            write([(4, of["address"])]),
            write_message(6, write([(1, b"token"), (2, b"1a2b3c4d"), (3, of["expiration"])])),
        )
    )


def body(info: bytes | None = None, **members: Any) -> bytes:
    packed = b64encode(quote() if info is None else info).decode()
    return json.dumps({"orchestrator": packed, "type": "live", "ManifestID": "m", **members}).encode()


def verdict(text: bytes, terms: Terms | None = None) -> str:
    try:
        check(text, terms or Terms(), CHAIN, NOW, Released())
    except Forbidden as forbidden:
        return forbidden.reason
    return "allowed"


@pytest.mark.parametrize("name", APART)
def test_it_stands_apart_from_what_it_checks(name: str) -> None:
    tree = ast.parse((Path(__file__).parent / name).read_text())
    names = [
        imported
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for imported in ([node.module or ""] if isinstance(node, ast.ImportFrom) else _names(node))
    ]

    assert not [one for one in names if one.split(".")[0] in {"services", "contracts", "shared", "google"}]


def _names(node: ast.Import) -> list[str]:
    return [alias.name for alias in node.names]


@pytest.mark.parametrize(
    "text",
    [
        body(),
        b" \r\n" + body() + b"}} and more",
        body().replace(b'"orchestrator"', b'"ORCHE\\u0073TRATOR"'),
        body().replace(b"orchestrator", "orche\u017ftrator".encode()),
        body(orchestrator=list(quote())),
        body(state=None, app=None, maxPrice=None, capabilities=None, inPixels=None),
        body(maxPrice={"price": "1.0e1", "currency": " WEI ", "unit": "seconds"}),
        body(type="", inPixels=10),
        body(type="fixed"),
        body(quote(round=6, round_hash=b"p" * 32)),
        body(quote(expiration_block=b"\x96")),
        body(quote(expiration=NOW + 180)),
        body(quote() + write_message(3, write([(1, 7)]))),  # the later price wins, and they merge
        body(quote() + b"\xfa\x01\x03abc" + b"\x0b\x13\x14\x0c"),  # unknown: a field, and nested groups
    ],
)
def test_what_the_documents_allow_is_allowed(text: bytes) -> None:
    assert verdict(text) == "allowed"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (body() + b" " * 70_000, "body over 64 KiB"),
        (b"\xef\xbb\xbf" + body(), "not JSON"),
        (body().replace(b"{", b'{"a":NaN,', 1), "not JSON"),
        (body().replace(b"{", b'{"a":' + b"[" * 20 + b"]" * 20 + b",", 1), "nested"),
        (body().replace(b"{", b'{"app":1,', 1), "text"),
        (body(orchestrator=""), "missing orchestrator"),
        (body(orchestrator="AAAA====="), "not base64"),
        (body(orchestrator=[256]), "whole number"),
        (body(b"\x12"), "orchestrator: "),
        (body(type="", inPixels=0), "missing billable"),
        (body(type="", inPixels=10).replace(b": 10", b": 1e1"), "whole number"),
        (body(type="forever"), "invalid job type"),
        (body(app="a\x1b"), "app not printable"),
        (body(app="é" * 129), "app too long"),
        (body(ManifestID="é" * 51), "ManifestID"),
        (body(state={"State": "e30=", "Sig": "AAAA"}), "invalid sig"),
        (body(capabilities="CgE="), "capabilities"),
        (body(maxPrice={"price": 9, "currency": "wei", "unit": "seconds"}), "over request maxPrice"),
        (body(maxPrice={"price": 99, "currency": "wei", "unit": "fixed"}), "maxPrice.unit"),
        (body(maxPrice={"price": "1e99999", "currency": "wei", "unit": "seconds"}), "maxPrice.price"),
        (body(quote(price=-1)), "priceInfo"),
        (body(quote(pixels=0)), "priceInfo"),
        (body(quote(recipient=b"\x08" * 21)), "not 20 bytes"),
        (body(quote(address=b"")), "not 20 bytes"),
        (body(quote(rand_hash=b"h" * 33)), "not 32 bytes"),
        (body(quote(face_value=b"\0\1")), "not minimal"),
        (body(quote(seed=b"\1" * 33)), "32 bytes"),
        (body(quote(win_prob=b"")), "not positive"),
        (body(quote(win_prob=b"\xff" * 32)), "win probability 1"),
        (body(quote(face_value=b"\xff" * 8, win_prob=b"\x7f" + b"\xff" * 31)), "EV too high"),
        (body(quote(face_value=b"\xff" * 8, win_prob=b"\1")), "face value too high"),
        (body(quote(expiration_block=b"\x65")), "expired"),
        (body(quote(expiration_block=b"\x97")), "too far ahead"),
        (body(quote(round=7, round_hash=b"p" * 32)), "round unknown"),
        (body(quote(expiration=NOW + 179)), "auth token"),
        (body(quote(price=1010)), "too many tickets"),
    ],
)
def test_what_the_documents_forbid_is_forbidden(text: bytes, reason: str) -> None:
    assert reason in verdict(text)


def test_the_operators_terms_count() -> None:
    assert verdict(body(), Terms(recipients=frozenset({b"\x09" * 20}))) == "recipient not allowed"
    assert verdict(body(), Terms(price_ceiling=Fraction(99, 10))) == "over configured maximum price"
    assert verdict(body(), Terms(price_ceiling=Fraction(10))) == "allowed"


def test_the_reader_of_protobuf_reads_what_a_library_wrote() -> None:
    info = read(b64decode(VECTORS["orchestrator_info"]["base64"]))
    params = info.message(2)

    assert params is not None
    assert len(params.data(1)) == 20
    assert len(params.data(4)) == 32


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x08" + b"\xff" * 10 + b"\1", b"\x00\1", b"\x0c", b"\x0b", b"\x0a\5a"]
)
def test_bytes_that_are_no_protobuf_are_told(data: bytes) -> None:
    with pytest.raises(NotProtobufError):
        read(data)


def test_an_answer_of_another_quote_is_told() -> None:
    allowed: Allowed = check(body(), Terms(), CHAIN, NOW, Released())

    with pytest.raises(NotAsQuotedError):
        check_answer('{"payment":"","segCreds":"","state":{}}', allowed, b"\1" * 20, Terms())
