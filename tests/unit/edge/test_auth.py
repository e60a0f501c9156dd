import hashlib
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from contracts import api_keys as keys
from contracts.accounts import Identity
from services.edge.auth import (
    ASKS,
    AccountHeld,
    Administrator,
    Authenticator,
    KeyRefused,
    NotReadyError,
    TooMany,
    UnknownKey,
)
from services.edge.tokens import SessionTokens, TokenHolder
from shared.bus import ServiceUnavailableError
from shared.clock import SetClock

pytestmark = pytest.mark.anyio

PEPPER = b"a pepper of thirty-two characters"
NOW = datetime(2031, 5, 17, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
type Status = Literal["active", "revoked", "suspended"]


class FakeBucket:
    def __init__(self) -> None:
        self.ready = True
        self.entries: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)


class FakeAccounts:
    """What accounts answers when the bucket does not know a key."""

    def __init__(self) -> None:
        self.identities: dict[str, Identity] = {}
        self.asked: list[str] = []
        self.down = False

    async def find(self, key_id: str) -> Identity | None:
        self.asked.append(key_id)
        if self.down:
            raise ServiceUnavailableError("nobody answers")
        return self.identities.get(key_id)


@pytest.fixture
def bucket() -> FakeBucket:
    return FakeBucket()


@pytest.fixture
def accounts() -> FakeAccounts:
    return FakeAccounts()


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def tokens(clock: SetClock) -> SessionTokens:
    return SessionTokens([b"t" * 32], issuer="https://pay.example", clock=clock)


@pytest.fixture
def authenticator(
    bucket: FakeBucket, accounts: FakeAccounts, clock: SetClock, tokens: SessionTokens
) -> Authenticator:
    administrators = frozenset(hashlib.sha256(word).hexdigest() for word in (b"old-admin", b"new-admin"))
    return Authenticator(
        bucket=bucket,
        find=accounts.find,
        pepper=PEPPER,
        clock=clock,
        administrators=administrators,
        tokens=tokens,
    )


def identity_of(key: keys.Key, status: Status = "active", user_id: str | None = None) -> Identity:
    return Identity(
        key_id=key.key_id,
        account_id="acme",
        user_id=user_id,
        secret_hash=key.hash(PEPPER),
        status=status,
    )


def put(bucket: FakeBucket, key: keys.Key, status: Status = "active", user_id: str | None = None) -> None:
    bucket.entries[key.key_id] = identity_of(key, status, user_id).model_dump_json().encode()


def session(tokens: SessionTokens, key: keys.Key, account_id: str = "acme") -> bytes:
    made = tokens.make(account_id=account_id, user_id="ann", key_id=key.key_id, lifetime=HOUR, limited=False)
    return f"Bearer {made.text}".encode()


def bearer(key: keys.Key) -> bytes:
    return f"Bearer {key.text}".encode()


async def test_a_known_key_is_answered_without_asking(
    authenticator: Authenticator, bucket: FakeBucket, accounts: FakeAccounts
) -> None:
    key = keys.make()
    put(bucket, key)

    first = await authenticator.authenticate(bearer(key))
    again = await authenticator.authenticate(bearer(key))

    assert again is first
    assert first.account_id == "acme"
    assert accounts.asked == []


async def test_the_scheme_is_read_whatever_its_case(authenticator: Authenticator, bucket: FakeBucket) -> None:
    key = keys.make()
    put(bucket, key)

    assert await authenticator.authenticate(b"bEARER  " + key.text.encode())


@pytest.mark.parametrize("change", ["revoked", "suspended"])
async def test_a_change_in_the_bucket_acts_on_the_next_request(
    authenticator: Authenticator, bucket: FakeBucket, change: Status
) -> None:
    key = keys.make()
    put(bucket, key)
    await authenticator.authenticate(bearer(key))

    put(bucket, key, change)

    with pytest.raises(KeyRefused if change == "revoked" else AccountHeld):
        await authenticator.authenticate(bearer(key))


async def test_a_right_id_with_a_wrong_secret_is_refused(
    authenticator: Authenticator, bucket: FakeBucket
) -> None:
    key = keys.make()
    put(bucket, key)
    forged = f"lpch_{key.key_id}_" + "x" * 32
    forged += keys._checksum(forged)  # noqa: SLF001 (what a forger would do)

    with pytest.raises(KeyRefused):
        await authenticator.authenticate(f"Bearer {forged}".encode())


@pytest.mark.parametrize("header", [None, b"", b"Bearer", b"Bearer lpch_x", b"Basic abc", b"Bearer \xff"])
async def test_what_is_no_key_is_refused_without_asking_even_when_not_ready(
    authenticator: Authenticator, bucket: FakeBucket, accounts: FakeAccounts, header: bytes | None
) -> None:
    bucket.ready = False

    with pytest.raises(KeyRefused):
        await authenticator.authenticate(header)
    assert accounts.asked == []


async def test_an_unknown_key_is_asked_for_once_before_it_is_refused(
    authenticator: Authenticator, accounts: FakeAccounts
) -> None:
    key = keys.make()

    for _ in range(3):
        with pytest.raises(KeyRefused):
            await authenticator.authenticate(bearer(key))

    assert accounts.asked == [key.key_id]


async def test_a_key_that_the_bucket_has_not_yet_is_found_at_accounts(
    authenticator: Authenticator, accounts: FakeAccounts
) -> None:
    key = keys.make()
    accounts.identities[key.key_id] = identity_of(key)

    assert (await authenticator.authenticate(bearer(key))).account_id == "acme"


async def test_made_up_keys_do_not_flood_accounts(
    authenticator: Authenticator, accounts: FakeAccounts
) -> None:
    unanswerable = 0
    for _ in range(200):
        try:
            await authenticator.authenticate(bearer(keys.make()))
        except NotReadyError:
            unanswerable += 1
        except KeyRefused:
            continue

    assert len(accounts.asked) <= ASKS.burst + 5
    assert unanswerable + len(accounts.asked) == 200


async def test_it_is_never_the_clients_fault_that_we_are_not_ready(
    authenticator: Authenticator, bucket: FakeBucket, accounts: FakeAccounts
) -> None:
    key = keys.make()
    put(bucket, key)
    await authenticator.authenticate(bearer(key))
    bucket.ready = False

    with pytest.raises(NotReadyError):
        await authenticator.authenticate(bearer(key))

    bucket.ready = True
    accounts.down = True
    with pytest.raises(NotReadyError):
        await authenticator.authenticate(bearer(keys.make()))


async def test_what_may_not_be_asked_is_neither_asked_nor_called_unknown(
    authenticator: Authenticator, bucket: FakeBucket, accounts: FakeAccounts
) -> None:
    known = keys.make()
    put(bucket, known)

    assert await authenticator.authenticate(bearer(known), may_ask=False)
    with pytest.raises(TooMany):
        await authenticator.authenticate(bearer(keys.make()), may_ask=False)
    assert accounts.asked == []


@pytest.mark.parametrize("word", [b"old-admin", b"new-admin"])
async def test_an_administrator_is_known_by_either_key_and_named_without_it(
    authenticator: Authenticator, word: bytes
) -> None:
    digest = hashlib.sha256(word).hexdigest()

    assert authenticator.find_administrator(b"Bearer " + word) == Administrator(f"admin:{digest[:8]}")
    assert authenticator.find_administrator(b"Bearer " + word + b"x") is None
    assert authenticator.find_administrator(None) is None
    with pytest.raises(UnknownKey):
        await authenticator.authenticate(b"Bearer " + word)


async def test_a_session_token_is_its_users_and_its_keys(
    authenticator: Authenticator, bucket: FakeBucket, tokens: SessionTokens
) -> None:
    key = keys.make()
    put(bucket, key)
    header = session(tokens, key)

    holder = await authenticator.authenticate(header)

    assert isinstance(holder, TokenHolder)
    assert (holder.account_id, holder.user_id, holder.key_id) == ("acme", "ann", key.key_id)
    assert authenticator.recall(header) is holder


@pytest.mark.parametrize("change", ["revoked", "suspended"])
async def test_a_session_token_stops_with_its_key(
    authenticator: Authenticator, bucket: FakeBucket, tokens: SessionTokens, change: Status
) -> None:
    key = keys.make()
    put(bucket, key)
    header = session(tokens, key)
    await authenticator.authenticate(header)

    put(bucket, key, change)

    with pytest.raises(KeyRefused if change == "revoked" else AccountHeld):
        await authenticator.authenticate(header)


async def test_a_session_token_ends_though_it_was_known_by_heart(
    authenticator: Authenticator, bucket: FakeBucket, tokens: SessionTokens, clock: SetClock
) -> None:
    key = keys.make()
    put(bucket, key)
    header = session(tokens, key)
    await authenticator.authenticate(header)

    clock.advance(HOUR)

    assert authenticator.recall(header) is None
    with pytest.raises(UnknownKey):
        await authenticator.authenticate(header)


async def test_a_session_token_of_another_account_or_user_than_its_key_is_refused(
    authenticator: Authenticator, bucket: FakeBucket, tokens: SessionTokens
) -> None:
    key, of_ben = keys.make(), keys.make()
    put(bucket, key)
    put(bucket, of_ben, user_id="ben")

    for header in (session(tokens, key, "other"), session(tokens, of_ben)):
        with pytest.raises(UnknownKey):
            await authenticator.authenticate(header)


async def test_without_keys_for_them_no_session_token_is_taken(
    bucket: FakeBucket, accounts: FakeAccounts, tokens: SessionTokens, clock: SetClock
) -> None:
    key = keys.make()
    put(bucket, key)
    without = Authenticator(bucket=bucket, find=accounts.find, pepper=PEPPER, clock=clock)

    with pytest.raises(UnknownKey):
        await without.authenticate(session(tokens, key))
