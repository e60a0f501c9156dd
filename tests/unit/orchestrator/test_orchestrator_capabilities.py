"""Capabilities: which jobs fit this orchestrator, and what is asked for the models they name."""

from fractions import Fraction
from typing import Any

import pytest

from contracts.livepeer import payments_pb2 as pb
from tests.unit.orchestrator.world import PIXEL_PRICE, PIXELS_PER_PRICE, models
from tilt.orchestrator.capabilities import are_compatible, bitstring
from tilt.orchestrator.offer import Offer
from tilt.orchestrator.terms import Price

OFFER = Offer(base_price=Price(7), models={model.key: model for model in models()})
OURS = OFFER.requirements()
LIVE_VIDEO, BYOC = 35, 37


def wanted(
    bits: list[int] | None = None,
    *,
    capability: int = LIVE_VIDEO,
    min_version: str = "",
    **by_name: dict[str, Any],
) -> pb.Capabilities:
    message = pb.Capabilities(bitstring=bits or [], constraints=pb.Constraints(min_version=min_version))
    for name, constraint in by_name.items():
        message.capacities[capability] = 1
        model = message.constraints.per_capability[capability].models[name]
        model.MergeFrom(pb.ModelConstraint(**constraint))
    return message


@pytest.mark.parametrize(
    "job",
    [
        pb.Capabilities(),
        wanted([1 << 12 | 1 << 35]),
        wanted([1 | 1 << 26 | 1 << 37]),
        wanted([0]),
        wanted(flow={}),
        wanted(flow={"warm": True}),
        wanted(flow={"runner_version": "1.2.3"}),
        wanted(flow={"runner_version": "1.2.3-newer"}),
        wanted(flow={"runner_version": "0.99.99"}),
        wanted(flow={"runner_version": "not a version"}),
        wanted(cold={}),
        wanted(min_version="0.9.0"),
        wanted(min_version="0.8.10"),
        wanted(min_version="v0.9"),
        wanted(capability=27, anything={"warm": True, "runner_version": "9.9.9"}),
    ],
)
def test_jobs_that_fit(job: pb.Capabilities) -> None:
    assert are_compatible(job, OURS)


@pytest.mark.parametrize(
    "job",
    [
        wanted([1 << 15]),
        wanted([1 << 63]),
        wanted([1 << 12, 0]),
        wanted([0, 1]),
        wanted(other={}),
        wanted(cold={"warm": True}),
        wanted(flow={"runner_version": "1.2.4"}),
        wanted(flow={"runner_version": "1.10.0"}),
        wanted(cold={"runner_version": "0.0.1"}),
        wanted(flow={}, other={}),
        wanted(min_version="0.9.1"),
        wanted(min_version="0.10.0"),
    ],
)
def test_jobs_that_do_not_fit(job: pb.Capabilities) -> None:
    assert not are_compatible(job, OURS)


def test_what_we_insist_on_has_to_be_asked_for() -> None:
    strict = pb.Capabilities()
    strict.CopyFrom(OURS)
    strict.mandatories.extend(bitstring([12]))

    assert not are_compatible(pb.Capabilities(), strict)
    assert not are_compatible(wanted([1 << 35]), strict)
    assert are_compatible(wanted([1 << 12]), strict)


@pytest.mark.parametrize("version", ["", "undefined", "garbled"])
def test_an_orchestrator_without_a_version_is_too_old_for_whoever_minds(version: str) -> None:
    ours = pb.Capabilities(version=version)

    assert are_compatible(pb.Capabilities(), ours)
    assert not are_compatible(wanted(min_version="0.0.1"), ours)


def test_bits_lie_in_words_of_64() -> None:
    assert bitstring([]) == []
    assert bitstring([0, 63]) == [1 | 1 << 63]
    assert bitstring([64]) == [0, 1]
    assert OURS.bitstring == bitstring([*range(13), 14, 26, 35, 37])


def test_the_price_is_the_sum_over_models_that_have_one() -> None:
    own = Fraction(PIXEL_PRICE, PIXELS_PER_PRICE)

    assert OFFER.price(wanted(flow={})).fraction == own
    assert OFFER.price(wanted(flow={}, cold={})).fraction == own + 5
    assert OFFER.price(wanted(flow={}, other={})).fraction == own
    assert OFFER.price(wanted(capability=BYOC, tool={})).fraction == 3


@pytest.mark.parametrize("job", [None, pb.Capabilities(), wanted([1 << 35]), wanted(other={})])
def test_who_names_no_priced_model_pays_the_base_price(job: pb.Capabilities | None) -> None:
    assert OFFER.price(job) == Price(7)


def test_models_count_only_where_their_capability_has_a_capacity() -> None:
    job = wanted(flow={})
    job.capacities.clear()

    assert OFFER.price(job) == Price(7)


def test_prices_are_told_per_capability_and_model() -> None:
    told = [(price.capability, price.constraint, price.price_per_unit) for price in OFFER.prices()]

    assert told == [(35, "flow", PIXEL_PRICE), (35, "cold", 5), (37, "tool", 3)]


def test_capabilities_tell_who_has_room() -> None:
    message = OFFER.capabilities(lambda key: 1 if key == "live-video-to-video/flow" else 0)

    flow = message.constraints.per_capability[LIVE_VIDEO].models["flow"]
    cold = message.constraints.per_capability[LIVE_VIDEO].models["cold"]
    assert (flow.capacity, flow.capacity_in_use, flow.warm, flow.runner_version) == (1, 1, True, "1.2.3")
    assert (cold.capacity, cold.capacity_in_use, cold.warm) == (10, 0, False)
