"""A payment request read so far as it can be without its session (protocol §1.4, steps 2 to 7)."""

from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import uuid4

from services.signer.parsing import BadRequestError, PaymentBody, parse_body
from services.signer.quote import Quote, parse_quote
from services.signer.rules import PaymentRefusal, refused
from services.signer.state import Reference, StateSeal

MANIFEST_MAX = 256


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """One request as it came over the bus; who asks is the edge's word, the body the client's."""

    account_id: str
    key_id: str
    user_id: str | None
    stream_id: str | None
    body: str
    request_id: str = ""  # the edge's, for logs
    new_session_id: str = field(default_factory=lambda: uuid4().hex)  # if it opens one without a name


@dataclass(frozen=True, slots=True)
class Intent:
    """A request read so far as it can be without the session."""

    request: PaymentRequest
    body: PaymentBody
    quote: Quote
    session_id: str
    reference: Reference | None  # none: the first payment of a session
    digest: str


def read(request: PaymentRequest, seal: StateSeal) -> Intent | PaymentRefusal:
    """What a request wants, or why it cannot be read."""
    try:
        body = parse_body(request.body)
        quote = parse_quote(body.orchestrator)
        reference = None
        if body.has_state:
            reference = seal.open(request.account_id, body.state, body.state_sig)
        if len(body.manifest_id) > MANIFEST_MAX:
            return refused(400, "bad_request", f"ManifestID is longer than {MANIFEST_MAX} characters")
    except BadRequestError as problem:
        return refused(400, "bad_request", str(problem))
    if reference is not None:
        session_id = reference.state_id
    elif body.manifest_id:
        # A first request is idempotent on these (design §4.3).
        session_id = seal.derive_id(request.account_id, body.manifest_id, quote.rand_hash_hex)
    else:
        session_id = request.new_session_id
    digest = b64encode(sha256(request.body.encode()).digest()[:16]).decode()
    return Intent(request, body, quote, session_id, reference, digest)
