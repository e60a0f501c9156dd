"""What orchestrators answer is read as go-livepeer would, and costs little however wrong it is."""

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from contracts.livepeer.capabilities import MaxPrices
from contracts.livepeer.payments_pb2 import OrchestratorInfo, PriceInfo
from services.discovery.domain import Gpu, Listing, Offer, Price, Runner
from services.discovery.reading import (
    LISTINGS_MAX,
    OFFERS_MAX,
    RUNNERS_MAX,
    UnusableAnswerError,
    read_info,
    read_listings,
)
from tests.integration.orchestrators import info

URL = "https://one.example:8935"
TEXT_TO_IMAGE = 27


def test_reads_where_it_is_and_its_models_with_their_prices_and_ceilings() -> None:
    answered = info(URL, models={"fast": 80, "slow": 30}, price=200)
    answered.capabilities.constraints.per_capability[TEXT_TO_IMAGE].models["any"].warm = True
    prices = MaxPrices(Fraction(100), {(35, "fast"): Fraction(7)})

    read = read_info(answered.SerializeToString(), prices)

    assert read.address == URL
    assert read.offers == (
        Offer("text-to-image/any", Fraction(200), Fraction(100)),
        Offer("live-video-to-video/fast", Fraction(80), Fraction(7)),
        Offer("live-video-to-video/slow", Fraction(30), Fraction(100)),
    )


@pytest.mark.parametrize(
    ("own_prices", "expected"),
    [
        ([(3, 2)], Fraction(3, 2)),
        ([(3, 0), (5, 1)], Fraction(5)),  # one without pixels is none
        ([(3, -1)], Fraction(9, 2)),
        ([(5, 1), (6, 1)], Fraction(5)),  # the first counts
        ([], Fraction(9, 2)),
    ],
)
def test_a_models_own_price_counts_else_the_general_one(
    own_prices: list[tuple[int, int]], expected: Fraction
) -> None:
    answered = info(URL, models={"fast": 0})
    answered.price_info.CopyFrom(PriceInfo(price_per_unit=9, pixels_per_unit=2))
    del answered.capabilities_prices[:]
    for price, pixels in own_prices:
        answered.capabilities_prices.add(
            price_per_unit=price, pixels_per_unit=pixels, capability=35, constraint="fast"
        )
    answered.capabilities_prices.add(
        price_per_unit=1, pixels_per_unit=1, capability=TEXT_TO_IMAGE, constraint="fast"
    )

    [offer] = read_info(answered.SerializeToString(), MaxPrices()).offers

    assert offer.price == expected


def test_without_a_usable_price_an_offer_has_none() -> None:
    answered = info(URL, models={"fast": 0})
    answered.price_info.pixels_per_unit = -1
    del answered.capabilities_prices[:]

    [offer] = read_info(answered.SerializeToString(), MaxPrices()).offers

    assert offer.price is None


def test_unknown_capabilities_and_nameless_models_are_no_offers() -> None:
    answered = info(URL, models={"": 1})
    answered.capabilities.constraints.per_capability[999].models["x"].warm = True
    answered.capabilities.constraints.per_capability[35].models["m" * 257].warm = True

    assert read_info(answered.SerializeToString(), MaxPrices()).offers == ()


def _without_address(answered: OrchestratorInfo) -> None:
    answered.address = b""


def _without_price(answered: OrchestratorInfo) -> None:
    answered.ClearField("price_info")


def _without_pixels(answered: OrchestratorInfo) -> None:
    answered.price_info.pixels_per_unit = 0


@pytest.mark.parametrize("spoil", [_without_address, _without_price, _without_pixels])
def test_an_orchestrator_is_dropped_as_go_livepeer_drops_it(
    spoil: Callable[[OrchestratorInfo], None],
) -> None:
    answered = info(URL, models={"fast": 1})
    spoil(answered)

    with pytest.raises(UnusableAnswerError):
        read_info(answered.SerializeToString(), MaxPrices())


@pytest.mark.parametrize("encoded", [b"\xff" * 100, b"<html>", b"\x0a\x05\xff\xff\xff\xff\xff"])
def test_what_is_no_orchestrator_info_is_refused(encoded: bytes) -> None:
    with pytest.raises(UnusableAnswerError):
        read_info(encoded, MaxPrices())


@pytest.mark.parametrize(
    "address",
    ["", "one.example:8935", "javascript:alert(1)", "https://", "https://o\n", "file:///etc/passwd"],
)
def test_an_address_that_is_no_url_is_none(address: str) -> None:
    answered = info(address, models={"fast": 1})
    listed = json.dumps([{"address": address, "runners": [{"url": "x"}]}]).encode()

    assert read_info(answered.SerializeToString(), MaxPrices()).address == ""
    assert read_listings(listed) == ()


def test_thousands_of_models_with_thousands_of_prices_are_cut() -> None:
    answered = info(URL, models={f"model-{number}": 1 for number in range(10_000)})

    assert len(read_info(answered.SerializeToString(), MaxPrices()).offers) == OFFERS_MAX


def document(**runner: Any) -> bytes:
    return json.dumps([{"address": URL, "runners": [runner]}]).encode()


def test_a_runner_is_read_with_its_known_fields_alone() -> None:
    body = document(
        url="u",
        app="a",
        version="v",
        metadata="m",
        mode="persistent",
        capacity=3,
        capacity_used=1,
        capacity_available=2,
        gpu={"id": "0", "name": "n", "vram_mb": 24_000, "more": []},
        price_info={"price": 5, "currency": "wei", "unit": "seconds", "more": 1},
        unknown_field={"deep": [1]},
    )

    [listing] = read_listings(body)

    assert listing == Listing(
        URL,
        (
            Runner(
                url="u",
                app="a",
                version="v",
                metadata="m",
                mode="persistent",
                capacity=3,
                capacity_used=1,
                capacity_available=2,
                gpu=Gpu("0", "n", 24_000),
                price=Price("5", "wei", "seconds"),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1.012e+16", "1.012e+16"),
        ("0.10000000000000000000000000001", "0.10000000000000000000000000001"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"5.50"', "5.50"),  # Go's json.Number takes text that is a number
        ("null", ""),
        ("1e999999999", "1e999999999"),  # refused later, without being expanded
    ],
)
def test_a_price_keeps_its_digits(written: str, number: str) -> None:
    body = b'[{"address": "%s", "runners": [{"price_info": {"price": %s}}]}]'

    [listing] = read_listings(body % (URL.encode(), written.encode()))

    assert listing.runners[0].price == Price(number)


def test_names_match_whatever_their_case_and_null_is_absent() -> None:
    body = json.dumps(
        [None, {"ADDRESS": URL, "Runners": [None, {"URL": "u", "gpu": None, "App": None}]}, {"runners": None}]
    )

    assert read_listings(body.encode()) == (Listing(URL, (Runner(), Runner(url="u"))),)


def test_bytes_and_halves_of_characters_that_are_no_text_are_replaced() -> None:
    body = (
        b'[{"address": "%s", "runners": [{"app": "a\xff", "metadata": "\\ud800", "mode": "\\ud83d\\ude00"}]}]'
    )

    [listing] = read_listings(body % URL.encode())

    assert listing.runners == (Runner(app="a\ufffd", metadata="\ufffd", mode="\U0001f600"),)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"[1]",
        b"[]]",
        b'{"address": "x"}',
        b"[" * 500_000,
        b'[{"address": ' * 50_000,
        document(url=5),
        document(capacity="3"),
        document(capacity=1.0),
        document(capacity=True),
        document(capacity=2**63),
        document(gpu="a"),
        document(gpu={"vram_mb": 1.5}),
        document(app=1.5),
        document(price_info={"price": True}),
        document(price_info={"price": "dear"}),
        document(price_info={"price": ""}),
        document(price_info={"price": [5]}),
        document(price_info={"price": float("nan")}),
        document(price_info={"price": float("inf")}),
        b'[{"x": %s}]' % (b"9" * 100_000),
    ],
)
def test_what_go_livepeer_cannot_read_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(UnusableAnswerError):
        read_listings(body)


def test_a_document_full_of_runners_is_cut() -> None:
    many = [{"url": f"u{number}"} for number in range(6_000)]
    two = json.dumps([{"address": URL, "runners": many}, {"address": URL, "runners": many}])

    assert [len(listing.runners) for listing in read_listings(two.encode())] == [RUNNERS_MAX, 0]


def test_a_document_full_of_addresses_is_cut() -> None:
    many = [{"address": f"{URL}/{number}"} for number in range(6_000)]

    assert len(read_listings(json.dumps(many).encode())) == LISTINGS_MAX
