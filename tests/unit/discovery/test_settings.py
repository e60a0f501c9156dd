"""Whom discovery asks and what it may cost, as operators say it."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.discovery.settings import Settings

ONE, TWO = "https://one.example:8935", "https://two.example:8935"


@pytest.fixture(autouse=True)
def needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCOVERY_NATS_URL", "nats://localhost")
    monkeypatch.setenv("DISCOVERY_HTTP_PORT", "1")
    monkeypatch.setenv("DISCOVERY_ORCHESTRATORS", ONE)


def urls() -> list[str]:
    return [origin.url for origin in Settings().orchestrators]


@pytest.mark.parametrize(
    "text", [f"{ONE},{TWO}", f" {ONE}/ , two.example:8935,{ONE},", f'["{ONE}", "{TWO}/"]', f"{ONE}\n{TWO}\n"]
)
def test_orchestrators_by_commas_or_as_json_each_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCOVERY_ORCHESTRATORS", text)

    assert urls() == [ONE, TWO]


@pytest.mark.parametrize("content", [f"{ONE}\n\n{TWO}\n", json.dumps([ONE, TWO])])
def test_orchestrators_from_a_file(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "orchestrators"
    path.write_text(content)
    monkeypatch.setenv("DISCOVERY_ORCHESTRATORS", str(path))

    assert urls() == [ONE, TWO]


@pytest.mark.parametrize(
    "text", ["", ",", "ftp://x", '[{"address": "x"}]', "[1]", ",".join(map(str, range(1001)))]
)
def test_a_list_that_makes_no_sense_ends_the_start(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCOVERY_ORCHESTRATORS", text)

    with pytest.raises(ValidationError):
        Settings()


def test_ceilings_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().max_prices().general is None
    monkeypatch.setenv("DISCOVERY_MAX_PRICE_WEI_PER_UNIT", "1000/3")
    prices = [{"pipeline": "live-video-to-video", "model_id": "fast", "price_per_unit": 7}]
    monkeypatch.setenv("DISCOVERY_MAX_PRICE_PER_CAPABILITY", json.dumps({"capabilities_prices": prices}))

    ceilings = Settings().max_prices()

    assert ceilings.general == Fraction(1000, 3)
    assert ceilings.of_model(35, "fast") == 7


@pytest.mark.parametrize("text", ["0", "-1", "1/0", "much"])
def test_a_ceiling_is_a_positive_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCOVERY_MAX_PRICE_WEI_PER_UNIT", text)

    with pytest.raises(ValidationError):
        Settings()
