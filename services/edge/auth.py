"""Who presents this key, and may they? Answered from memory; accounts is asked of unknown keys only.

AuthenticationRefused
├── KeyRefused           401: no key, or none that we issued, or a revoked one
├── AccountHeld          403: the account is suspended
└── NotReadyError        503: we cannot tell now, which is never the client's fault
"""

import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from contracts.accounts import Identity
from services.edge.keys import Key, parse
from shared.bus import ServiceUnavailableError

HOT_MAX = 50_000
MISSES_MAX = 10_000
MISS_SECONDS = 5.0
FOUND_SECONDS = 1.0  # the bucket has it by then
ASKS_PER_SECOND = 20.0  # with a fitting checksum a key can be made up: they must not flood accounts
ASKS_BURST = 50.0
DUMMY_HASH = "0" * 64
# Only the common spelling is remembered: of the others one key has too many.
CANONICAL = b"Bearer "
BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([\x21-\x7e]{1,256})")

# Asks accounts; None if there is no such key. Raises ServiceUnavailableError.
type FindIdentity = Callable[[str], Awaitable[Identity | None]]


class AuthenticationRefused(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """The request goes no further."""


class KeyRefused(AuthenticationRefused):
    pass


class AccountHeld(AuthenticationRefused):
    pass


class NotReadyError(AuthenticationRefused):
    pass


class Bucket(Protocol):
    """A copy of the `identities` bucket; an entry's bytes stay the same object until it changes."""

    ready: bool

    def get(self, key: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who runs the clearinghouse."""


class Rate:
    """So many a second, with a burst."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._at = time.monotonic()

    def allows(self) -> bool:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Authenticator:
    def __init__(
        self,
        *,
        bucket: Bucket,
        find: FindIdentity,
        pepper: bytes,
        administrators: frozenset[str] = frozenset(),
    ) -> None:
        self._bucket = bucket
        self._find = find
        self._pepper = pepper
        self._administrators = administrators
        self._hot: dict[bytes, tuple[bytes, Identity]] = {}
        self._asked: dict[str, tuple[float, Identity | None]] = {}
        self._rate = Rate(ASKS_PER_SECOND, ASKS_BURST)

    async def authenticate(self, header: bytes | None) -> Identity:
        """Return whose key an Authorization header carries; raise AuthenticationRefused."""
        hot = self._hot.get(header) if header else None
        if hot is not None and self._bucket.ready:
            entry, identity = hot
            if self._bucket.get(identity.key_id) is entry:
                return identity
        return await self._check(header)

    async def authenticate_anybody(self, header: bytes | None) -> Identity | Administrator:
        match = BEARER.fullmatch(header or b"")
        if match and self._is_administrator(match[1]):
            return Administrator()
        return await self.authenticate(header)

    def hash(self, key: Key) -> str:
        return key.hash(self._pepper)

    def _is_administrator(self, token: bytes) -> bool:
        digest = hashlib.sha256(token).hexdigest()
        found = False
        for known in self._administrators:
            found |= hmac.compare_digest(known, digest)
        return found

    async def _check(self, header: bytes | None) -> Identity:
        match = BEARER.fullmatch(header or b"")
        key = parse(match[1].decode("ascii")) if match else None
        if key is None or header is None:
            raise KeyRefused("a valid API key is needed: Authorization: Bearer lpch_…")
        if not self._bucket.ready:
            raise NotReadyError("identities are not loaded")
        entry = self._bucket.get(key.key_id)
        identity = Identity.model_validate_json(entry) if entry else await self._ask(key.key_id)
        # Compared on a miss as well, so that time does not tell which key ids exist.
        kept = identity.secret_hash if identity else DUMMY_HASH
        if not hmac.compare_digest(kept, self.hash(key)) or identity is None:
            raise KeyRefused("unknown API key")
        _require_active(identity)
        if entry is not None and header.startswith(CANONICAL) and not header.startswith(CANONICAL + b" "):
            self._keep_hot(header, entry, identity)
        return identity

    def _keep_hot(self, header: bytes, entry: bytes, identity: Identity) -> None:
        if len(self._hot) >= HOT_MAX:
            self._hot.clear()  # they come back one by one
        self._hot[header] = (entry, identity)

    async def _ask(self, key_id: str) -> Identity | None:
        """Ask accounts once about a key id that the bucket does not have, or not yet."""
        now = time.monotonic()
        until, identity = self._asked.get(key_id, (0.0, None))
        if now < until:
            return identity
        if not self._rate.allows():
            raise NotReadyError("too many unknown keys at once")
        try:
            identity = await self._find(key_id)
        except ServiceUnavailableError as problem:
            raise NotReadyError(str(problem)) from problem
        if len(self._asked) >= MISSES_MAX:
            self._asked.clear()
        self._asked[key_id] = (now + (FOUND_SECONDS if identity else MISS_SECONDS), identity)
        return identity


def _require_active(identity: Identity) -> None:
    if identity.status == "revoked":
        raise KeyRefused("this API key was revoked")
    if identity.status == "suspended":
        raise AccountHeld("the account is suspended")
