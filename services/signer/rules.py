"""Whether a payment may be signed, and how many tickets it takes (protocol §1.4, §5, §6).

All sums are whole numbers in one scale: a wei is CERTAIN x pixels_per_unit of it, so that prices,
fees, expected values and balances are exact without fractions (`Fraction` where people read them).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

from contracts.livepeer.capabilities import MaxPrices
from services.signer.domain.session import PRELOAD_SECONDS
from services.signer.parsing import MaxPrice, positive_decimal
from services.signer.quote import Quote
from services.signer.refusal import BadRequestError, refresh_session, refused
from shared.money import CERTAIN, Wei, float_string

TICKETS_MAX = 100
NONCES_MAX = 500  # an orchestrator stops counting at 600
AUTH_MARGIN_SECONDS = 180  # 10 % of an auth token's 30 minutes
EXPIRY_AHEAD_MAX_BLOCKS = 50  # orchestrators quote their head + 40
MAX_TICKET_EV = Wei(3_000_000_000_000)
MAX_TOTAL_EV = Wei(20_000_000_000_000)
UNIT_BY_TYPE = {"live": "seconds", "lv2v": "720p-pixel-seconds", "fixed": "fixed"}
METERED = frozenset({"live", "lv2v"})  # billed by time; only these get a spare ticket
PIXELS_PER_SECOND = 1280 * 720 * 30


@dataclass(frozen=True, slots=True, eq=False)  # by identity: what is made of them is kept
class Limits:
    """What this signer accepts at most, whoever asks (protocol §6.1, flags of go-livepeer)."""

    max_ticket_ev: Wei = MAX_TICKET_EV
    max_total_ev: Wei = MAX_TOTAL_EV
    deposit_multiplier: int = 1
    max_prices: MaxPrices = field(default_factory=MaxPrices)
    recipients: frozenset[bytes] | None = None
    max_face_value: Wei | None = None
    credit_ahead: timedelta = timedelta(0)  # what a running metered session is paid ahead


@dataclass(frozen=True, slots=True)
class ChainView:
    """The chain as the deposit watcher saw it last."""

    l1_block: int
    round: int
    round_hash: bytes
    previous_round_hash: bytes
    deposit: Wei
    reserve: Wei
    withdraw_round: int
    observed_at: datetime


def _cannot_refresh(cause: str) -> BadRequestError:
    return BadRequestError(f"remote signer could not check whether to refresh session: {cause}")


def check_params(
    quote: Quote, chain: ChainView, limits: Limits, now: datetime, fence_block: int | None
) -> None:
    """Step 11 with the checks of design §4.8: may tickets on these params be signed now?"""
    if quote.auth_token is None:
        raise _cannot_refresh("missing auth token")
    if now.timestamp() > quote.auth_expiration - AUTH_MARGIN_SECONDS:
        raise refresh_session()
    if quote.expiration_block == 0:
        raise _cannot_refresh("ticketParams expiration block is 0")
    if quote.expiration_block - chain.l1_block <= 1 or not _round_is_known(quote, chain):
        raise refresh_session()
    if fence_block is not None and quote.expiration_block <= fence_block + EXPIRY_AHEAD_MAX_BLOCKS:
        raise refresh_session()
    if quote.expiration_block > chain.l1_block + EXPIRY_AHEAD_MAX_BLOCKS:
        raise _cannot_refresh("ticketParams expiration block is too far ahead")
    _check_ticket(quote, limits)
    _check_payer(quote, chain, limits)


def _round_is_known(quote: Quote, chain: ChainView) -> bool:
    """The last or the previous initialised round, with the hash we see for it."""
    return (quote.creation_round, quote.creation_round_hash) in (
        (chain.round, chain.round_hash),
        (chain.round - 1, chain.previous_round_hash),
    )


def _check_ticket(quote: Quote, limits: Limits) -> None:
    if quote.win_prob >= CERTAIN:
        raise _cannot_refresh("ticket faceValue too low")
    worth = quote.face_value * quote.win_prob
    if worth > limits.max_ticket_ev * CERTAIN:
        shown = float_string(Fraction(worth, CERTAIN), 5)
        raise _cannot_refresh(f"ticket EV {shown} > max ticket EV {limits.max_ticket_ev}.00000")
    if worth > limits.max_total_ev * CERTAIN:
        raise _cannot_refresh(total_ev_text(quote, 1, limits))
    if limits.recipients is not None and quote.recipient not in limits.recipients:
        raise refused(403, "recipient_not_allowed", f"recipient 0x{quote.recipient.hex()} is not allowed")


def total_ev_text(quote: Quote, tickets: int, limits: Limits) -> str:
    total = Fraction(quote.face_value * quote.win_prob * tickets, CERTAIN)
    shown = float_string(total, 5)
    return f"total ticket EV {shown} for {tickets} tickets > max total ticket EV {limits.max_total_ev}.00000"


def _check_payer(quote: Quote, chain: ChainView, limits: Limits) -> None:
    if chain.withdraw_round and chain.withdraw_round <= chain.round + 1:
        raise _cannot_refresh("unable to validate sender: deposit and reserve is set to unlock soon")
    if chain.reserve == 0:
        raise _cannot_refresh("no sender reserve")
    if chain.deposit == 0:
        raise _cannot_refresh("no sender deposit")
    face_value_max = chain.deposit // limits.deposit_multiplier
    if limits.max_face_value is not None:
        face_value_max = min(face_value_max, limits.max_face_value)
    if quote.face_value > face_value_max:
        raise _cannot_refresh(f"ticket faceValue {quote.face_value} > max faceValue {face_value_max}")


def billable_units(job_type: str, in_pixels: int, elapsed: timedelta | None) -> int:
    """Step 12: what a call bills (protocol §5.1): seconds, pixels or calls, by its type.

    `elapsed` is None on the first payment of a session, which covers PRELOAD_SECONDS. Raises
    BadRequestError.
    """
    if job_type == "":
        if in_pixels <= 0:
            raise BadRequestError("missing billable unit or job type")
        return in_pixels
    if job_type not in UNIT_BY_TYPE:
        raise BadRequestError("invalid job type")
    if job_type == "fixed":
        return 1
    if elapsed is None:
        elapsed = timedelta(seconds=PRELOAD_SECONDS[job_type])
    elapsed = max(elapsed, timedelta(0))
    if job_type == "live":
        return -(-elapsed // timedelta(seconds=1))
    return _pixels(elapsed)


def _pixels(elapsed: timedelta) -> int:
    """Go computes these in float64 and cuts off; so do we, or balances would drift apart."""
    whole, rest = divmod(elapsed, timedelta(seconds=1))
    return int(PIXELS_PER_SECOND * (whole + rest.microseconds * 1000 / 1e9))


class Ceiling(NamedTuple):
    price: Fraction
    source: str
    reason: str = "price_too_high"


def check_price(price: Fraction, ceilings: Sequence[Ceiling]) -> None:
    """Step 15: the lowest of the ceilings that there are, the first of equals. Equality passes."""
    if not ceilings:
        return
    lowest = min(ceilings, key=lambda ceiling: ceiling.price)
    if price > lowest.price:
        shown, most = float_string(price, 3), float_string(lowest.price, 3)
        text = f"orchestrator price {shown} exceeds {lowest.source} ceiling {most}"
        raise refused(481, lowest.reason, text)


def read_max_price(asked: MaxPrice | None, job_type: str) -> Fraction | None:
    """Step 13, in go-livepeer's order. Raises BadRequestError."""
    if asked is None:
        return None
    price = positive_decimal(asked.price)
    if price is None:
        raise BadRequestError("maxPrice.price must be a positive decimal")
    if asked.currency != "wei":
        raise BadRequestError("maxPrice.currency must be wei")
    unit = UNIT_BY_TYPE.get(job_type)
    if unit is None:
        raise BadRequestError("maxPrice requires payment type live, lv2v, or fixed")
    if asked.unit != unit:
        raise BadRequestError(f"maxPrice.unit must be {unit} for payment type {job_type}")
    return price


def tickets_due(*, balance: int, fee: int, ev: int, may_spare: bool) -> int:
    """Step 16: how many tickets bring the balance to max(fee, EV) (protocol §5.2).

    All in one scale. One spare ticket when the balance would not pay the fee and one lost
    delivery (`may_spare`, design §4.7).
    """
    least = max(fee, ev)
    if balance < least:
        return -((balance - least) // ev)
    return 1 if may_spare and balance < fee + ev else 0


def tickets_ahead(*, balance: int, fee: int, fee_ahead: int, ev: int) -> int:
    """How many tickets leave a balance, after this fee, that covers the fee ahead (design §4.7).

    All in one scale; zero or less if the balance does already.
    """
    return -((balance - fee - fee_ahead) // ev)
