"""Whether what a request pays for is inside the scopes of those who ask: jobs, apps, recipients, time."""

from collections.abc import Iterator
from datetime import datetime

from services.signer.asking import capabilities_asked, name_of
from services.signer.intent import Intent
from services.signer.permits import Level, Scope
from services.signer.refusal import PaymentRefusal, refused

# Who got a key or token to hand out is told that it is about that one, not about the account.
REASONS: dict[Level, str] = {
    "account": "not_allowed",
    "user": "not_allowed",
    "key": "key_scope",
    "token": "key_scope",
}


def check_scopes(intent: Intent, now: datetime) -> None:
    """Raises PaymentRefusal, or BadRequestError if what is asked for cannot be read."""
    for scope in intent.permit.scopes:
        _check_expiry(scope, now)
        for outside in _outside(intent, scope):
            raise _refusal(scope, outside)


def _check_expiry(scope: Scope, now: datetime) -> None:
    expires_at = scope.terms.expires_at
    if expires_at is not None and now >= expires_at:
        reason = "key_expired" if scope.level in {"key", "token"} else "not_allowed"
        raise refused(403, reason, f"this {scope.level} has expired")


def _outside(intent: Intent, scope: Scope) -> Iterator[str]:
    """What the scope does not allow, in words."""
    terms, body, quote = scope.terms, intent.body, intent.quote
    if terms.job_types is not None and body.job_type not in terms.job_types:
        yield f"job type {body.job_type!r}"
    if terms.apps is not None and body.app not in terms.apps:
        yield f"app {body.app!r}"
    if terms.recipients is not None and quote.recipient not in terms.recipients:
        yield f"recipient 0x{quote.recipient.hex()}"
    if terms.capabilities is not None:
        for asked in sorted(capabilities_asked(body.capabilities), key=name_of):
            if asked not in terms.capabilities and (asked[0], None) not in terms.capabilities:
                yield f"capability {name_of(asked)}"


def _refusal(scope: Scope, outside: str) -> PaymentRefusal:
    return refused(403, REASONS[scope.level], f"{outside} is not allowed for this {scope.level}")
