"""Meters are defined once, never change, and are at most a hundred."""

from typing import Any

import pytest

from services.metering.domain.meters import (
    METERS_MAX,
    BadMeter,
    Meter,
    MeterDiffers,
    MeterGone,
    MeterNotFound,
    Meters,
    TooManyMeters,
)
from services.metering.domain.usage import moment

NOON = moment(537_996 * 3_600_000_000)


def meter(**told: Any) -> Meter:
    return Meter.of(
        **{
            "name": "tokens",
            "event_type": "used",
            "aggregation": "sum",
            "value": "tokens",
            "group_by": [],
            "filter": {},
            **told,
        }
    )


@pytest.fixture
def meters() -> Meters:
    return Meters(timestamp=NOON)


def test_the_same_again_changes_nothing_and_another_definition_is_refused(meters: Meters) -> None:
    meters.define(meter(filter={"b": ["2", "1"], "a": ["x"]}), actor="admin:1", now=NOON)
    version = meters.version

    meters.define(meter(filter={"a": ["x"], "b": ["1", "2", "1"]}), actor="admin:2", now=NOON)
    with pytest.raises(MeterDiffers, match="tokens"):
        meters.define(meter(group_by=["model"]), actor="admin:1", now=NOON)

    assert meters.version == version


def test_the_name_of_a_retired_meter_stays_taken(meters: Meters) -> None:
    meters.define(meter(), actor="admin:1", now=NOON)

    meters.retire("tokens", actor="admin:1", now=NOON)
    version = meters.version
    meters.retire("tokens", actor="admin:1", now=NOON)

    assert (meters.known["tokens"].retired_at, meters.version) == (NOON, version)
    with pytest.raises(MeterGone):
        meters.define(meter(), actor="admin:1", now=NOON)
    with pytest.raises(MeterNotFound):
        meters.retire("nothing", actor="admin:1", now=NOON)


def test_there_are_a_hundred_at_most(meters: Meters) -> None:
    for number in range(METERS_MAX):
        meters.define(meter(name=f"meter_{number}"), actor="admin:1", now=NOON)

    with pytest.raises(TooManyMeters):
        meters.define(meter(), actor="admin:1", now=NOON)


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"name": "usage_events"}, "name"),
        ({"name": "stream_seconds"}, "name"),
        ({"value": ""}, "value"),
        ({"aggregation": "count"}, "value"),
        ({"group_by": ["model", "model"]}, "group_by"),
        ({"group_by": ["user"]}, "group_by"),
    ],
)
def test_a_definition_without_sense_is_refused_with_its_field(
    meters: Meters, told: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadMeter, match=f"^{field}: "):
        meters.define(meter(**told), actor="admin:1", now=NOON)
