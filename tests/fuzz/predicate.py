"""Whether the signer may accept the body of a payment request: the rules, written a second time.

From the protocol and the design, apart from the signer: nothing of the services is imported, and no
protobuf library. Where the documents leave room, this accepts more than the signer has to; what it
refuses, the signer must never sign, nor ask quota for. `Forbidden.reason` says which rule it was.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from tests.fuzz.go_json import MaxPrice, NotAcceptedError, Request, read_request
from tests.fuzz.quoted import CAPABILITIES, CERTAIN, ORCHESTRATOR_INFO, Forbidden, Quote
from tests.fuzz.wire_format import Message, NotProtobufError, read

BODY_BYTES_MAX = 64 * 1024
DEPTH_MAX = 20
ADDRESS_BYTES, HASH_BYTES, INTEGER_BYTES_MAX = 20, 32, 32
APP_BYTES_MAX = 256
MANIFEST_ID_BYTES_MAX = 100  # with what is signed beside it, it must not be as long as a ticket (168 bytes)
TICKETS_MAX = 100
AUTH_MARGIN_SECONDS = 180
EXPIRY_AHEAD_MAX_BLOCKS = 50
LIVE_PRELOAD_UNITS = 10  # seconds
LV2V_PRELOAD_UNITS = 60 * 1280 * 720 * 30  # pixels
EXPONENT_DIGITS_MAX = 4  # the documents bound the exponent, and do not say at what
UNIT_BY_TYPE = {"live": "seconds", "lv2v": "720p-pixel-seconds", "fixed": "fixed"}
DEFAULT_MODEL = "default"


@dataclass(frozen=True)
class Chain:
    """What is known of the chain, and of the payer's funds on it (wei)."""

    head: int
    round: int
    round_hash: bytes
    previous_hash: bytes
    deposit: int
    reserve: int
    withdraw_round: int = 0


@dataclass(frozen=True)
class Terms:
    """What the operator has set."""

    max_ticket_ev: int = 3_000_000_000_000
    max_total_ev: int = 20_000_000_000_000
    deposit_multiplier: int = 1
    price_ceiling: Fraction | None = None
    price_by_model: Mapping[tuple[int, str], Fraction] = field(default_factory=dict)
    recipients: frozenset[bytes] | None = None


@dataclass(frozen=True)
class Session:
    """What a state that was released says of its session."""

    orchestrator: bytes
    app: str
    job_type: str
    price: Fraction


@dataclass
class Released:
    """What the signer let go so far to this account."""

    sessions: dict[tuple[bytes, bytes], Session] = field(default_factory=dict)  # by state and signature
    opened: set[tuple[str, bytes]] = field(default_factory=set)  # by ManifestID and rand hash


@dataclass(frozen=True)
class Allowed:
    """A request that may be answered with a payment, and what it was about."""

    request: Request
    quote: Quote
    capabilities: Message | None

    @property
    def first_tickets(self) -> int:
        """How many tickets the first payment of a session takes."""
        units = {"live": LIVE_PRELOAD_UNITS, "lv2v": LV2V_PRELOAD_UNITS, "fixed": 1}
        fee = self.quote.price * units.get(self.request.job_type, self.request.in_pixels)
        return -(-max(fee, self.quote.ev) // self.quote.ev)


def check(body: bytes, terms: Terms, chain: Chain, now: float, released: Released) -> Allowed:
    """Return what the body asks for, or raise Forbidden: then it must not be accepted."""
    request = _request(body)
    info = _info(request)
    quote = Quote.of(info)
    _check_job(request)
    capabilities = _capabilities(request)
    session = _session(request, quote, released)
    _check_token(quote, now)
    _check_blocks(quote, chain)
    _check_ticket(quote, terms, chain)
    allowed = Allowed(request, quote, capabilities)
    _check_price(allowed, terms, session)
    if session is None and (request.manifest_id, quote.rand_hash) not in released.opened:
        _check_first_batch(allowed, terms)
    return allowed


def _request(body: bytes) -> Request:
    if len(body) > BODY_BYTES_MAX:
        raise Forbidden("body over 64 KiB")
    try:
        return read_request(body.decode(), DEPTH_MAX)
    except UnicodeDecodeError:
        raise Forbidden("not UTF-8") from None
    except NotAcceptedError as problem:
        raise Forbidden(str(problem)) from None


def _info(request: Request) -> Message:
    if not request.orchestrator:
        raise Forbidden("missing orchestrator")
    try:
        return read(request.orchestrator, ORCHESTRATOR_INFO)
    except NotProtobufError as problem:
        raise Forbidden(f"orchestrator: {problem}") from None


def _capabilities(request: Request) -> Message | None:
    if not request.capabilities:
        return None
    try:
        return read(request.capabilities, CAPABILITIES)
    except NotProtobufError as problem:
        raise Forbidden(f"capabilities: {problem}") from None


def _check_job(request: Request) -> None:
    if request.job_type not in {"", *UNIT_BY_TYPE}:
        raise Forbidden("invalid job type")
    if not request.job_type and request.in_pixels <= 0:
        raise Forbidden("missing billable unit")
    if len(request.manifest_id.encode()) > MANIFEST_ID_BYTES_MAX:
        raise Forbidden("ManifestID too long")
    if len(request.app.encode()) > APP_BYTES_MAX:
        raise Forbidden("app too long")
    if any(unicodedata.category(character) == "Cc" for character in request.app):
        raise Forbidden("app not printable")


def _session(request: Request, quote: Quote, released: Released) -> Session | None:
    """The session a state belongs to; only what was released, byte for byte, names one."""
    if not request.has_state:
        return None
    session = released.sessions.get((request.state.state, request.state.sig))
    if session is None:
        raise Forbidden("invalid sig")
    if session.orchestrator != quote.orchestrator:
        raise Forbidden("orchestratorAddress mismatch")
    if session.app != request.app:
        raise Forbidden("app mismatch")
    if session.job_type != request.job_type:
        raise Forbidden("job type mismatch")
    if not request.manifest_id:
        raise Forbidden("missing manifestID")
    return session


def _check_token(quote: Quote, now: float) -> None:
    if now > quote.auth_token.integer(3) - AUTH_MARGIN_SECONDS:
        raise Forbidden("auth token expires")


def _check_blocks(quote: Quote, chain: Chain) -> None:
    if quote.expiration_block - chain.head <= 1:
        raise Forbidden("params expired")
    if quote.expiration_block > chain.head + EXPIRY_AHEAD_MAX_BLOCKS:
        raise Forbidden("params expire too far ahead")
    known = ((chain.round, chain.round_hash), (chain.round - 1, chain.previous_hash))
    if (quote.round, quote.round_hash) not in known:
        raise Forbidden("round unknown")


def _check_ticket(quote: Quote, terms: Terms, chain: Chain) -> None:
    if quote.win_prob >= CERTAIN:
        raise Forbidden("win probability 1")
    if quote.ev > min(terms.max_ticket_ev, terms.max_total_ev):
        raise Forbidden("ticket EV too high")
    if terms.recipients is not None and quote.recipient not in terms.recipients:
        raise Forbidden("recipient not allowed")
    if chain.withdraw_round and chain.withdraw_round <= chain.round + 1:
        raise Forbidden("unlock soon")
    if chain.reserve <= 0 or chain.deposit <= 0:
        raise Forbidden("no funds")
    if quote.face_value > chain.deposit // terms.deposit_multiplier:
        raise Forbidden("face value too high")


def _check_price(allowed: Allowed, terms: Terms, session: Session | None) -> None:
    price, asked = allowed.quote.price, allowed.request.max_price
    if asked is not None and price > _max_price(asked, allowed.request.job_type):
        raise Forbidden("over request maxPrice")
    ceiling = _configured_ceiling(terms, allowed.capabilities)
    if ceiling is not None and price > ceiling:
        raise Forbidden("over configured maximum price")
    if session is not None and price > session.price:
        raise Forbidden("over initial session price")


def _max_price(asked: MaxPrice, job_type: str) -> Fraction:
    mantissa, _, exponent = asked.price.lower().partition("e")
    if len(exponent.lstrip("+-").lstrip("0")) > EXPONENT_DIGITS_MAX or not mantissa:
        raise Forbidden("maxPrice.price")
    price = Fraction(Decimal(asked.price))  # unlike int, it reads any number of digits
    if price <= 0:
        raise Forbidden("maxPrice.price")
    if asked.currency.strip().lower() != "wei":
        raise Forbidden("maxPrice.currency")
    if job_type not in UNIT_BY_TYPE or asked.unit.strip().lower() != UNIT_BY_TYPE[job_type]:
        raise Forbidden("maxPrice.unit")
    return price


def _configured_ceiling(terms: Terms, capabilities: Message | None) -> Fraction | None:
    """The sum over the models asked for, where any has a price; else the one for all (§6.3)."""
    total = Fraction(0)
    for capability, model in _models(capabilities):
        own = terms.price_by_model.get((capability, model))
        total += own or terms.price_by_model.get((capability, DEFAULT_MODEL)) or 0
    return total or terms.price_ceiling


def _models(capabilities: Message | None) -> set[tuple[int, str]]:
    constraints = capabilities.message(5) if capabilities else None
    found: set[tuple[int, str]] = set()
    for entry in constraints.messages(2) if constraints else []:
        # Of entries with one key the last counts, as in any map.
        capability = entry.uint32(1)
        found = {pair for pair in found if pair[0] != capability}
        models = entry.message(2)
        for model in models.messages(1) if models else []:
            found.add((capability, model.data(1).decode(errors="replace")))
    return found


def _check_first_batch(allowed: Allowed, terms: Terms) -> None:
    tickets = allowed.first_tickets
    if tickets > TICKETS_MAX:
        raise Forbidden("too many tickets")
    if tickets * allowed.quote.ev > terms.max_total_ev:
        raise Forbidden("total EV too high")
