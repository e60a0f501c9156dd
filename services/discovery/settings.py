"""What discovery is told by its environment (prefix DISCOVERY_)."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from contracts.livepeer.capabilities import MaxPrices, read_prices_by_model
from services.discovery.outgoing import Origin
from shared.settings import BusSettings

ORCHESTRATORS_MAX = 1_000


def _origins(text: object) -> object:
    """URLs by commas, or the path of a file with one on each line or a JSON list of them."""
    if not isinstance(text, str):
        return text
    if text.startswith(("/", ".")):
        text = Path(text).read_text()
    if text.lstrip().startswith("["):
        urls = json.loads(text)
        if not all(isinstance(url, str) for url in urls):
            raise ValueError("a JSON list of orchestrators has URLs only")
    else:
        urls = text.replace(",", "\n").splitlines()
    return tuple(dict.fromkeys(Origin.of(url.strip()) for url in urls if url.strip()))


class Settings(BusSettings):
    model_config = SettingsConfigDict(env_prefix="DISCOVERY_")

    orchestrators: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_origins)] = Field(
        min_length=1, max_length=ORCHESTRATORS_MAX
    )
    poll_seconds: float = Field(default=60, gt=0)
    sweep_seconds: float = Field(default=3, gt=0)
    answer_seconds: float = Field(default=2, gt=0)  # of one orchestrator
    max_price_wei_per_unit: Fraction | None = Field(default=None, gt=0)
    max_price_per_capability: str = ""  # JSON, or the path of a file that holds it
    allow_private_addresses: bool = False  # local worlds only

    def max_prices(self) -> MaxPrices:
        """Raise ValueError, which names what is wrong."""
        text = self.max_price_per_capability
        return MaxPrices(self.max_price_wei_per_unit, read_prices_by_model(text) if text else {})
