"""Sessions of the console: who signed in with a key or a session token, in a cookie for half a day.

The cookie is a JWT under keys derived from those of session tokens. It holds no credential: it names
the key that was shown, and each request looks anew at what that key may do.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import jwt
from jwt.types import Options
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contracts.accounts import Identity
from services.edge.keys import make_id
from services.edge.tokens import SessionToken, TokenHolder, holder_of
from shared.clock import Clock

ALGORITHM = "HS256"
AUDIENCE = "clearinghouse-console"
LIFETIME = timedelta(hours=12)
TEXT_LENGTH_MAX = 2048
LAST_SECOND = 253_402_300_799  # of the year 9999
# Time is checked here, by the clock that can be set.
CHECKS: Final[Options] = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}

type PlainId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{12}$")]


class _Claims(BaseModel):
    """The claims as they travel; times are seconds since 1970."""

    model_config = ConfigDict(strict=True, frozen=True)

    iss: str
    aud: str
    jti: PlainId
    exp: Annotated[int, Field(ge=0, le=LAST_SECOND)]
    account_id: str
    user_id: str | None
    client_id: PlainId  # the API key
    token_id: PlainId | None  # of the session token that was shown in the key's place
    limited: bool  # quota has limits of its own for that


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """Who signed in; `user_id` None: for the whole account."""

    session_id: str
    account_id: str
    user_id: str | None
    key_id: str
    token_id: str | None
    limited: bool
    expires_at: datetime

    def holder(self, identity: Identity) -> TokenHolder | None:
        """As whom the key's identity lets this session in; None if the key is not that one's any more."""
        users = {self.user_id} if self.token_id is None else {None, self.user_id}
        if identity.account_id != self.account_id or identity.user_id not in users:
            return None
        told = {**identity.model_dump(), "user_id": self.user_id}
        return TokenHolder(**told, token_id=self.session_id, expires_at=self.expires_at, limited=False)

    def token_holder(self, identity: Identity) -> TokenHolder | None:
        """The same by the session token that was shown; None if none was."""
        if self.token_id is None or self.user_id is None:
            return None
        token = SessionToken(
            self.token_id, self.account_id, self.user_id, self.key_id, self.expires_at, self.limited, ""
        )
        return holder_of(token, identity)


class ConsoleSessions:
    """Makes cookies with the first of its keys, and reads those of all of them."""

    def __init__(self, token_keys: Sequence[bytes], *, issuer: str, clock: Clock) -> None:
        self._keys = [hmac.digest(key, b"sessions of the console", "sha256") for key in token_keys]
        self._issuer = issuer
        self._clock = clock

    def open(self, identity: Identity) -> tuple[ConsoleSession, str]:
        """Sign somebody in who was just authenticated; returns the session and its cookie's value."""
        shown = identity if isinstance(identity, TokenHolder) else None
        expires_at = self._clock.now().replace(microsecond=0) + LIFETIME
        session = ConsoleSession(
            session_id=make_id(),
            account_id=identity.account_id,
            user_id=identity.user_id,
            key_id=identity.key_id,
            token_id=shown.token_id if shown else None,
            limited=shown.limited if shown else False,
            expires_at=min(expires_at, shown.expires_at) if shown else expires_at,
        )
        return session, self._write(session)

    def read(self, text: str) -> ConsoleSession | None:
        """Read a cookie's value; None if it is not ours or has ended: nobody learns which."""
        if len(text) > TEXT_LENGTH_MAX:
            return None
        claims = next((found for key in self._keys if (found := self._verified(text, key))), None)
        if claims is None:
            return None
        expires_at = datetime.fromtimestamp(claims.exp, UTC)
        if self._clock.now() >= expires_at:
            return None
        return ConsoleSession(
            session_id=claims.jti,
            account_id=claims.account_id,
            user_id=claims.user_id,
            key_id=claims.client_id,
            token_id=claims.token_id,
            limited=claims.limited,
            expires_at=expires_at,
        )

    def form_token(self, session: ConsoleSession) -> str:
        """What forms of this session bring along, so that no other site can send one."""
        return hmac.digest(self._keys[0], b"form " + session.session_id.encode(), "sha256").hex()

    def is_form_token(self, session: ConsoleSession, text: str) -> bool:
        named = b"form " + session.session_id.encode()
        shown, found = text.encode(), False
        for key in self._keys:
            found |= hmac.compare_digest(hmac.digest(key, named, "sha256").hex().encode(), shown)
        return found

    def _write(self, session: ConsoleSession) -> str:
        claims = _Claims(
            iss=self._issuer,
            aud=AUDIENCE,
            jti=session.session_id,
            exp=int(session.expires_at.timestamp()),
            account_id=session.account_id,
            user_id=session.user_id,
            client_id=session.key_id,
            token_id=session.token_id,
            limited=session.limited,
        )
        return jwt.encode(claims.model_dump(), self._keys[0], ALGORITHM)

    def _verified(self, text: str, key: bytes) -> _Claims | None:
        try:
            claims = jwt.decode(
                text, key, [ALGORITHM], options=CHECKS, audience=AUDIENCE, issuer=self._issuer
            )
            return _Claims.model_validate(claims)
        except (jwt.PyJWTError, ValidationError, ValueError, TypeError):
            return None
