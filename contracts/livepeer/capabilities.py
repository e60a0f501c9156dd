"""Livepeer's capabilities by name, and the highest prices an operator accepts for them.

Names and numbers are those of go-livepeer's `core/capabilities.go`; a model's capability is written
`pipeline/model`, e.g. `live-video-to-video/streamdiffusion`. The form of the prices is that of its
flag `-maxPricePerCapability`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from contracts.livepeer.payments_pb2 import Capabilities

DEFAULT_MODEL = "default"  # its price holds for all models of the pipeline without one
MODELS_MAX = 10_000
DIGITS_MAX = 80

PIPELINES = {
    0: "h.264",
    1: "mpegts",
    2: "mp4",
    3: "fractional-framerates",
    4: "storage-direct",
    5: "storage-s3",
    6: "storage-gcs",
    7: "h264-baseline-profile",
    8: "h264-main-profile",
    9: "h264-high-profile",
    10: "h264-constrained,-contained-high-profile",
    11: "gop",
    12: "auth-token",
    14: "mpeg7-signature",
    15: "hevc-decode",
    16: "hevc-encode",
    17: "vp8-decode",
    18: "vp9-decode",
    19: "vp8-encode",
    20: "vp9-encode",
    21: "h264-decode-yuv444-8-bit",
    22: "h264-decode-yuv422-8-bit",
    23: "h264-decode-yuv444-10-bit",
    24: "h264-decode-yuv422-10-bit",
    25: "h264-decode-yuv420-10-bit",
    26: "segment-slicing",
    27: "text-to-image",
    28: "image-to-image",
    29: "image-to-video",
    30: "upscale",
    31: "audio-to-text",
    32: "segment-anything-2",
    33: "llm",
    34: "image-to-text",
    35: "live-video-to-video",
    36: "text-to-speech",
    37: "byoc",
}
CAPABILITY_BY_PIPELINE = {pipeline: capability for capability, pipeline in PIPELINES.items()}


@dataclass(frozen=True, slots=True)
class MaxPrices:
    """Ceilings in wei per unit; None is no ceiling.

    One number is compared with prices per pixel, per second and per call alike, as go-livepeer does.
    """

    general: Fraction | None = None  # of whatever has no ceiling of its own
    by_model: Mapping[tuple[int, str], Fraction] = field(default_factory=dict)

    def of_model(self, capability: int, model: str) -> Fraction | None:
        """The model's ceiling, else its pipeline's, else the general one."""
        return self._own(capability, model) or self.general

    def of(self, capabilities: Capabilities | None) -> Fraction | None:
        """The sum over all models asked for; the general one where none has a ceiling (§6.3)."""
        if capabilities is None or not self.by_model:
            return self.general
        total = Fraction(0)
        for capability, constraints in capabilities.constraints.per_capability.items():
            for model in constraints.models:
                total += self._own(capability, model) or 0
        return total or self.general

    def _own(self, capability: int, model: str) -> Fraction | None:
        return self.by_model.get((capability, model)) or self.by_model.get((capability, DEFAULT_MODEL))


def read_prices_by_model(text: str) -> dict[tuple[int, str], Fraction]:
    """Read `{"capabilities_prices": [{"pipeline", "model_id", "price_per_unit", "pixels_per_unit"}]}`.

    Or the path of a file that holds it. Raises ValueError, which names the entry and the field.
    """
    source = text if text.lstrip().startswith("{") else Path(text).read_text()
    document = json.loads(source, parse_float=str)
    entries = document.get("capabilities_prices") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("capabilities_prices must be a list")  # noqa: TRY004 (a setting's value)
    if len(entries) > MODELS_MAX:
        raise ValueError(f"capabilities_prices has more than {MODELS_MAX} entries")
    prices: dict[tuple[int, str], Fraction] = {}
    for place, entry in enumerate(entries):
        where = f"capabilities_prices[{place}]"
        if not isinstance(entry, dict):
            raise ValueError(f"{where} must be an object")  # noqa: TRY004
        capability = CAPABILITY_BY_PIPELINE.get(str(entry.get("pipeline")))
        if capability is None:
            raise ValueError(f"{where}.pipeline is no capability: {entry.get('pipeline')!r}")
        if entry.get("currency") not in {None, "", "wei"}:
            raise ValueError(f"{where}.currency must be wei")
        model = str(entry.get("model_id") or DEFAULT_MODEL)
        price = _positive(entry, "price_per_unit", where)
        prices[capability, model] = price / _positive(
            {"pixels_per_unit": 1, **entry}, "pixels_per_unit", where
        )
    return prices


def _positive(entry: dict[str, Any], name: str, where: str) -> Fraction:
    text = str(entry.get(name))
    try:
        number = Fraction(text) if len(text) <= DIGITS_MAX and "e" not in text.lower() else None
    except (ValueError, ZeroDivisionError):
        number = None
    if number is None or number <= 0:
        raise ValueError(f"{where}.{name} must be a positive number")
    return number
