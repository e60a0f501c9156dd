"""Who looks at the console: let in by a cookie, which is checked anew at each request."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from contracts.limits import Scoped
from services.edge.console.sessions import LIFETIME, ConsoleSession
from services.edge.parts import Parts, parts_of
from services.edge.tokens import TokenHolder

COOKIE = "clearinghouse"
SAFE_COOKIE = f"__Host-{COOKIE}"  # browsers take it over TLS only, and from this very host


class SignInNeeded(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """Nobody is signed in here."""


@dataclass(frozen=True, slots=True)
class Viewer:
    session: ConsoleSession
    holder: TokenHolder
    form_token: str

    @property
    def scope(self) -> Scoped:
        """Whose figures these are: the account's, or one user's."""
        return Scoped(account_id=self.holder.account_id, user_id=self.holder.user_id)

    def may_see(self, user_id: str | None) -> bool:
        return self.holder.user_id is None or self.holder.user_id == user_id


async def viewer_of(request: Request) -> Viewer:
    """Whose request this is; raise SignInNeeded or AuthenticationRefused.

    The key is looked up, and all rules of its holder: what was revoked, suspended or has expired since
    the sign-in ends the session with this request.
    """
    parts = parts_of(request)
    text = request.cookies.get(cookie_name(parts), "")
    session = parts.console.read(text) if parts.console and text else None
    if parts.console is None or session is None:
        raise SignInNeeded
    identity = await parts.authenticator.holder_of(session.key_id)
    holder = session.holder(identity)
    if holder is None:
        raise SignInNeeded
    request.scope["account_id"] = holder.account_id
    for each in (holder, session.token_holder(identity) or identity):
        parts.admission.check(each, each.user_id, request.scope)
    parts.admission.count_page(identity)
    return Viewer(session, holder, parts.console.form_token(session))


def cookie_name(parts: Parts) -> str:
    return SAFE_COOKIE if _needs_tls(parts.public_url) else COOKIE


def set_cookie(response: Response, parts: Parts, value: str, session: ConsoleSession) -> None:
    seconds = int((session.expires_at - parts.clock.now()).total_seconds())
    response.set_cookie(
        cookie_name(parts),
        value,
        max_age=max(0, min(seconds, int(LIFETIME.total_seconds()))),
        secure=_needs_tls(parts.public_url),
        httponly=True,
        samesite="strict",
    )


def drop_cookie(response: Response, parts: Parts) -> None:
    secure = _needs_tls(parts.public_url)
    response.delete_cookie(cookie_name(parts), secure=secure, httponly=True, samesite="strict")


def is_reachable_safely(public_url: str) -> bool:
    """Whether a browser keeps our cookie: over TLS, or on the machine itself."""
    return urlsplit(public_url).scheme == "https" or not _needs_tls(public_url)


def _needs_tls(public_url: str) -> bool:
    parts = urlsplit(public_url)
    host = parts.hostname or ""
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return not (parts.scheme == "http" and loopback)
