"""Auth tokens: proof that a session id was ours to give (protocol.md §4.11)."""

import hmac
import secrets

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.tickets import minimal_bytes

LIFE_SECONDS = 30 * 60


class AuthTokens:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, session_id: str, *, expires_at: int) -> pb.AuthToken:
        return pb.AuthToken(
            token=self._mac(session_id, expires_at), session_id=session_id, expiration=expires_at
        )

    def is_genuine(self, token: pb.AuthToken) -> bool:
        if token.expiration < 0:
            return False
        return hmac.compare_digest(self._mac(token.session_id, token.expiration), token.token)

    def _mac(self, session_id: str, expires_at: int) -> bytes:
        message = session_id.encode() + minimal_bytes(expires_at)
        return hmac.digest(self._secret, message, "sha256")


def new_session_id() -> str:
    return secrets.token_hex(4)
