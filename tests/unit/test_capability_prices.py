"""The highest prices per capability: how they are written, and which one holds."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from contracts.livepeer.capabilities import MaxPrices, read_prices_by_model
from contracts.livepeer.payments_pb2 import Capabilities

LIVE_VIDEO, TEXT_TO_IMAGE = 35, 27


def prices(*entries: dict[str, Any]) -> str:
    return json.dumps({"capabilities_prices": entries})


def asking(*models: tuple[int, str]) -> Capabilities:
    asked = Capabilities()
    for capability, model in models:
        asked.constraints.per_capability[capability].models[model].warm = True
    return asked


def ceilings(general: int | None = 7) -> MaxPrices:
    by_model = {(LIVE_VIDEO, "fast"): Fraction(3), (TEXT_TO_IMAGE, "default"): Fraction(5, 2)}
    return MaxPrices(None if general is None else Fraction(general), by_model)


def test_a_models_own_price_then_its_pipelines_then_the_general_one() -> None:
    assert ceilings().of_model(LIVE_VIDEO, "fast") == 3
    assert ceilings().of_model(TEXT_TO_IMAGE, "any") == Fraction(5, 2)
    assert ceilings().of_model(LIVE_VIDEO, "slow") == 7
    assert ceilings(None).of_model(LIVE_VIDEO, "slow") is None


def test_prices_of_all_models_asked_for_add_up_and_those_without_add_nothing() -> None:
    assert ceilings().of(asking((LIVE_VIDEO, "fast"), (TEXT_TO_IMAGE, "x"), (TEXT_TO_IMAGE, "y"))) == 8
    assert ceilings().of(asking((LIVE_VIDEO, "fast"), (LIVE_VIDEO, "slow"))) == 3


@pytest.mark.parametrize("capabilities", [None, Capabilities(), asking((LIVE_VIDEO, "slow"))])
def test_the_general_price_holds_where_no_model_has_one(capabilities: Capabilities | None) -> None:
    assert ceilings().of(capabilities) == 7
    assert ceilings(None).of(capabilities) is None


def test_reads_what_go_livepeers_flag_takes(tmp_path: Path) -> None:
    text = prices(
        {"pipeline": "text-to-image", "model_id": "sd-turbo", "price_per_unit": 1000, "pixels_per_unit": 3},
        {"pipeline": "live-video-to-video", "price_per_unit": "1.5"},
    )
    expected = {(TEXT_TO_IMAGE, "sd-turbo"): Fraction(1000, 3), (LIVE_VIDEO, "default"): Fraction(3, 2)}
    assert read_prices_by_model(text) == expected
    file = tmp_path / "prices.json"
    file.write_text(text)
    assert read_prices_by_model(str(file)) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{}", "capabilities_prices must be a list"),
        (prices({"pipeline": "nothing", "price_per_unit": 1}), r"\[0\].pipeline is no capability"),
        (prices({"pipeline": "llm"}), r"\[0\].price_per_unit must be a positive number"),
        (prices({"pipeline": "llm", "price_per_unit": -1}), r"price_per_unit must be a positive number"),
        (prices({"pipeline": "llm", "price_per_unit": "1e999999999"}), "price_per_unit must be"),
        (prices({"pipeline": "llm", "price_per_unit": 1, "pixels_per_unit": 0}), "pixels_per_unit must be"),
        (prices({"pipeline": "llm", "price_per_unit": 1, "currency": "usd"}), "currency must be wei"),
    ],
)
def test_says_which_entry_and_field_is_wrong(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_prices_by_model(text)
