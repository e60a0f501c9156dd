"""Money as whole numbers: wei on chain, micro-dollars in rating."""

from fractions import Fraction
from typing import NewType

Wei = NewType("Wei", int)
MicroUsd = NewType("MicroUsd", int)

CERTAIN = 2**256 - 1  # win probabilities are counted over this, not over 2**256


def expected_value(face_value: Wei, win_prob: int) -> Fraction:
    """What one ticket is worth on average, in wei, exact (protocol §4.5)."""
    return Fraction(face_value * win_prob, CERTAIN)


def batch_cost(face_value: Wei, win_prob: int, tickets: int) -> Wei:
    """What a batch costs its account: ceil(tickets x EV) wei.

    The only place where EV is rounded, and up. Whole numbers throughout: this is on the hot path.
    """
    return Wei(-(-face_value * win_prob * tickets // CERTAIN))


def float_string(number: Fraction, places: int) -> str:
    """Go's big.Rat.FloatString: half is rounded away from zero."""
    scaled = abs(number) * 10**places
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    digits = str(whole).rjust(places + 1, "0")
    sign = "-" if number < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
