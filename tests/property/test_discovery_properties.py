"""Whatever orchestrators answer, what is listed obeys the rules, told once more and otherwise."""

import json
import math
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.discovery import OrchestratorsObserved
from contracts.livepeer.capabilities import MaxPrices
from contracts.livepeer.payments_pb2 import OrchestratorInfo
from services.discovery.domain import Answer, merge
from services.discovery.reading import UnusableAnswerError, read_info, read_listings
from services.discovery.snapshot import BYTES_MAX, encode
from services.edge.discovery import ObservedOrchestrators, OrchestratorsUnknownError

NOW = datetime(2031, 5, 17, 8, tzinfo=UTC)
RUNNER_CEILING = 100
URLS = ["https://one.example:8935", "https://one.example:8935/", "http://two.example", "https://[::1]:1"]
RUNNER_FIELDS = {"url", "gpu", "app", "version", "metadata", "mode", "price_info"} | {
    "capacity",
    "capacity_used",
    "capacity_available",
}

text = st.text(max_size=12) | st.sampled_from(
    ["a", "demo/echo", "\ufffd", "x" * 1025, "é" * 513, "\ud800", " "]
)
garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Something of the right type, seldom nothing, more seldom something absurd."""
    return st.integers(0, 59).flatmap(lambda n: garbage if n == 0 else st.none() if n < 3 else good)


def nearly(fine: st.SearchStrategy[dict[str, Any]], fields: dict[str, Any]) -> st.SearchStrategy[Any]:
    """An object that is fine but for some of its fields."""
    spoilt = st.fixed_dictionaries({}, optional={name: mostly(values) for name, values in fields.items()})
    return st.one_of(fine, st.tuples(fine, spoilt).map(lambda both: {**both[0], **both[1]}))


prices = nearly(
    st.just({"price": 5, "currency": "wei", "unit": "seconds"}),
    {
        "price": st.sampled_from([99.5, 100, 0, -1, 100.5, 101, 1e16, 10**400, 5e-324, "7", "1e9999"]),
        "currency": st.sampled_from([" WEI", "usd", ""]),
        "unit": st.sampled_from(["Fixed ", "720p-pixel-seconds", "hour"]),
        "more": garbage,
    },
)
runners = nearly(
    st.fixed_dictionaries({"url": st.sampled_from(["u1", "u2"]), "app": text, "price_info": prices}),
    {
        "url": st.just(""),
        "app": st.sampled_from(["", " ", "x" * 257]),
        "metadata": st.sampled_from(["a\ufffdb", "\ud800", "x" * 1025, "é" * 513, "é" * 512]),
        "version": text,
        "mode": text,
        "capacity": st.integers(0, 9),
        "gpu": st.fixed_dictionaries({"name": text, "vram_mb": st.integers(0, 99)}),
        "evil": garbage,
    },
)
entries = nearly(
    st.fixed_dictionaries(
        {"address": st.sampled_from(URLS), "runners": st.lists(runners, min_size=1, max_size=4)}
    ),
    {"address": text, "runners": st.lists(mostly(runners)), "capabilities": garbage, "score": garbage},
)
documents = st.lists(entries, max_size=3).map(lambda one: json.dumps(one).encode())


amounts = st.tuples(st.sampled_from([5, 7, 8, 300, 0, -1]), st.sampled_from([1, 1, 2, 0, -1]))
models = st.tuples(st.sampled_from([35, 35, 27, 0, 13, 99]), st.sampled_from(["fast", "fast", "slow", ""]))


@st.composite
def infos(draw: st.DrawFn) -> bytes:
    info = OrchestratorInfo(transcoder=draw(st.sampled_from([*URLS, ""])), address=b"\x01" * 20)
    info.price_info.price_per_unit, info.price_info.pixels_per_unit = draw(amounts)
    for (capability, model), (price, pixels) in draw(st.dictionaries(models, amounts, min_size=1)).items():
        info.capabilities.constraints.per_capability[capability].models[model].warm = True
        info.capabilities_prices.add(
            price_per_unit=price, pixels_per_unit=pixels, capability=capability, constraint=model
        )
    return info.SerializeToString()


mostly_infos = st.integers(0, 9).flatmap(lambda n: st.binary(max_size=64) if n == 0 else infos())


@settings(max_examples=500)
@given(st.lists(st.tuples(mostly_infos, documents), max_size=4))
@example([])
def test_the_snapshot_obeys_the_rules_whatever_comes(answered: list[tuple[bytes, bytes]]) -> None:
    ceilings = MaxPrices(Fraction(RUNNER_CEILING), {(35, "fast"): Fraction(7)})
    answers = [answer for info, document in answered if (answer := read(info, document, ceilings))]

    entry, left_out = encode(merge(answers, ceilings.general).orchestrators, NOW)

    assert len(entry) <= BYTES_MAX
    assert left_out == 0
    OrchestratorsObserved.model_validate_json(entry)
    check_listed(entry)


def read(info: bytes, document: bytes, ceilings: MaxPrices) -> Answer | None:
    try:
        known = read_info(info, ceilings)
    except UnusableAnswerError:
        return None
    try:
        return Answer(known.address, known.offers, read_listings(document))
    except UnusableAnswerError:
        return Answer(known.address, known.offers)


def check_listed(entry: bytes) -> None:
    """What a client sees, judged without any of the code that made it."""
    try:
        listed = json.loads(ObservedOrchestrators(_Bucket(entry)).find([]))
    except OrchestratorsUnknownError:
        return
    addresses = [one["address"].rstrip("/") for one in listed]
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith(("http://", "https://")) for address in addresses)
    for one in listed:
        assert set(one) <= {"address", "score", "capabilities", "runners"}
        assert one["capabilities"] == sorted(set(one["capabilities"]))
        assert one["capabilities"]
        found = one.get("runners", [])
        assert len({runner["url"] for runner in found}) == len(found)
        for runner in found:
            check_runner(runner, one["capabilities"])


def check_runner(runner: dict[str, Any], capabilities: list[str]) -> None:
    assert set(runner) <= RUNNER_FIELDS
    assert runner["url"]
    assert runner["app"].strip()
    assert runner["app"] in capabilities
    metadata = runner.get("metadata", "")
    assert len(metadata.encode()) <= 1024
    assert "\ufffd" not in metadata
    price = runner["price_info"]
    assert set(price) == {"price", "currency", "unit"}
    assert isinstance(price["price"], (int, float))
    assert math.isfinite(price["price"])
    assert 0 < price["price"] <= RUNNER_CEILING
    assert price["currency"].strip().lower() == "wei"
    assert price["unit"].strip().lower() in {"seconds", "720p-pixel-seconds", "fixed"}


@given(st.lists(st.tuples(infos(), documents), max_size=3))
def test_offers_keep_their_ceilings(answered: list[tuple[bytes, bytes]]) -> None:
    ceilings = MaxPrices(None, {(35, "fast"): Fraction(7)})
    answers = [answer for info, _ in answered if (answer := read(info, b"[]", ceilings))]

    for one in merge(answers, None).orchestrators:
        told = [OrchestratorInfo.FromString(info) for info, _ in answered]
        mine = [info for info in told if info.transcoder.rstrip("/") == one.address.rstrip("/")]
        if "live-video-to-video/fast" in one.capabilities:
            assert any(_cheap(info) for info in mine)


def _cheap(info: OrchestratorInfo) -> bool:
    own = [
        (price.price_per_unit, price.pixels_per_unit)
        for price in info.capabilities_prices
        if (price.capability, price.constraint) == (35, "fast") and price.pixels_per_unit > 0
    ]
    general = (info.price_info.price_per_unit, info.price_info.pixels_per_unit)
    price, pixels = own[0] if own else general
    return pixels > 0 and price <= 7 * pixels


class _Bucket:
    def __init__(self, entry: bytes) -> None:
        self._entry = entry

    def get(self, _: str) -> bytes:
        return self._entry
