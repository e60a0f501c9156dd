"""GetOrchestrator: who is quoted, at which price, and what else is told."""

from fractions import Fraction
from typing import Any

import pytest

from contracts.livepeer import payments_pb2 as pb
from tests.unit.orchestrator.wire import Payer, expected_value
from tests.unit.orchestrator.world import (
    EV,
    KEY,
    PIXEL_PRICE,
    PIXELS_PER_PRICE,
    RECIPIENT,
    Stage,
    sdk_message,
)
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.service import Service
from tilt.orchestrator.sessions import Session

pytestmark = pytest.mark.anyio

LIVE_VIDEO = 35


async def ask(stage: Stage, **fields: Any) -> Any:
    """Ask in the SDK's messages, and read the answer in them."""
    await stage.orchestrator.look_at_chain()
    raw = stage.payer.orchestrator_request(**fields).SerializeToString()
    request = pb.OrchestratorRequest.FromString(raw)
    return sdk_message(await Service(stage.orchestrator, KEY).get_orchestrator(request))


def wanting(*names: str) -> Any:
    message = pb.Capabilities(capacities={LIVE_VIDEO: 1})
    for name in names:
        message.constraints.per_capability[LIVE_VIDEO].models[name].SetInParent()
    return sdk_capabilities(message)


def sdk_capabilities(message: pb.Capabilities) -> Any:
    return sdk_message(pb.OrchestratorInfo(capabilities=message)).capabilities


async def test_whoever_proves_its_address_is_quoted_in_full(stage: Stage) -> None:
    info = await ask(stage)

    assert info.address == info.ticket_params.recipient == RECIPIENT
    assert info.transcoder == stage.orchestrator.url
    assert (info.price_info.pricePerUnit, info.price_info.pixelsPerUnit) == (7, 1)
    assert EV <= expected_value(info.ticket_params) < EV + 1
    assert info.auth_token.expiration == int(stage.clock.now) + 1800
    assert len(info.capabilities_prices) == len(info.hardware) == 3
    assert info.capabilities.version == "0.9.0"


async def test_params_are_bound_to_the_sender_and_the_price(stage: Stage) -> None:
    info = await ask(stage, capabilities=wanting("flow"))

    await stage.orchestrator.look_at_chain()
    stranger = Payer("0x" + "11" * 32)
    payment, segment = stranger.headers(info, [1]).values()
    with pytest.raises(RefusedError, match="invalid recipientRand"):
        await stage.open(payment, segment)
    payment, segment = stage.payer.headers(info, [1]).values()
    assert (await stage.open(payment, segment)).price == Fraction(PIXEL_PRICE, PIXELS_PER_PRICE)


async def test_a_model_that_is_named_is_priced_and_nothing_else_told(stage: Stage) -> None:
    info = await ask(stage, capabilities=wanting("flow"), ignoreCapacityCheck=True)

    price = info.price_info
    assert (price.pricePerUnit, price.pixelsPerUnit) == (PIXEL_PRICE, PIXELS_PER_PRICE)
    assert not info.capabilities_prices
    assert not info.hardware
    assert info.capabilities.constraints.PerCapability[LIVE_VIDEO].models["flow"].warm


@pytest.mark.parametrize("names", [["flow"], ["no-such-model"]])
async def test_without_room_there_is_a_quote_only_for_who_does_not_mind(
    stage: Stage, names: list[str]
) -> None:
    for number in range(2):
        _stream(stage, f"{number:08x}")

    with pytest.raises(RefusedError, match="OrchestratorCapped"):
        await ask(stage, capabilities=wanting(*names))
    minding_not = await ask(stage, capabilities=wanting(*names), ignoreCapacityCheck=True)
    either = await ask(stage, capabilities=wanting(*names, "cold"))

    assert minding_not.auth_token
    assert either.auth_token


async def test_capacity_is_not_looked_at_for_other_jobs(stage: Stage) -> None:
    assert (await ask(stage, capabilities=sdk_capabilities(pb.Capabilities(bitstring=[1])))).auth_token


@pytest.mark.parametrize(
    "forged",
    [{"sig": b""}, {"sig": bytes(65)}, {"address": b"\1" * 20}, {"address": b""}],
)
async def test_whoever_cannot_prove_its_address_is_refused(stage: Stage, forged: dict[str, bytes]) -> None:
    await stage.orchestrator.look_at_chain()
    request = pb.OrchestratorRequest.FromString(stage.payer.orchestrator_request().SerializeToString())
    for name, value in forged.items():
        setattr(request, name, value)

    with pytest.raises(RefusedError, match="orchestrator req sig check failed"):
        await Service(stage.orchestrator, KEY).get_orchestrator(request)


def _stream(stage: Stage, session_id: str) -> Session:
    return stage.orchestrator.sessions.reserve(
        "live-video-to-video/flow",
        session_id,
        stage.sender,
        capacity=2,
        units_per_second=0,
        price=Fraction(0),
        now=stage.clock(),
    )
