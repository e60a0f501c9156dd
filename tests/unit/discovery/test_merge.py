"""The rules by which orchestrators and runners are listed, each with a case (protocol §9, §14)."""

from dataclasses import replace
from fractions import Fraction

import pytest

from services.discovery.domain import (
    Answer,
    Gpu,
    Listing,
    Offer,
    Orchestrator,
    Price,
    Refusal,
    Runner,
    merge,
    refusal_of,
)

ONE, TWO, FAR = "https://one.example:8935", "https://two.example:8935", "https://far.example:8935"
MODEL, OTHER = "live-video-to-video/model-a", "text-to-image/model-b"
PRICE = Price("80", "wei", "seconds")
CEILING = Fraction(100)
RUNNER = Runner(url=f"{ONE}/apps/a/session", app=MODEL, price=PRICE)


def offer(capability: str = MODEL, price: int | None = 80, ceiling: int | None = 100) -> Offer:
    return Offer(
        capability,
        None if price is None else Fraction(price),
        None if ceiling is None else Fraction(ceiling),
    )


def listed(*answers: Answer) -> tuple[Orchestrator, ...]:
    return merge(answers, CEILING).orchestrators


def test_an_orchestrator_is_listed_with_what_it_offers_in_order() -> None:
    found = listed(Answer(ONE, (offer(OTHER), offer(MODEL))))

    assert found == (Orchestrator(ONE, (MODEL, OTHER), ()),)


@pytest.mark.parametrize(
    ("one", "is_eligible"),
    [
        (offer(price=100), True),
        (offer(price=101), False),
        (offer(price=0), True),
        (offer(price=None), False),
        (offer(price=None, ceiling=None), False),
        (offer(price=10**18, ceiling=None), True),
    ],
)
def test_a_capability_needs_a_price_within_its_ceiling(one: Offer, *, is_eligible: bool) -> None:
    assert one.is_eligible == is_eligible
    assert bool(listed(Answer(ONE, (one,)))) == is_eligible


def test_too_expensive_capabilities_go_and_the_others_stay() -> None:
    found = listed(Answer(ONE, (offer(MODEL, 120), offer(OTHER, 50))))

    assert found == (Orchestrator(ONE, (OTHER,), ()),)


@pytest.mark.parametrize(
    ("runner", "refusal"),
    [
        (RUNNER, None),
        (replace(RUNNER, price=replace(PRICE, number="100")), None),
        (replace(RUNNER, price=replace(PRICE, number="1.5e-3")), None),
        (replace(RUNNER, price=Price("7", " WEI ", " Fixed ")), None),
        (replace(RUNNER, price=Price("7", "wei", "720p-pixel-seconds")), None),
        (replace(RUNNER, metadata="é" * 512), None),
        (replace(RUNNER, url=""), "no_url"),
        (replace(RUNNER, app=" \t"), "no_app"),
        (replace(RUNNER, app="a" * 257), "app_not_payable"),
        (replace(RUNNER, app="a\x00b"), "app_not_payable"),
        (replace(RUNNER, metadata="é" * 512 + "x"), "bad_metadata"),
        (replace(RUNNER, metadata="a\ufffdb"), "bad_metadata"),
        (replace(RUNNER, url="u" * 2049), "too_long"),
        (replace(RUNNER, gpu=Gpu(name="g" * 257)), "too_long"),
        (replace(RUNNER, price=None), "bad_price"),
        (replace(RUNNER, price=replace(PRICE, number="")), "bad_price"),
        (replace(RUNNER, price=replace(PRICE, number="0")), "bad_price"),
        (replace(RUNNER, price=replace(PRICE, number="-5")), "bad_price"),
        (replace(RUNNER, price=replace(PRICE, number="1e999999999")), "bad_price"),
        (replace(RUNNER, price=replace(PRICE, number="1e-61")), "bad_price"),
        (replace(RUNNER, price=replace(PRICE, number="1" * 81)), "bad_price"),
        (replace(RUNNER, price=replace(PRICE, currency="usd")), "bad_currency"),
        (replace(RUNNER, price=replace(PRICE, currency="")), "bad_currency"),
        (replace(RUNNER, price=replace(PRICE, unit="hour")), "bad_unit"),
        (replace(RUNNER, price=replace(PRICE, unit="")), "bad_unit"),
        (replace(RUNNER, price=replace(PRICE, number="100.000000000000000000001")), "too_expensive"),
    ],
)
def test_a_runner_is_listed_only_with_all_that_is_needed(runner: Runner, refusal: Refusal | None) -> None:
    assert refusal_of(runner, CEILING) == refusal


def test_without_a_ceiling_any_price_will_do() -> None:
    assert refusal_of(replace(RUNNER, price=replace(PRICE, number="1e60")), None) is None


def test_runners_know_only_the_general_ceiling() -> None:
    answer = Answer(ONE, (offer(MODEL, 80, ceiling=1),), (Listing(ONE, (RUNNER,)),))

    assert listed(answer) == (Orchestrator(ONE, (MODEL,), (RUNNER,)),)


def test_a_runners_app_is_a_capability_of_its_orchestrator() -> None:
    answer = Answer(ONE, (offer(OTHER),), (Listing(ONE, (RUNNER,)),))

    assert listed(answer) == (Orchestrator(ONE, (MODEL, OTHER), (RUNNER,)),)


def test_addresses_are_the_same_with_and_without_trailing_slashes() -> None:
    answers = [
        Answer(ONE + "/", (offer(OTHER),), (Listing(ONE + "//", (RUNNER,)),)),
        Answer(ONE, (offer(MODEL),)),
    ]

    assert listed(*answers) == (Orchestrator(ONE + "/", (MODEL, OTHER), (RUNNER,)),)


def test_of_two_runners_with_one_url_the_first_stays() -> None:
    used = replace(RUNNER, capacity_used=1, capacity_available=2)
    other = replace(RUNNER, capacity=9, app=OTHER)

    found = merge([Answer(ONE, (), (Listing(ONE, (RUNNER, used, other)),))], CEILING)

    assert found.orchestrators == (Orchestrator(ONE, (MODEL, OTHER), (RUNNER,)),)
    assert found.refused == {(ONE, "conflicting"): 1}


def test_an_address_known_from_another_orchestrator_is_an_entry_of_its_own() -> None:
    runners = tuple(replace(RUNNER, url=f"{FAR}/{name}") for name in "abc")
    answers = [
        Answer(ONE, (offer(),), (Listing(FAR, runners[:1]), Listing(FAR + "/", runners[:2]))),
        Answer(TWO, (offer(),), (Listing(FAR, runners[2:]),)),
    ]

    assert listed(*answers) == (
        Orchestrator(ONE, (MODEL,), ()),
        Orchestrator(TWO, (MODEL,), ()),
        Orchestrator(FAR, (MODEL,), runners),
    )


def test_an_orchestrator_without_an_eligible_capability_is_listed_for_its_runners() -> None:
    answers = [
        Answer(ONE, (offer(price=200),), (Listing(ONE, (RUNNER,)),)),
        Answer(TWO, (offer(),)),
    ]

    assert [one.address for one in listed(*answers)] == [TWO, ONE]


def test_an_orchestrator_that_does_not_say_where_it_is_still_speaks_of_others() -> None:
    assert listed(Answer("", (offer(),), (Listing(FAR, (RUNNER,)),))) == (
        Orchestrator(FAR, (MODEL,), (RUNNER,)),
    )


def test_without_any_capability_nothing_is_listed_and_it_is_told_why() -> None:
    cheap, dear = RUNNER, replace(RUNNER, price=replace(PRICE, number="101"))
    found = merge([Answer(ONE, (), (Listing(ONE, (dear, replace(cheap, url=""), dear)),))], CEILING)

    assert found.orchestrators == ()
    assert found.refused == {(ONE, "too_expensive"): 2, (ONE, "no_url"): 1}
