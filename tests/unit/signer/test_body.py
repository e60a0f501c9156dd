"""The body of a payment request, read as Go's encoding/json reads it (protocol §1, §14)."""

import json
from base64 import b64decode, b64encode
from fractions import Fraction
from typing import Any

import pytest

from services.signer.parsing import MaxPrice, parse_body, positive_decimal, read_capabilities
from services.signer.refusal import BadRequestError
from tests.unit.signer.client import Signer

RAW = bytes(range(256))
RAW_TEXT = b64encode(RAW).decode()


def fields(**content: Any) -> str:
    return json.dumps(content)


@pytest.mark.parametrize("key", ["ManifestID", "manifestid", "MANIFESTID", "manifestId", "mANIFESTID"])
def test_keys_match_whatever_their_case(key: str) -> None:
    assert parse_body(json.dumps({key: "abc"})).manifest_id == "abc"


def test_two_letters_beyond_ascii_are_folded_as_go_folds_them() -> None:
    assert parse_body('{"\u017ftate": {"\u017fig": "AQ=="}}').state_sig == b"\1"
    assert parse_body('{"app\u0130": "x", "\u212aind": 1}').app == ""


def test_null_is_as_good_as_absent() -> None:
    names = ("state", "orchestrator", "ManifestID", "app", "inPixels", "type", "maxPrice", "capabilities")

    assert parse_body(json.dumps(dict.fromkeys(names))) == parse_body("{}") == parse_body("null")


def test_the_empty_state_of_a_go_gateway_is_none() -> None:
    assert not parse_body('{"state": {"State": null, "Sig": null}}').has_state
    assert parse_body('{"state": {"State": "", "Sig": "AQ=="}}').has_state


@pytest.mark.parametrize("rest", ["garbage", " {", "}", "\n[1]", '{"app": "other"}', " 7"])
def test_what_follows_the_first_value_is_not_looked_at(rest: str) -> None:
    assert parse_body(' {"app": "one", "maxPrice": {"price": 1.50}}' + rest) == parse_body(
        '{"app": "one", "maxPrice": {"price": 1.50}}'
    )


def test_bytes_are_base64_with_line_breaks_or_an_array_of_numbers() -> None:
    broken = "\r\n".join(RAW_TEXT[start : start + 7] for start in range(0, len(RAW_TEXT), 7))

    for form in (RAW_TEXT, broken, list(RAW)):
        assert parse_body(fields(orchestrator=form)).orchestrator == RAW
    assert parse_body(fields(orchestrator=[1, None, 2])).orchestrator == b"\1\0\2"


def test_unknown_fields_are_ignored() -> None:
    unknown = '{"capability": "x", "nested": {"a": [1e400, -0.5]}, "digits": ' + "9" * 5000 + "}"

    assert parse_body(unknown) == parse_body("{}")


def test_a_name_that_comes_again_is_read_over_what_there_is() -> None:
    assert parse_body('{"app": "a", "APP": "b"}').app == "b"
    assert parse_body('{"app": "a", "app": null}').app == "a"
    assert parse_body('{"orchestrator": "AQ==", "orchestrator": null}').orchestrator == b""
    merged = parse_body('{"state": {"State": "AQ=="}, "state": null, "State": {"Sig": "Ag=="}}')
    assert (merged.state, merged.state_sig) == (b"\1", b"\2")
    both = parse_body('{"maxPrice": {"price": 1}, "maxPrice": {"unit": "u"}}').max_price
    assert both == MaxPrice("1", "", "u")
    assert parse_body('{"maxPrice": {"price": 1}, "maxPrice": null}').max_price is None


def test_half_a_surrogate_pair_is_gos_replacement_character() -> None:
    assert parse_body('{"ManifestID": "a\\ud800\\udc00\\ud800b"}').manifest_id == "a\U00010000\ufffdb"


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63)])
def test_whole_numbers_have_64_bits(number: int) -> None:
    assert parse_body(fields(inPixels=number)).in_pixels == number


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("1.012e+16", "1.012e+16"),
        ("0.1", "0.1"),
        ("12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567890"),
        ('"7.50"', "7.50"),
        ("9", "9"),
        ('null, "unit": "a"', ""),
    ],
)
def test_a_price_keeps_the_digits_it_was_written_with(written: str, kept: str) -> None:
    asked = parse_body(f'{{"maxPrice": {{"price": {written}, "currency": " WEI"}}}}').max_price

    assert asked is not None
    assert (asked.price, asked.currency) == (kept, "wei")


def test_an_empty_max_price_is_one() -> None:
    assert parse_body('{"maxPrice": {}}').max_price == MaxPrice("", "", "")


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("1.012e+16", 10_120_000_000_000_000),
        ("0.5", Fraction(1, 2)),
        ("1e-60", Fraction(1, 10**60)),
        ("1E060", 10**60),
        ("0", None),
        ("-1", None),
        ("", None),
        ("1e61", None),
        ("1e999999999", None),
        ("1e-999999999999", None),
        ("0e5", None),
        ("9" * 81, None),
    ],
)
def test_prices_are_exact_and_bounded(number: str, value: Fraction | None) -> None:
    assert positive_decimal(number) == value


def test_capabilities_have_to_be_readable() -> None:
    asked = read_capabilities(bytes.fromhex("0a0101"))

    assert asked is not None
    assert list(asked.bitstring) == [1]
    assert read_capabilities(b"") is None
    with pytest.raises(BadRequestError, match="capabilities"):
        read_capabilities(b"\xff")


@pytest.mark.parametrize(
    "raw",
    [
        "CgIBABoLCgdtb2RlbC1iEgAIIxABKhcKAjAuEhEIIxINCgsKB21vZGVsLWIaAA==",
        "CgIBABoECCMQASoXCgIwLhIRCCMSDQoLCgdtb2RlbC1hEgAKAgEAGgQIIxABKhcKAjAuEhEIIxINCgsaB21vZGVsLWESAA==",
    ],
)
def test_an_entry_that_go_would_read_otherwise_is_refused(raw: str) -> None:
    with pytest.raises(BadRequestError, match="an entry has unknown fields"):
        read_capabilities(b64decode(raw))


def test_unknown_fields_elsewhere_are_passed_on() -> None:
    assert read_capabilities(bytes.fromhex("0a0101" + "a20601ff")) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ('{"app": NaN}', "not JSON"),
        ("[]", "JSON object"),
        ("7 {}", "JSON object"),
        ('{"orchestrator": 5}', "orchestrator must be base64"),
        ('{"orchestrator": {}}', "orchestrator must be base64"),
        ('{"orchestrator": [256]}', "orchestrator must be an array of numbers up to 255"),
        ('{"orchestrator": [1.0]}', "orchestrator must be base64 text, or an array of numbers"),
        ('{"orchestrator": [true]}', "orchestrator must be base64 text, or an array of numbers"),
        ('{"orchestrator": "!"}', "orchestrator is not base64"),
        ('{"orchestrator": "QQ"}', "orchestrator is not base64"),
        ('{"orchestrator": "Q Q="}', "orchestrator is not base64"),
        ('{"state": 1}', "state must be an object"),
        ('{"state": {"State": 1}}', "state.State must be base64"),
        ('{"state": {"sig": "?"}}', "state.Sig is not base64"),
        ('{"inPixels": 1.0}', "inPixels must be a whole number"),
        ('{"inPixels": 1e3}', "inPixels must be a whole number"),
        ('{"inPixels": "1"}', "inPixels must be a whole number"),
        ('{"inPixels": true}', "inPixels must be a whole number"),
        ('{"inPixels": 9223372036854775808}', "inPixels must be a whole number"),
        ('{"maxPrice": []}', "maxPrice must be an object"),
        ('{"maxPrice": {"price": []}}', "maxPrice.price must be a number"),
        ('{"maxPrice": {"price": true}}', "maxPrice.price must be a number"),
        ('{"maxPrice": {"price": ""}}', "maxPrice.price is not a number"),
        ('{"maxPrice": {"price": "1_0"}}', "maxPrice.price is not a number"),
        ('{"maxPrice": {"price": "01"}}', "maxPrice.price is not a number"),
        ('{"maxPrice": {"price": " 1"}}', "maxPrice.price is not a number"),
        ('{"maxPrice": {"price": "0x1"}}', "maxPrice.price is not a number"),
        ('{"maxPrice": {"price": "\u0661"}}', "maxPrice.price is not a number"),
        ('{"maxPrice": {"unit": 1}}', "maxPrice.unit must be a string"),
        ('{"ManifestID": {}}', "ManifestID must be a string"),
        ('{"ManifestID": "' + "m" * 101 + '"}', "ManifestID is longer than 100"),
        ('{"ManifestID": "' + "\u00e9" * 51 + '"}', "ManifestID is longer than 100 bytes"),
        ('{"type": ["live"]}', "type must be a string"),
        ('{"capabilities": "?"}', "capabilities is not base64"),
        ('{"app": "' + "a" * 257 + '"}', "app is longer than 256"),
        ('{"app": "' + "\u00e9" * 200 + '"}', "at most 256 bytes"),
        ('{"app": "a\\u0000"}', "app must be printable"),
        ('{"x": ' + "[" * 20 + "]" * 20 + "}", "nested deeper than 20"),
        ("[" * 30_000, "not JSON"),
        ('{"orchestrator": "AAAA="}', "orchestrator is not base64"),
        ('{"inPixels": 1.0, "inPixels": 7}', "inPixels must be a whole number"),
        ('{"app": 1e3, "APP": "a"}', "app must be a string"),
        ('{"state": "x", "state": {}}', "state must be an object"),
        ('{"maxPrice": {"price": "x", "price": 1}}', "maxPrice.price is not a number"),
        ('{"orchestrator": "AAAA===="}', "orchestrator is not base64"),
        ('{"inPixels": ' + "9" * 5000 + "}", "inPixels must be a whole number"),
    ],
)
def test_an_unreadable_body_is_400_by_name_and_stores_nothing(
    signer: Signer, text: str, message: str
) -> None:
    refusal = signer.refused(text)

    assert refusal.status == 400
    assert message in str(refusal)
    assert signer.stored() == 0


def test_twenty_levels_may_be_nested(signer: Signer) -> None:
    refusal = signer.refused('{"x": ' + "[" * 19 + "]" * 19 + "}")

    assert str(refusal) == "missing orchestrator"
