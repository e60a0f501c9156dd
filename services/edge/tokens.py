"""Session tokens: a key of one user for an hour or so, made from an account's key.

A token is a JWT that edges make and check under keys of their own. It says whose it is and when it
ends; its limits are kept by quota, and it is worth nothing without its API key.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import jwt
from jwt.types import Options
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contracts.accounts import Identity
from services.edge.keys import make_id
from shared.clock import Clock

ALGORITHM = "HS256"
AUDIENCE = "clearinghouse-session"
TOKEN_LENGTH_MAX = 2048
SKEW = timedelta(seconds=5)  # between the clocks of edges
KEY_ID_BYTES = 8
LAST_SECOND = 253_402_300_799  # of the year 9999
# Time is checked here, by the clock that can be set.
CHECKS: Final[Options] = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}

type Seconds = Annotated[int, Field(ge=0, le=LAST_SECOND)]
type PlainId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{12}$")]


class _Claims(BaseModel):
    """The claims as they travel; times are seconds since 1970."""

    model_config = ConfigDict(strict=True, frozen=True)

    iss: str
    aud: str
    sub: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{3,64}:[A-Za-z0-9._:-]{1,128}$")]
    client_id: PlainId  # the API key
    jti: PlainId
    iat: Seconds
    nbf: Seconds
    exp: Seconds
    limited: bool  # quota has limits of its own for it


@dataclass(frozen=True, slots=True)
class SessionToken:
    """What a token says; its text is never printed."""

    token_id: str
    account_id: str
    user_id: str
    key_id: str
    expires_at: datetime
    limited: bool
    text: str = field(repr=False)


class TokenHolder(Identity):
    """An identity that was shown with a session token of the key: its user's, and for a while."""

    token_id: str
    expires_at: datetime
    limited: bool


class SessionTokens:
    """Makes tokens with the first of its keys, and reads those of all of them."""

    def __init__(self, keys: Sequence[bytes], *, issuer: str, clock: Clock) -> None:
        self._keys = {_id_of(key): key for key in keys}
        self._first = _id_of(keys[0])
        self._issuer = issuer
        self._clock = clock

    def make(
        self, *, account_id: str, user_id: str, key_id: str, lifetime: timedelta, limited: bool
    ) -> SessionToken:
        now = self._clock.now().replace(microsecond=0)
        expires_at, token_id = now + lifetime, make_id()
        claims = _Claims(
            iss=self._issuer,
            aud=AUDIENCE,
            sub=f"{account_id}:{user_id}",
            client_id=key_id,
            jti=token_id,
            iat=int(now.timestamp()),
            nbf=int(now.timestamp()),
            exp=int(expires_at.timestamp()),
            limited=limited,
        )
        key = self._keys[self._first]
        text = jwt.encode(claims.model_dump(), key, ALGORITHM, headers={"kid": self._first})
        return SessionToken(token_id, account_id, user_id, key_id, expires_at, limited, text)

    def read(self, text: str) -> SessionToken | None:
        """Read a token; None if it is not ours, not yet valid or not any more: nobody learns which."""
        claims = self._verified(text) if len(text) <= TOKEN_LENGTH_MAX else None
        if claims is None:
            return None
        now, begins_at = self._clock.now(), datetime.fromtimestamp(claims.nbf, UTC)
        expires_at = datetime.fromtimestamp(claims.exp, UTC)
        if not begins_at - SKEW <= now < expires_at:
            return None
        account_id, _, user_id = claims.sub.partition(":")
        return SessionToken(
            claims.jti, account_id, user_id, claims.client_id, expires_at, claims.limited, text
        )

    def _verified(self, text: str) -> _Claims | None:
        try:
            key = self._keys[jwt.get_unverified_header(text)["kid"]]
            claims = jwt.decode(
                text, key, [ALGORITHM], options=CHECKS, audience=AUDIENCE, issuer=self._issuer
            )
            return _Claims.model_validate(claims)
        except (jwt.PyJWTError, ValidationError, KeyError, ValueError, TypeError):
            return None


def holder_of(token: SessionToken, identity: Identity) -> TokenHolder | None:
    """Whose token it is; None if the key is another account's or user's than it says."""
    if token.account_id != identity.account_id or identity.user_id not in {None, token.user_id}:
        return None
    told = identity.model_dump() | {"user_id": token.user_id}
    return TokenHolder(**told, token_id=token.token_id, expires_at=token.expires_at, limited=token.limited)


def token_id_of(identity: Identity) -> str | None:
    return identity.token_id if isinstance(identity, TokenHolder) else None


def _id_of(key: bytes) -> str:
    """Names a key without telling anything of it."""
    return hmac.digest(key, b"id of a session token key", "sha256")[:KEY_ID_BYTES].hex()
