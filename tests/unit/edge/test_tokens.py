"""What is a session token, and what is none."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.tokens import AUDIENCE, SessionTokens
from shared.clock import SetClock

NOW = datetime(2031, 5, 17, 8, tzinfo=UTC)
ISSUER = "https://pay.example"
FIRST, SECOND = b"first key of thirty-two bytes...", b"second key of thirty-two bytes.."
KEY_ID = "0123456789AB"


def tokens(*keys: bytes, now: datetime = NOW, issuer: str = ISSUER) -> SessionTokens:
    return SessionTokens(keys or (FIRST,), issuer=issuer, clock=SetClock(now))


def make(by: SessionTokens, *, user_id: str = "ann", limited: bool = False) -> str:
    return by.make(
        account_id="acme", user_id=user_id, key_id=KEY_ID, lifetime=timedelta(hours=1), limited=limited
    ).text


def header_of(text: str) -> dict[str, Any]:
    return dict(jwt.get_unverified_header(text))


def claims_of(text: str) -> dict[str, Any]:
    part = text.split(".")[1]
    return dict(json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def sealed(claims: dict[str, Any], **options: Any) -> str:
    """What somebody with our key, or with none, could make."""
    header = {"kid": header_of(make(tokens()))["kid"], **options.pop("header", {})}
    return jwt.encode(claims, options.get("key", FIRST), options.get("algorithm", "HS256"), headers=header)


@given(st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True), st.booleans())
def test_a_token_is_read_as_it_was_made(user_id: str, limited: bool) -> None:  # noqa: FBT001
    read = tokens().read(make(tokens(), user_id=user_id, limited=limited))

    assert read is not None
    assert (read.account_id, read.user_id, read.key_id, read.limited) == ("acme", user_id, KEY_ID, limited)
    assert read.expires_at == NOW + timedelta(hours=1)


def test_it_names_nothing_but_whose_it_is() -> None:
    made = tokens().make(
        account_id="acme", user_id="ann", key_id=KEY_ID, lifetime=timedelta(hours=1), limited=True
    )

    assert claims_of(made.text) == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "acme:ann",
        "client_id": KEY_ID,
        "jti": made.token_id,
        "iat": int(NOW.timestamp()),
        "nbf": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 3600,
        "limited": True,
    }
    assert header_of(made.text)["alg"] == "HS256"
    assert made.text not in repr(made)


def test_the_first_key_signs_and_all_verify() -> None:
    old, rotated, new = tokens(FIRST), tokens(SECOND, FIRST), tokens(SECOND)

    assert rotated.read(make(old)) is not None
    assert new.read(make(rotated)) is not None
    assert new.read(make(old)) is None


@pytest.mark.parametrize(
    ("later", "is_valid"),
    [
        (timedelta(0), True),
        (timedelta(seconds=-5), True),  # another edge's clock is ahead of ours
        (timedelta(seconds=-6), False),
        (timedelta(seconds=3599), True),
        (timedelta(seconds=3600), False),
    ],
)
def test_a_token_is_valid_from_its_begin_to_its_end(later: timedelta, is_valid: bool) -> None:  # noqa: FBT001
    assert (tokens(now=NOW + later).read(make(tokens())) is not None) == is_valid


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "somebody-else"},
        {"aud": None},
        {"iss": "https://other.example"},
        {"sub": "acme"},
        {"sub": ":ann"},
        {"sub": "acme:"},
        {"sub": "acme:an n"},
        {"sub": 7},
        {"client_id": "short"},
        {"jti": None},
        {"exp": "9999999999"},
        {"exp": 9e9},
        {"exp": True},
        {"exp": 10**30},
        {"nbf": -(10**30)},
        {"limited": 1},
        {"limited": None},
    ],
)
def test_claims_that_are_not_ours_are_no_token_even_under_our_key(claims: dict[str, Any]) -> None:
    good = claims_of(make(tokens()))
    assert tokens().read(sealed(good)) is not None

    changed = {name: value for name, value in (good | claims).items() if value is not None}

    try:
        text = sealed(changed)
    except TypeError:  # the library itself refuses to make it
        text = jwt.api_jws.encode(json.dumps(changed).encode(), FIRST, headers=header_of(make(tokens())))
    assert tokens().read(text) is None


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "client_id", "jti", "iat", "nbf", "exp", "limited"])
def test_no_claim_may_be_missing(name: str) -> None:
    claims = claims_of(make(tokens()))
    del claims[name]

    assert tokens().read(sealed(claims)) is None


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"key": SECOND},
        {"algorithm": "HS512"},
        {"algorithm": "HS384"},
        {"header": {"kid": "0" * 16}},
        {"header": {"kid": 7}},
        {"header": {"kid": ["a"]}},
        {"header": {"crit": ["exp"]}},
    ],
)
def test_another_key_or_algorithm_is_no_token(options: dict[str, Any]) -> None:
    good = make(tokens())
    try:
        text = sealed(claims_of(good), **options)
    except (TypeError, jwt.PyJWTError):  # the library itself refuses to make it
        header = {"alg": "HS256", **header_of(good), **options["header"]}
        text = ".".join([_part(header), *good.split(".")[1:]])

    assert tokens().read(text) is None


@pytest.mark.parametrize("algorithm", ["none", "None", "", "RS256", "HS256 "])
def test_an_algorithm_that_a_token_chooses_is_not_believed(algorithm: str) -> None:
    header, claims, signature = make(tokens()).split(".")
    told = {**json.loads(urlsafe_b64decode(header + "==")), "alg": algorithm}

    for end in ("", signature):
        assert tokens().read(f"{_part(told)}.{claims}.{end}") is None


def test_a_token_that_is_too_long_is_none() -> None:
    long = make(tokens(issuer="https://" + "a" * 2000), user_id="ann")

    assert len(long) > 2048
    assert tokens(issuer="https://" + "a" * 2000).read(long) is None


@given(st.data())
def test_a_token_that_was_changed_is_none(data: st.DataObject) -> None:
    text = make(tokens())
    at = data.draw(st.integers(0, len(text) - 1))
    cut = data.draw(st.booleans())
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = text[:at] if cut else text[:at] + other + text[at + 1 :]

    read = tokens().read(changed)

    # The last character of base64 has bits that mean nothing.
    assert read is None or changed == text or at == len(text) - 1
    assert read is None or (read.account_id, read.user_id) == ("acme", "ann")


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=200))
def test_anything_else_is_none(text: str) -> None:
    assert tokens().read(text) is None
    assert tokens().read(f"eyJ{text}") is None


@given(st.binary(max_size=80))
def test_a_header_or_claims_of_anything_are_none(content: bytes) -> None:
    part = urlsafe_b64encode(content).decode().rstrip("=")
    header, claims, signature = make(tokens()).split(".")

    assert tokens().read(f"{part}.{claims}.{signature}") is None
    assert tokens().read(f"{header}.{part}.{signature}") is None


@pytest.mark.parametrize("content", ["[]", "1", '"x"', "null", "[" * 900, '{"kid":' * 200])
def test_json_that_is_no_object_is_none(content: str) -> None:
    part = urlsafe_b64encode(content.encode()).decode().rstrip("=")
    header, claims, signature = make(tokens()).split(".")
    signed = jwt.api_jws.encode(content.encode(), FIRST, headers=json.loads(urlsafe_b64decode(header + "==")))

    assert tokens().read(f"{part}.{claims}.{signature}") is None
    assert tokens().read(signed) is None


def _part(content: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
