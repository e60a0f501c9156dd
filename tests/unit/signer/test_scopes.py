"""What keys, tokens, users and accounts may pay for: at each level, with each status, on both sides."""

import json
from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest

from contracts.livepeer.payments_pb2 import Capabilities
from services.signer.rules import Limits
from services.signer.timeline import view
from services.signer.watched_rules import WatchedRules
from shared.money import Wei
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import START, Signer, state_of
from tests.unit.signer.rules_bucket import ACCOUNT, SCOPES, WHO, RulesBucket

WIRE = "remote signer could not check whether to refresh session: "
APP, RECIPIENT = "demo/echo", "0x" + "00" * 19 + "08"
LIVE_VIDEO, TEXT_TO_IMAGE = 35, 27
# A rule that allows what these tests ask for, one that does not, and what is told then.
RULES: list[tuple[str, Any, Any, str]] = [
    ("job_types", ["fixed", "live"], ["lv2v", ""], "job type 'live'"),
    ("apps", [APP, "b"], ["b"], "app 'demo/echo'"),
    ("recipients", [RECIPIENT], ["0x" + "00" * 20], f"recipient {RECIPIENT}"),
    (
        "capabilities",
        ["live-video-to-video/a", "llm"],
        ["live-video-to-video/b", "llm"],
        "capability live-video-to-video/a",
    ),
]


@pytest.fixture
def bucket() -> RulesBucket:
    return RulesBucket()


@pytest.fixture
def limited(bucket: RulesBucket) -> Signer:
    return bucket.signer()


def capabilities(*models: tuple[int, str], listed: tuple[int, ...] = (), bits: tuple[int, ...] = ()) -> str:
    """As a request names them, in base64."""
    message = Capabilities()
    for capability, model in models:
        message.constraints.per_capability[capability].models[model].SetInParent()
    for capability in listed:
        message.capacities[capability] = 1
    message.bitstring.extend(bits)
    return b64encode(message.SerializeToString(deterministic=True)).decode()


def request(quote: QuoteMaker, *, manifest_id: str = "1a2b3c4d", **fields: Any) -> str:
    asked = {"app": APP, "capabilities": capabilities((LIVE_VIDEO, "a")), **fields}
    return body(quote.text(), manifest_id=manifest_id, **asked)


@pytest.mark.parametrize("level", SCOPES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[0])
def test_a_list_allows_what_it_names_and_no_more(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker, level: str, rule: tuple[str, Any, Any, str]
) -> None:
    name, allowing, forbidding, told = rule
    bucket.limit(level, **{name: forbidding})

    refusal = limited.refused(request(quote), **WHO)

    expected = "key_scope" if level in {"key", "token"} else "not_allowed"
    assert (refusal.status, refusal.reason) == (403, expected)
    assert str(refusal) == f"{told} is not allowed for this {level}"
    assert refusal.retry_after_seconds is None
    bucket.limit(level, **{name: allowing})
    assert limited.pay(request(quote), **WHO)
    bucket.limit(level, **{name: []})
    assert limited.refused(request(quote), **WHO).reason == expected


def test_the_strictest_level_decides(bucket: RulesBucket, limited: Signer, quote: QuoteMaker) -> None:
    for level in SCOPES:
        bucket.limit(level, apps=[APP])
    assert limited.pay(request(quote), **WHO)

    bucket.limit("token", apps=["another"])

    assert limited.refused(request(quote), **WHO).reason == "key_scope"


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("", True),  # who asks for nothing asks for nothing else
        (capabilities((LIVE_VIDEO, "a")), True),
        (capabilities((LIVE_VIDEO, "a"), listed=(LIVE_VIDEO,), bits=(1 << LIVE_VIDEO,)), True),
        (capabilities((LIVE_VIDEO, "b")), False),
        (capabilities((LIVE_VIDEO, "a"), (LIVE_VIDEO, "b")), False),
        (capabilities(listed=(LIVE_VIDEO,)), False),  # any model of it
        (capabilities(bits=(1 << LIVE_VIDEO,)), False),
        (capabilities((TEXT_TO_IMAGE, "x/y")), True),  # a whole pipeline is allowed
        (capabilities(listed=(TEXT_TO_IMAGE,)), True),
        (capabilities(bits=(1 << 11 | 1,)), True),  # codecs
        (capabilities(listed=(99,)), False),  # has no name
        (capabilities(bits=(0,) * 5000 + (1,)), False),
        (capabilities(bits=(0,) * 5000), True),
    ],
)
def test_every_capability_and_model_asked_for_has_to_be_allowed(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker, asked: str, *, allowed: bool
) -> None:
    bucket.limit("key", capabilities=["live-video-to-video/a", "text-to-image", "no-such-pipeline"])

    outcome = limited.ask(request(quote, capabilities=asked))

    assert isinstance(outcome, str) == allowed


@pytest.mark.parametrize(
    ("level", "reason"),
    [("key", "key_expired"), ("token", "key_expired"), ("account", "not_allowed"), ("user", "not_allowed")],
)
def test_an_expired_one_pays_nothing(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker, level: str, reason: str
) -> None:
    bucket.limit(level, expires_at=START + timedelta(seconds=10))
    limited.wait(9.999999)
    assert limited.pay(request(quote), **WHO)

    limited.wait(0.000001)

    refusal = limited.refused(request(quote), **WHO)
    assert (refusal.status, refusal.reason, str(refusal)) == (403, reason, f"this {level} has expired")


@pytest.mark.parametrize("level", SCOPES)
def test_requests_without_an_app_are_allowed_where_the_list_says_so(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker, level: str
) -> None:
    bucket.limit(level, apps=[APP])
    assert str(limited.refused(request(quote, app=""), **WHO)).startswith("app '' is not allowed")

    bucket.limit(level, apps=[APP, ""])

    assert limited.pay(request(quote, app="", manifest_id="5e6f7a8b"), **WHO)
    assert limited.pay(request(quote), **WHO)
    assert limited.refused(request(quote, app="another"), **WHO).status == 403


def test_the_scope_is_asked_after_what_cannot_be_read_and_before_what_cannot_be_signed(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker
) -> None:
    bucket.limit("key", apps=["another"], capabilities=["llm"])
    quote.auth_seconds = 0  # 480
    limited.chain = None  # 503

    unreadable = [
        request(quote, inPixels=1.5),
        body("AAAA", app=APP),
        request(quote, state={"State": "e30=", "Sig": "AAAA"}),
    ]

    assert [limited.refused(text).status for text in unreadable] == [400] * 3
    assert limited.refused(request(quote)).status == 403
    assert limited.refused(request(quote, app="another", capabilities="/w==")).status == 400


def test_a_refusal_by_scope_is_on_the_timeline(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker
) -> None:
    reply = limited.pay(request(quote))
    bucket.limit("key", apps=["another"])

    limited.refused(request(quote, state=reply["state"]))

    summary = view(limited.signing, ACCOUNT, state_of(reply)["StateID"]).summary
    assert summary.endswith("refused with 403 (key_scope): app 'demo/echo' is not allowed for this key")


@pytest.mark.parametrize("level", SCOPES)
def test_the_ev_of_a_ticket_may_be_the_limit_but_not_more(
    bucket: RulesBucket, limited: Signer, level: str
) -> None:
    quote = QuoteMaker(START, ev=3, face_value=10**6)
    exact = QuoteMaker(START, ev=2, face_value=10**6)
    bucket.limit(level, ticket_ev_max_wei=3)  # the least probability that is worth 3 is worth a bit more

    refusal = limited.refused(request(quote), **WHO)

    assert (refusal.status, refusal.reason) == (400, "bad_request")
    assert str(refusal) == f"{WIRE}ticket EV 3.00000 > max ticket EV 3.00000"
    assert limited.pay(request(exact, manifest_id="other"), **WHO)


@pytest.mark.parametrize("level", SCOPES)
def test_the_face_value_may_be_the_limit_but_not_more(
    bucket: RulesBucket, limited: Signer, level: str
) -> None:
    bucket.limit(level, ticket_face_value_max_wei=1000)
    highest, over = (QuoteMaker(START, face_value=1000 + more) for more in (0, 1))

    refusal = limited.refused(request(over), **WHO)

    assert str(refusal) == f"{WIRE}ticket faceValue 1001 > max faceValue 1000"
    assert refusal.status == 400
    assert limited.pay(request(highest, manifest_id="other"), **WHO)


def test_a_face_value_limit_over_the_deposit_frees_nothing(bucket: RulesBucket, limited: Signer) -> None:
    bucket.limit("key", ticket_face_value_max_wei=10**30)
    quote = QuoteMaker(START, face_value=10**18 + 1)

    assert str(limited.refused(request(quote))).endswith(f"> max faceValue {10**18}")


def test_of_ticket_limits_the_tightest_holds(bucket: RulesBucket, quote: QuoteMaker) -> None:
    signer = Signer(Limits(max_ticket_ev=Wei(99)), permits=WatchedRules(bucket, bucket))
    bucket.limit("account", ticket_ev_max_wei=10**6, ticket_face_value_max_wei=10**18)
    assert str(signer.refused(request(quote))).endswith("> max ticket EV 99.00000")

    bucket.limit("key", ticket_ev_max_wei=98, ticket_face_value_max_wei=0)
    assert str(signer.refused(request(quote))).endswith("> max ticket EV 98.00000")

    bucket.limit("account", ticket_ev_max_wei=0)
    assert str(signer.refused(request(quote))).endswith("> max ticket EV 0.00000")


@pytest.mark.parametrize("level", SCOPES)
@pytest.mark.parametrize(
    ("prices", "highest"),
    [
        ({"live": "20"}, "20"),
        ({"live-video-to-video": "20"}, "20"),
        ({"live-video-to-video/a": "41/2"}, "20.5"),
        ({"live-video-to-video/a": "20", "live-video-to-video": "7"}, "20"),
        ({"live": "21", "live-video-to-video/a": "20"}, "20"),  # each is a ceiling
        ({"live": "20", "live-video-to-video/a": "21"}, "20"),
    ],
)
def test_a_price_may_be_the_limit_but_not_more(
    bucket: RulesBucket, limited: Signer, level: str, prices: dict[str, str], highest: str
) -> None:
    bucket.limit(level, prices_max=prices)
    parts = int(float(highest) * 2)
    exact = QuoteMaker(START, price_per_unit=parts, pixels_per_unit=2)
    over = QuoteMaker(START, price_per_unit=parts * 1000 + 1, pixels_per_unit=2000)

    refusal = limited.refused(request(over), **WHO)

    assert (refusal.status, refusal.reason) == (481, "price_above_limit")
    assert f"exceeds {level} limit ceiling {float(highest):.3f}" in str(refusal)
    assert limited.pay(request(exact, manifest_id="other"), **WHO)


def test_ceilings_of_several_models_add_up(bucket: RulesBucket, limited: Signer) -> None:
    prices = {"live-video-to-video/a": "5", "text-to-image": "1/3"}
    bucket.limit("key", prices_max=prices)
    asked = capabilities((LIVE_VIDEO, "a"), (TEXT_TO_IMAGE, "x"), (TEXT_TO_IMAGE, "y"), (33, "unpriced"))
    exact = QuoteMaker(START, price_per_unit=17, pixels_per_unit=3)
    over = QuoteMaker(START, price_per_unit=17_001, pixels_per_unit=3_000)

    assert limited.refused(request(over, capabilities=asked)).reason == "price_above_limit"
    assert limited.pay(request(exact, capabilities=asked))


@pytest.mark.parametrize("name", ["live", "live-video-to-video", "live-video-to-video/a"])
def test_a_price_of_nothing_forbids(bucket: RulesBucket, limited: Signer, name: str) -> None:
    bucket.limit("key", prices_max={name: "0", "lv2v": "100", "llm": "100"})

    refusal = limited.refused(request(QuoteMaker(START, price_per_unit=1)))

    assert refusal.reason == "price_above_limit"


def test_prices_of_other_jobs_do_not_hold(bucket: RulesBucket, limited: Signer, quote: QuoteMaker) -> None:
    bucket.limit("key", prices_max={"lv2v": "0", "": "0", "llm": "0", "live-video-to-video/b": "0"})

    assert limited.pay(request(quote))


def test_the_lowest_ceiling_is_told_and_of_equals_the_clients_own(
    bucket: RulesBucket, limited: Signer
) -> None:
    quote = QuoteMaker(START, price_per_unit=11)
    asked = {"price": 10, "currency": "wei", "unit": "seconds"}
    bucket.limit("account", prices_max={"live": "10"})

    refusal = limited.refused(request(quote, maxPrice=asked))
    assert (refusal.reason, "request maxPrice" in str(refusal)) == ("price_too_high", True)
    bucket.limit("account", prices_max={"live": "9"})
    refusal = limited.refused(request(quote, maxPrice=asked))
    assert (refusal.reason, "account limit" in str(refusal)) == ("price_above_limit", True)


def test_a_price_limit_holds_for_a_session_that_runs(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker
) -> None:
    reply = limited.pay(request(quote))
    limited.wait(10)
    bucket.limit("key", prices_max={"live": "9"})

    refusal = limited.refused(json.dumps(json.loads(request(quote)) | {"state": reply["state"]}))

    assert (refusal.status, refusal.reason) == (481, "price_above_limit")
