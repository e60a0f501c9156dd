"""Who presents this key, and may they? Answered from memory; accounts is asked of unknown keys only.

AuthenticationRefused
├── KeyRefused           401: a revoked key
│   ├── UnknownKey       401: no key, or none that we issued
│   └── KeyExpired       401
├── AccountHeld          403: the account is suspended
├── NetworkRefused       403: not from this address
├── TooMany              429: too many requests without a valid key, or too many payments
└── NotReadyError        503: we cannot tell now, which is never the client's fault
"""

import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from types import MappingProxyType
from typing import Protocol

from contracts.accounts import Identity
from services.edge.caps import Cap, Pace
from services.edge.keys import Key, parse
from services.edge.tokens import (
    TOKEN_LENGTH_MAX,
    SessionToken,
    SessionTokens,
    TokenHolder,
    holder_of,
)
from shared.bus import ServiceUnavailableError
from shared.clock import Clock

HOT_MAX = 50_000
MISSES_MAX = 10_000
MISS_SECONDS = 5.0
FOUND_SECONDS = 1.0  # the bucket has it by then
# With a fitting checksum a key can be made up: they must not flood accounts.
ASKS = Pace(per_second=20.0, burst=50.0)
NAME_DIGITS = 8
DUMMY_HASH = "0" * 64
# Only the common spelling is remembered: of the others one key has too many.
CANONICAL = b"Bearer "
BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([\x21-\x7e]{1,%d})" % TOKEN_LENGTH_MAX)
NEEDED = "a valid API key is needed: Authorization: Bearer lpch_…"

# Asks accounts; None if there is no such key. Raises ServiceUnavailableError.
type FindIdentity = Callable[[str], Awaitable[Identity | None]]


class AuthenticationRefused(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """The request goes no further."""

    status: int
    code: str
    headers: Mapping[str, str] = MappingProxyType({})


class KeyRefused(AuthenticationRefused):
    status, code = 401, "key_refused"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class UnknownKey(KeyRefused):
    def __init__(self, message: str = NEEDED) -> None:
        super().__init__(message)


class KeyExpired(KeyRefused):
    code = "key_expired"

    def __init__(self) -> None:
        super().__init__("this API key has expired")


class AccountHeld(AuthenticationRefused):
    status, code = 403, "account_suspended"


class NetworkRefused(AuthenticationRefused):
    status, code = 403, "network_not_allowed"

    def __init__(self, address: str) -> None:
        super().__init__(f"this key may not be used from {address}")


class TooMany(AuthenticationRefused):
    status, code = 429, "rate_limited"

    def __init__(self, message: str, wait_seconds: float) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, ceil(wait_seconds)))}


class NotReadyError(AuthenticationRefused):
    status, code = 503, "unavailable"


class Bucket(Protocol):
    """A copy of the `identities` bucket; an entry's bytes stay the same object until it changes."""

    ready: bool

    def get(self, key: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who runs the clearinghouse; the name tells several of them apart, and nothing of their keys."""

    name: str


class Authenticator:
    def __init__(
        self,
        *,
        bucket: Bucket,
        find: FindIdentity,
        pepper: bytes,
        clock: Clock,
        administrators: frozenset[str] = frozenset(),
        tokens: SessionTokens | None = None,
    ) -> None:
        self._bucket = bucket
        self._find = find
        self._pepper = pepper
        self._clock = clock
        self._administrators = administrators
        self._tokens = tokens
        self._hot: dict[bytes, tuple[bytes, Identity, datetime | None]] = {}
        self._asked: dict[str, tuple[float, Identity | None]] = {}
        self._asks = Cap(many_max=1)

    def recall(self, header: bytes | None) -> Identity | None:
        """Whose header this is, if it was seen before and nothing has changed since."""
        hot = self._hot.get(header) if header else None
        if hot is None or not self._bucket.ready:
            return None
        entry, identity, until = hot
        if self._bucket.get(identity.key_id) is not entry or (until and self._clock.now() >= until):
            return None
        return identity

    async def authenticate(self, header: bytes | None, *, may_ask: bool = True) -> Identity:
        """Return whose key or session token an Authorization header carries.

        Raises AuthenticationRefused; `TooMany` where accounts would be asked of a key and must not.
        """
        return self.recall(header) or await self._check(header, may_ask=may_ask)

    async def holder_of(self, key_id: str) -> Identity:
        """Return whose a key is now that was authenticated before; raise AuthenticationRefused."""
        if not self._bucket.ready:
            raise NotReadyError("identities are not loaded")
        entry = self._bucket.get(key_id)
        if entry is not None:
            identity: Identity | None = Identity.model_validate_json(entry)
        else:
            identity = await self._ask(key_id, may_ask=True)
        if identity is None:
            raise UnknownKey
        _require_active(identity)
        return identity

    def find_administrator(self, header: bytes | None) -> Administrator | None:
        match = BEARER.fullmatch(header or b"")
        digest = hashlib.sha256(match[1] if match else b"").hexdigest()
        found = False
        for known in self._administrators:
            found |= hmac.compare_digest(known, digest)
        return Administrator(f"admin:{digest[:NAME_DIGITS]}") if found and match else None

    def hash(self, key: Key) -> str:
        return key.hash(self._pepper)

    async def _check(self, header: bytes | None, *, may_ask: bool) -> Identity:
        match = BEARER.fullmatch(header or b"")
        text = match[1].decode("ascii") if match else ""
        key = parse(text)
        token = self._tokens.read(text) if self._tokens and text and not key else None
        shown = key or token
        if shown is None or header is None:
            raise UnknownKey
        if not self._bucket.ready:
            raise NotReadyError("identities are not loaded")
        entry = self._bucket.get(shown.key_id)
        if entry is not None:
            identity: Identity | None = Identity.model_validate_json(entry)
        else:
            identity = await self._ask(shown.key_id, may_ask=may_ask)
        identity = self._owner(key, identity) if key else _holder(token, identity)
        _require_active(identity)
        if entry is not None and header.startswith(CANONICAL) and not header.startswith(CANONICAL + b" "):
            self._keep_hot(header, entry, identity)
        return identity

    def _owner(self, key: Key, identity: Identity | None) -> Identity:
        # Compared on a miss as well, so that time does not tell which key ids exist.
        kept = identity.secret_hash if identity else DUMMY_HASH
        if not hmac.compare_digest(kept, self.hash(key)) or identity is None:
            raise UnknownKey("unknown API key")
        return identity

    def _keep_hot(self, header: bytes, entry: bytes, identity: Identity) -> None:
        if len(self._hot) >= HOT_MAX:
            self._hot.clear()  # they come back one by one
        until = identity.expires_at if isinstance(identity, TokenHolder) else None
        self._hot[header] = (entry, identity, until)

    async def _ask(self, key_id: str, *, may_ask: bool) -> Identity | None:
        """Ask accounts once about a key id that the bucket does not have, or not yet."""
        now = time.monotonic()
        until, identity = self._asked.get(key_id, (0.0, None))
        if now < until:
            return identity
        if not may_ask:
            raise TooMany("too many requests without a valid API key", MISS_SECONDS)
        if self._asks.take("", ASKS) > 0:
            raise NotReadyError("too many unknown keys at once")
        try:
            identity = await self._find(key_id)
        except ServiceUnavailableError as problem:
            raise NotReadyError(str(problem)) from problem
        if len(self._asked) >= MISSES_MAX:
            self._asked.clear()
        self._asked[key_id] = (now + (FOUND_SECONDS if identity else MISS_SECONDS), identity)
        return identity


def _holder(token: SessionToken | None, identity: Identity | None) -> Identity:
    holder = holder_of(token, identity) if token and identity else None
    if holder is None:
        raise UnknownKey
    return holder


def _require_active(identity: Identity) -> None:
    if identity.status == "revoked":
        raise KeyRefused("this API key was revoked")
    if identity.status == "suspended":
        raise AccountHeld("the account is suspended")
