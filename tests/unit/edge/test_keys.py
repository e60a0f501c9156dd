import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import api_keys as keys

PEPPER = b"a pepper of thirty-two characters"


def test_a_key_is_read_as_it_was_made() -> None:
    key = keys.make()

    assert keys.parse(key.text) == key
    assert key.text.startswith(f"lpch_{key.key_id}_")
    assert len(key.text) == len("lpch_") + 12 + 1 + 32 + 6


def test_two_keys_share_nothing() -> None:
    first, second = keys.make(), keys.make()

    assert first.key_id != second.key_id
    assert first.hash(PEPPER) != second.hash(PEPPER)


@given(st.integers(0, 55), st.sampled_from(keys.ALPHABET + "_-. é"))
def test_one_wrong_character_is_noticed(position: int, character: str) -> None:
    text = "lpch_0123456789AB_" + "k" * 32
    text += keys._checksum(text)  # noqa: SLF001 (a fixed key, so that a failure can be repeated)
    mistyped = text[:position] + character + text[position + 1 :]

    assert (keys.parse(mistyped) is None) == (mistyped != text)


@pytest.mark.parametrize("text", ["", "lpch_", "lpch_x_y", " " * 56, "lpch_" + "a" * 10_000])
def test_what_is_no_key_is_none(text: str) -> None:
    assert keys.parse(text) is None


def test_the_hash_depends_on_the_pepper_and_the_whole_key() -> None:
    key = keys.make()

    assert key.hash(PEPPER) != key.hash(PEPPER + b"!")
    assert len(key.hash(PEPPER)) == 64
    assert key.text not in repr(key)


def test_the_official_sdk_reads_the_token() -> None:
    from livepeer_gateway.token import parse_token  # noqa: PLC0415 (slow)

    key = keys.make()
    token = keys.sdk_token("https://pay.example.org", key.text)

    parsed = parse_token(token)
    assert parsed["signer"] == "https://pay.example.org"
    assert parsed["discovery"] == "https://pay.example.org/discover-orchestrators"
    assert parsed["signer_headers"] == parsed["discovery_headers"]
    assert parsed["signer_headers"] == {"Authorization": f"Bearer {key.text}"}
    assert json.loads(b64decode(token, validate=True))["signer"] == "https://pay.example.org"
