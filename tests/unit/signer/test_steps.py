"""The steps of protocol §1.4: what each answers, and that the first that does not pass answers."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from services.signer.rules import Limits
from shared.money import Wei
from tests.quotes import L1_BLOCK, QuoteMaker, body, chain_view
from tests.unit.signer.client import START, Signer

WIRE = "remote signer could not check whether to refresh session: "


@dataclass
class Attempt:
    """A second payment of a session, which the signer would sign; each step can be broken."""

    signer: Signer
    quote: QuoteMaker
    message: Any
    fields: dict[str, Any] = field(default_factory=dict)
    orchestrator: str | None = None
    prefix: str = ""

    def text(self) -> str:
        self.quote.now = self.signer.now
        content = json.loads(body(self.quote.text(), state=self.message["state"]))
        content |= self.fields
        if self.orchestrator is not None:
            content["orchestrator"] = self.orchestrator
        return self.prefix + json.dumps({key: value for key, value in content.items() if value is not ...})


@pytest.fixture
def attempt(signer: Signer, quote: QuoteMaker) -> Attempt:
    reply = signer.pay(body(quote.text()))
    signer.wait(10)
    return Attempt(signer, quote, reply)


def set_field(**fields: Any) -> Callable[[Attempt], None]:
    return lambda attempt: attempt.fields.update(fields)


def set_quote(**fields: Any) -> Callable[[Attempt], None]:
    def change(attempt: Attempt) -> None:
        for name, value in fields.items():
            setattr(attempt.quote, name, value)

    return change


def other_orchestrator(attempt: Attempt) -> None:
    attempt.quote.address = bytes(20)


def no_deposit(attempt: Attempt) -> None:
    attempt.signer.chain = chain_view(attempt.signer.now, deposit=0)


def not_json(attempt: Attempt) -> None:
    attempt.prefix = "?"


def no_protobuf(attempt: Attempt) -> None:
    attempt.orchestrator = "AAAA"


def broken_state(attempt: Attempt) -> None:
    attempt.message = {"state": {"State": "e30=", "Sig": "AAAA"}}


# Steps that no later one can hide: a broken orchestrator has no price, and so on.
STEPS: list[tuple[str, Callable[[Attempt], None], int, str]] = [
    ("2 not JSON", not_json, 400, "body is not JSON"),
    ("2 wrong type", set_field(inPixels=1.5), 400, "inPixels must be a whole number"),
    ("3", set_field(orchestrator=""), 400, "missing orchestrator"),
    ("4", no_protobuf, 400, "orchestrator: "),
    ("5", set_quote(price_per_unit=0), 400, "missing or zero priceInfo"),
    ("6 lengths", set_quote(recipient=bytes(21)), 400, "ticketParams recipient must have 20 bytes"),
    ("7 sig", broken_state, 400, "invalid sig"),
    ("7 orchestrator", other_orchestrator, 400, "orchestratorAddress mismatch"),
    ("7 app", set_field(app="another"), 400, "app mismatch"),
    ("7 type", set_field(type="lv2v"), 400, "job type mismatch"),
    ("8", set_field(ManifestID=...), 400, "missing manifestID"),
    ("9", set_field(capabilities="/w=="), 400, "capabilities: "),
    ("11 token", set_quote(auth_seconds=179), 480, "refresh session for remote signer"),
    ("11 a", set_quote(expiration_block=0), 400, WIRE + "ticketParams expiration block is 0"),
    ("11 d", set_quote(ev=1000), 400, WIRE + "ticket faceValue too low"),
    ("11 f", no_deposit, 400, WIRE + "no sender deposit"),
    (
        "13 price",
        set_field(maxPrice={"price": 0, "currency": "usd", "unit": "hour"}),
        400,
        "maxPrice.price must be a positive decimal",
    ),
    (
        "13 currency",
        set_field(maxPrice={"price": 1, "currency": "usd", "unit": "hour"}),
        400,
        "maxPrice.currency must be wei",
    ),
    (
        "13 unit",
        set_field(maxPrice={"price": 1, "currency": "wei", "unit": "hour"}),
        400,
        "maxPrice.unit must be seconds for payment type live",
    ),
    (
        "15",
        set_quote(price_per_unit=11),
        481,
        "orchestrator price 11.000 exceeds initial session price ceiling 10.000",
    ),
    ("16", set_quote(ev=2, face_value=20, recipient_rand_hash=bytes(32)), 400, ""),
]
# Breaking both would repair or replace one of them: they set the same thing.
EXCLUSIVE = [{"3", "4"}, {"5", "15"}, {"11 d", "16"}, {"13 price", "13 currency", "13 unit"}]
ORDER = [
    pytest.param(first, second, id=f"{first[0]}, {second[0]}")
    for place, first in enumerate(STEPS)
    for second in STEPS[place + 1 :]
    if not any({first[0], second[0]} <= same for same in EXCLUSIVE)
]
type Step = tuple[str, Callable[[Attempt], None], int, str]


def test_the_attempt_itself_is_signed(attempt: Attempt) -> None:
    attempt.signer.pay(attempt.text())


@pytest.mark.parametrize("step", [pytest.param(step, id=step[0]) for step in STEPS[:-1]])
def test_each_step_answers_in_go_livepeers_words(attempt: Attempt, step: Step) -> None:
    _, break_it, status, text = step
    break_it(attempt)

    refusal = attempt.signer.refused(attempt.text())

    assert refusal.status == status
    assert str(refusal).startswith(text)
    assert (refusal.orchestrator_url is not None) == (status == 480)


@pytest.mark.parametrize(("first", "second"), ORDER)
def test_of_two_mistakes_the_first_step_answers(attempt: Attempt, first: Step, second: Step) -> None:
    second[1](attempt)
    first[1](attempt)

    refusal = attempt.signer.refused(attempt.text())

    assert (refusal.status, str(refusal).startswith(first[3])) == (first[2], True)


@pytest.mark.parametrize("missing", ["price_info", "ticket_params"])
def test_a_quote_without_price_or_params(
    signer: Signer, quote: QuoteMaker, missing: Literal["price_info", "ticket_params"]
) -> None:
    message = quote.message()
    message.ClearField(missing)
    texts = {
        "price_info": "missing or zero priceInfo",
        "ticket_params": "missing ticketParams in OrchestratorInfo",
    }

    assert str(signer.refused(body(quote.encoded(message)))) == texts[missing]


def test_a_quote_without_auth_token(signer: Signer, quote: QuoteMaker) -> None:
    message = quote.message()
    message.ClearField("auth_token")

    assert str(signer.refused(body(quote.encoded(message)))) == WIRE + "missing auth token"


def test_the_cap_of_one_ticket_is_told_with_five_decimals(signer: Signer) -> None:
    quote = QuoteMaker(START, ev=3 * 10**12 + 1, face_value=10**16)

    expected = "ticket EV 3000000000001.00000 > max ticket EV 3000000000000.00000"
    assert str(signer.refused(body(quote.text()))) == WIRE + expected


def test_the_total_cap_is_400_for_one_ticket_and_500_for_the_real_number(quote: QuoteMaker) -> None:
    one = Signer(Limits(max_total_ev=Wei(99)))
    several = Signer(Limits(max_total_ev=Wei(150)))
    quote.price_per_unit = 20  # two tickets

    single, batch = one.refused(body(quote.text())), several.refused(body(quote.text()))

    assert (single.status, str(single)) == (
        400,
        WIRE + "total ticket EV 100.00000 for 1 tickets > max total ticket EV 99.00000",
    )
    assert (batch.status, str(batch)) == (
        500,
        "total ticket EV 200.00000 for 2 tickets > max total ticket EV 150.00000",
    )


def test_the_face_value_may_be_the_deposit_by_the_multiplier() -> None:
    signer = Signer(Limits(deposit_multiplier=10))
    highest, over = (QuoteMaker(START, face_value=10**17 + more) for more in (0, 1))

    refusal = signer.refused(body(over.text()))

    assert str(refusal) == f"{WIRE}ticket faceValue {10**17 + 1} > max faceValue {10**17}"
    assert signer.pay(body(highest.text(), manifest_id="other"))


@pytest.mark.parametrize(("ahead", "status"), [(1, 480), (51, 400)])
def test_params_that_expire_too_soon_or_too_late(signer: Signer, ahead: int, status: int) -> None:
    quote = QuoteMaker(START, expiration_block=L1_BLOCK + ahead)

    assert signer.refused(body(quote.text())).status == status


@pytest.mark.parametrize("ahead", [2, 50])
def test_params_at_the_edges_of_their_life_are_signed(signer: Signer, ahead: int) -> None:
    assert signer.pay(body(QuoteMaker(START, expiration_block=L1_BLOCK + ahead).text()))


def test_a_token_is_good_until_three_minutes_before_its_end(signer: Signer) -> None:
    assert signer.refused(body(QuoteMaker(START, auth_seconds=179).text())).status == 480
    assert signer.pay(body(QuoteMaker(START, auth_seconds=180).text()))


def test_482_when_nothing_is_due(attempt: Attempt) -> None:
    attempt.quote.ev, attempt.quote.face_value = 500, 5000
    attempt.quote.recipient_rand_hash = b"\7" * 32
    reply = attempt.signer.pay(attempt.text())
    attempt.message = reply
    attempt.fields = {"app": ...}
    paid = attempt.signer.pay(attempt.text())
    attempt.message = paid

    refusal = attempt.signer.refused(attempt.text())

    assert (refusal.status, str(refusal)) == (482, "no tickets")


def test_a_first_request_for_a_session_that_is_another_orchestrators(
    signer: Signer, quote: QuoteMaker
) -> None:
    """The same ManifestID and params under another address: nothing is booked to the wrong one."""
    signer.pay(body(quote.text()))
    quote.address = bytes(20)

    refusal = signer.refused(body(quote.text()))

    assert (refusal.status, str(refusal)) == (400, "orchestratorAddress mismatch")
