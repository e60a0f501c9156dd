"""In which circumstances a fuzzed signer is asked: the operator's terms, the chain, the time."""

from dataclasses import dataclass, replace
from fractions import Fraction

from tests.fuzz.predicate import Chain, Terms
from tests.quotes import L1_BLOCK, PREVIOUS_HASH, ROUND, ROUND_HASH

LISTED = bytes(19) + b"\x08"
CAPABILITY, MODEL = 35, "model-a"


@dataclass(frozen=True)
class Setting:
    """`chain_known` False: the signer has no view of the chain, and may sign nothing."""

    name: str
    terms: Terms
    chain: Chain
    chain_known: bool = True


CHAIN = Chain(L1_BLOCK, ROUND, ROUND_HASH, PREVIOUS_HASH, deposit=10**18, reserve=10**18)
LISTING = Terms(recipients=frozenset({LISTED, bytes(19) + b"\x09"}))
CEILINGS = Terms(
    price_ceiling=Fraction(10**9, 3),
    price_by_model={(CAPABILITY, MODEL): Fraction(5), (CAPABILITY, "default"): Fraction(7, 2)},
)
SMALL_CAPS = Terms(max_ticket_ev=10_000, max_total_ev=50_000, deposit_multiplier=1000)

ORDINARY = Setting("ordinary", Terms(), CHAIN)
UNUSUAL = (
    Setting("recipients listed", LISTING, CHAIN),
    Setting("price ceilings", CEILINGS, CHAIN),
    Setting("small caps", SMALL_CAPS, CHAIN),
    Setting("unlock soon", Terms(), replace(CHAIN, withdraw_round=ROUND + 1)),
    Setting("unlock later", Terms(), replace(CHAIN, withdraw_round=ROUND + 2)),
    Setting("no reserve", Terms(), replace(CHAIN, reserve=0)),
    Setting("no deposit", Terms(), replace(CHAIN, deposit=0)),
    Setting("chain unknown", Terms(), CHAIN, chain_known=False),
)


def setting_of(chunk: int) -> Setting:
    """Every second chunk is ordinary; the others take turns."""
    return ORDINARY if chunk % 2 == 0 else UNUSUAL[chunk // 2 % len(UNUSUAL)]
