"""A payment request read so far as it can be without its session (protocol §1.4, steps 2 to 7)."""

from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import uuid4

from services.signer.foreign import ForeignState, read_foreign
from services.signer.parsing import PaymentBody, parse_body
from services.signer.permits import UNLIMITED_PERMIT, Permit
from services.signer.quote import Quote, parse_quote
from services.signer.refusal import BadRequestError, PaymentRefusal, refused
from services.signer.state import Reference, StateSeal


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """One request as it came over the bus; who asks is the edge's word, the body the client's."""

    account_id: str
    key_id: str
    user_id: str | None
    stream_id: str | None
    body: str
    # The edge's: for logs, and it makes a first payment without a name the same one if it comes again.
    request_id: str = field(default_factory=lambda: uuid4().hex)
    payer: str | None = None  # the credential's; None: the signer's first
    job_id: str | None = None  # the client's word for what it pays upfront
    user_bound: bool = False  # the key is the user's own
    token_id: str | None = None  # the session token shown in the key's place


@dataclass(frozen=True, slots=True)
class Intent:
    """A request read so far as it can be without the session."""

    request: PaymentRequest
    payer: str
    body: PaymentBody
    quote: Quote
    session_id: str
    reference: Reference | None  # none: the first payment of a session
    foreign: ForeignState | None  # the reference is a state of go-livepeer's
    digest: str
    permit: Permit = UNLIMITED_PERMIT
    refusal: PaymentRefusal | None = None  # it is not to be signed, whatever its session is


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads requests: what seals the states, and whether those of go-livepeer are taken over."""

    seal: StateSeal
    default_payer: str
    adopts_foreign_states: bool = False

    def read(self, request: PaymentRequest, permit: Permit = UNLIMITED_PERMIT) -> Intent | PaymentRefusal:
        """What a request wants, or why it cannot be read."""
        try:
            return self._read(request, permit)
        except BadRequestError as problem:
            return refused(400, "bad_request", str(problem))

    def _read(self, request: PaymentRequest, permit: Permit) -> Intent:
        payer = request.payer or self.default_payer
        body = parse_body(request.body)
        quote = parse_quote(body.orchestrator)
        reference, foreign = self._reference(request, body, payer)
        if reference is not None:
            session_id = reference.state_id
        elif body.manifest_id:
            # A first request is idempotent on these (design §4.3).
            owner = [request.user_id or ""] if request.user_bound else []
            owner += [request.token_id] if request.user_bound and request.token_id else []
            named = (request.account_id, body.manifest_id, quote.rand_hash_hex)
            session_id = self.seal.derive_id(*named, *owner)
        else:
            session_id = self.seal.derive_id(request.account_id, "request", request.request_id)
        digest = b64encode(sha256(request.body.encode()).digest()[:16]).decode()
        return Intent(request, payer, body, quote, session_id, reference, foreign, digest, permit)

    def _reference(
        self, request: PaymentRequest, body: PaymentBody, payer: str
    ) -> tuple[Reference | None, ForeignState | None]:
        """Step 7: what the client's state refers to."""
        if not body.has_state:
            return None, None
        if self.adopts_foreign_states and not self.seal.sealed(
            request.account_id, body.state, body.state_sig
        ):
            foreign = read_foreign(body.state, body.state_sig, payer)
            session_id = self.seal.derive_id(request.account_id, "adopted", payer, foreign.state_id)
            return Reference(session_id, foreign.sequence), foreign
        return self.seal.open(request.account_id, body.state, body.state_sig), None
