"""Whether a request goes on where its session is (protocol §1.4, steps 7 and 8; design §4.2)."""

from services.signer.domain.session import PaymentSession
from services.signer.intent import Intent
from services.signer.refusal import BadRequestError, refresh_session

MANIFESTS_PER_SESSION = 8


def check_continuity(intent: Intent, session: PaymentSession | None) -> bool:
    """Steps 7 and 8, and design §4.2; true if the client never got our last reply."""
    reference = intent.reference
    if session is not None and session.was_answered(intent.digest):
        raise refresh_session()
    if reference is None:
        if session is not None and session.opened_at is None:
            raise refresh_session()  # a tombstone: quota took its allowance back
        if session is not None:
            check_same_job(intent, session)
        return False
    assert session is not None
    check_same_job(intent, session)
    check_manifest(intent, session)
    return reference.sequence == session.sequence - 1 and intent.digest != session.last_digest


def is_repeat(intent: Intent, session: PaymentSession) -> bool:
    """The very request that was answered last, or a first request that was answered before."""
    if not session.paid:
        return False
    if intent.reference is None:
        return session.sequence == 0 and intent.quote.rand_hash_hex == session.recipient_rand_hash
    return intent.reference.sequence < session.sequence and intent.digest == session.last_digest


def check_same_job(intent: Intent, session: PaymentSession) -> None:
    request = intent.request
    if request.user_bound and session.user_id != request.user_id:
        raise BadRequestError("invalid sig")  # to this key another user's state is none of ours
    if session.orchestrator != "0x" + intent.quote.orchestrator.hex():
        raise BadRequestError("orchestratorAddress mismatch")
    if session.payer != intent.payer:
        raise BadRequestError("payer mismatch")
    if intent.body.app != session.app:
        raise BadRequestError("app mismatch")
    if intent.body.job_type != session.job_type:
        raise BadRequestError("job type mismatch")


def check_manifest(intent: Intent, session: PaymentSession) -> None:
    if not intent.body.manifest_id:
        raise BadRequestError("missing manifestID")
    known = intent.body.manifest_id in session.manifests
    if not known and len(session.manifests) >= MANIFESTS_PER_SESSION:
        raise BadRequestError("ManifestID changes too often in this session")
