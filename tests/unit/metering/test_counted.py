"""Sums as text: rounded down once, with their places, whatever their sign and size."""

from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metering.counted import floor_text, plain_text


@pytest.mark.parametrize(
    ("terms", "places", "text"),
    [
        ([], 0, "0"),
        ([], 3, "0.000"),
        ([(1, 3), (2, 3)], 0, "1"),
        ([(1, 2), (1, 3)], 3, "0.833"),
        ([(1500, 1000)], 3, "1.500"),
        ([(-1500, 1000)], 3, "-1.500"),
        ([(-1, 1000)], 3, "-0.001"),
        ([(27_648_000 * 7 + 1, 27_648_000)], 3, "7.000"),
    ],
)
def test_sums_are_told_with_their_places(terms: list[tuple[int, int]], places: int, text: str) -> None:
    assert floor_text(terms, places) == text


@given(
    st.lists(st.tuples(st.integers(-(2**300), 2**300), st.integers(1, 2**64)), max_size=9),
    st.sampled_from([0, 3]),
)
def test_they_are_floors_of_exact_sums(terms: list[tuple[int, int]], places: int) -> None:
    exact = sum((Fraction(*term) for term in terms), Fraction())

    assert Fraction(floor_text(terms, places)) == Fraction(floor(exact * 10**places), 10**places)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Decimal("1E+3"), "1000"),
        (Decimal("-2.500"), "-2.5"),
        (Decimal("0.0000001"), "0.0000001"),
        (Decimal(10), "10"),
        (2**70, str(2**70)),
        (0, "0"),
    ],
)
def test_decimal_numbers_have_no_exponent(number: Decimal | int, text: str) -> None:
    assert plain_text(number) == text
