"""What each job type bills, and what it may be priced at (protocol §5, §1.4 steps 12 to 15)."""

from base64 import b64decode, b64encode
from fractions import Fraction
from typing import Any

import pytest

from contracts.livepeer.capabilities import MaxPrices
from contracts.livepeer.payments_pb2 import Capabilities, SegData
from services.signer.rules import Limits
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import START, Signer, nonces, state_of

PIXELS_PER_SECOND = 27_648_000
UNITS = {"live": "seconds", "lv2v": "720p-pixel-seconds", "fixed": "fixed"}


def asking(model: str, capability: int = 35) -> dict[str, str]:
    asked = Capabilities()
    asked.constraints.per_capability[capability].models[model].warm = False
    return {"capabilities": b64encode(asked.SerializeToString()).decode()}


def balance(signer: Signer, reply: dict[str, Any]) -> Fraction:
    """What the session has left, exactly; tickets of an EV of 100 wei are worth a little more."""
    return signer.signing.session("account-1", state_of(reply)["StateID"]).balance_wei


def test_a_go_gateways_request_is_signed(signer: Signer) -> None:
    quote = QuoteMaker(START, price_per_unit=1, pixels_per_unit=PIXELS_PER_SECOND, ev=20, face_value=1000)
    first = signer.pay(
        body(
            quote.text(),
            manifest_id="",
            type="lv2v",
            state={"State": None, "Sig": None},
            inPixels=0,
            capabilities=None,
        )
    )
    signer.wait(3)

    second = signer.pay(
        body(quote.text(), manifest_id="made-up", type="lv2v", state=first["state"], inPixels=0)
    )

    assert nonces(first) == [1, 2, 3]  # 60 s at one wei a second
    assert state_of(first)["Type"] == "lv2v"
    assert nonces(second) == [4]
    assert 80 - 63 <= balance(signer, second) < 80 - 63 + 1


def test_lv2v_bills_pixels_as_go_cuts_them_off(signer: Signer) -> None:
    quote = QuoteMaker(START, price_per_unit=1, pixels_per_unit=PIXELS_PER_SECOND, ev=20, face_value=1000)
    first = signer.pay(body(quote.text(), type="lv2v"))
    signer.wait(1.000001)

    second = signer.pay(body(quote.text(), type="lv2v", state=first["state"]))

    used = 60 + Fraction(PIXELS_PER_SECOND + 27, PIXELS_PER_SECOND)
    assert 80 - used <= balance(signer, second) < 80 - used + Fraction(1, 10**50)


def test_fixed_bills_one_unit_on_every_call_and_gets_no_spare_ticket(signer: Signer) -> None:
    quote = QuoteMaker(START, price_per_unit=250, ev=100)
    first = signer.pay(body(quote.text(), type="fixed"))
    signer.wait(60)
    second = signer.pay(body(quote.text(), type="fixed", state=first["state"]))

    assert (nonces(first), nonces(second)) == ([1, 2, 3], [4, 5])
    assert int(balance(signer, second)) == 0


def test_pixels_in_the_request_are_billed_where_there_is_no_type(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text(), type="", inPixels=25))
    second = signer.pay(body(quote.text(), type="", inPixels=5, state=first["state"]))

    assert (nonces(first), nonces(second)) == ([1, 2, 3], [4])
    assert 400 - 300 <= balance(signer, second) < 400 - 300 + 1
    refusal = signer.refused(body(quote.text(), type="", inPixels=5, state=second["state"]))
    assert refusal.status == 482  # no spare ticket either


@pytest.mark.parametrize("pixels", [0, -1])
def test_without_type_and_pixels_there_is_nothing_to_bill(
    signer: Signer, quote: QuoteMaker, pixels: int
) -> None:
    refusal = signer.refused(body(quote.text(), type="", inPixels=pixels))

    assert (refusal.status, str(refusal)) == (400, "missing billable unit or job type")


@pytest.mark.parametrize("job_type", ["LIVE", "live ", "byoc", "transcode"])
def test_other_types_are_400(signer: Signer, quote: QuoteMaker, job_type: str) -> None:
    refusal = signer.refused(body(quote.text(), type=job_type, inPixels=5))

    assert (refusal.status, str(refusal)) == (400, "invalid job type")


@pytest.mark.parametrize("job_type", ["live", "lv2v", "fixed", ""])
def test_a_session_keeps_its_type(signer: Signer, quote: QuoteMaker, job_type: str) -> None:
    quote.pixels_per_unit = PIXELS_PER_SECOND if job_type == "lv2v" else 1
    reply = signer.pay(body(quote.text(), type=job_type, inPixels=5))
    other = "fixed" if job_type != "fixed" else "live"

    refusal = signer.refused(body(quote.text(), type=other, state=reply["state"]))

    assert (refusal.status, str(refusal)) == (400, "job type mismatch")


@pytest.mark.parametrize("job_type", UNITS)
def test_a_max_price_is_per_the_unit_of_its_type(signer: Signer, quote: QuoteMaker, job_type: str) -> None:
    quote.pixels_per_unit = PIXELS_PER_SECOND if job_type == "lv2v" else 1
    ceiling = {"price": str(float(10 / quote.pixels_per_unit) * 2), "currency": "WEI "}
    ceiling["price"] = "10" if job_type != "lv2v" else "0.01"

    for unit in {*UNITS.values(), "hour"} - {UNITS[job_type]}:
        refusal = signer.refused(body(quote.text(), type=job_type, maxPrice={**ceiling, "unit": unit}))
        expected = f"maxPrice.unit must be {UNITS[job_type]} for payment type {job_type}"
        assert (refusal.status, str(refusal)) == (400, expected)
    right = {**ceiling, "unit": f" {UNITS[job_type].upper()}"}
    assert signer.pay(body(quote.text(), type=job_type, maxPrice=right))


def test_a_max_price_needs_a_type(signer: Signer, quote: QuoteMaker) -> None:
    ceiling = {"price": 10, "currency": "wei", "unit": "seconds"}

    refusal = signer.refused(body(quote.text(), type="", inPixels=5, maxPrice=ceiling))

    assert str(refusal) == "maxPrice requires payment type live, lv2v, or fixed"


def test_the_sdks_default_currency_and_unit_are_400(signer: Signer, quote: QuoteMaker) -> None:
    refusal = signer.refused(body(quote.text(), maxPrice={"price": 10, "currency": "usd", "unit": "hour"}))

    assert str(refusal) == "maxPrice.currency must be wei"


@pytest.mark.parametrize("price", [9.999, "9.999", "9999e-3"])
def test_a_price_above_the_requests_ceiling_is_481(signer: Signer, quote: QuoteMaker, price: Any) -> None:
    ceiling = {"price": price, "currency": "wei", "unit": "seconds"}

    refusal = signer.refused(body(quote.text(), maxPrice=ceiling))

    assert refusal.status == 481
    assert str(refusal) == "orchestrator price 10.000 exceeds request maxPrice ceiling 9.999"


def test_a_ceiling_that_float_would_round_is_exact(signer: Signer) -> None:
    quote = QuoteMaker(START, price_per_unit=10**17 + 1, pixels_per_unit=10**16)
    ceiling = {"price": "10.0000000000000001", "currency": "wei", "unit": "seconds"}

    assert signer.pay(body(quote.text(), maxPrice=ceiling))
    lower = {**ceiling, "price": "10.00000000000000009"}
    assert signer.refused(body(quote.text(), manifest_id="other", maxPrice=lower)).status == 481


def test_the_first_of_equal_ceilings_is_named(quote: QuoteMaker) -> None:
    signer = Signer(Limits(max_prices=MaxPrices(Fraction(9))))
    ceiling = {"price": 9, "currency": "wei", "unit": "seconds"}

    refusal = signer.refused(body(quote.text(), maxPrice=ceiling))

    assert "exceeds configured maximum price ceiling 9.000" in str(refusal)


def test_the_first_price_of_a_session_is_its_ceiling(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()))
    dearer, cheaper = QuoteMaker(START, price_per_unit=11), QuoteMaker(START, price_per_unit=9)
    signer.wait(3)

    refusal = signer.refused(body(dearer.text(), state=first["state"]))

    assert "initial session price ceiling 10.000" in str(refusal)
    lower = signer.pay(body(cheaper.text(), state=first["state"]))
    assert int(balance(signer, lower)) == 200 - 130  # billed at the first price all the same


def test_capabilities_choose_their_ceiling(quote: QuoteMaker) -> None:
    prices = MaxPrices(Fraction(100), {(35, "fast"): Fraction(9), (35, "default"): Fraction(10)})
    signer = Signer(Limits(max_prices=prices))

    refusal = signer.refused(body(quote.text(), **asking("fast")))

    assert str(refusal) == "orchestrator price 10.000 exceeds configured maximum price ceiling 9.000"
    assert signer.pay(body(quote.text(), manifest_id="a", **asking("slow")))
    assert signer.pay(body(quote.text(), manifest_id="b", **asking("any", capability=27)))


def test_capabilities_travel_in_the_segment_credentials(signer: Signer, quote: QuoteMaker) -> None:
    asked = asking("fast")

    reply = signer.pay(body(quote.text(), **asked))

    segment = SegData.FromString(b64decode(reply["segCreds"]))
    assert segment.capabilities.SerializeToString() == b64decode(asked["capabilities"])
    plain = signer.pay(body(quote.text(), manifest_id="other"))
    assert not SegData.FromString(b64decode(plain["segCreds"])).HasField("capabilities")


def test_an_app_with_brackets_is_escaped_in_the_state_as_go_does(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text(), app="<a&b>"))

    assert b'"App":"\\u003ca\\u0026b\\u003e"' in b64decode(reply["state"]["State"])
    signer.wait(10)
    assert signer.pay(body(quote.text(), app="<a&b>", state=reply["state"]))
