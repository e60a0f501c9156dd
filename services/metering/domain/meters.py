"""Meters: which pushed usage is counted, by what, and how it is summed. House-wide, and never changed.

MeterRefusal
├── BadMeter        the definition has no sense, or its name is taken by what is counted anyway
├── MeterDiffers    there is one of this name with another definition
├── MeterGone       there was one of this name, and it is retired
├── TooManyMeters
└── MeterNotFound
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from shared.refusal import Refused

UNSPECIFIED = "unspecified"  # what was not told, and before reasons were kept
METERS_MAX = 100  # also of the retired: whoever folds the log has them all in memory
BUILT_IN = "usage_events"  # counts every record, by type
TAKEN = frozenset(
    {
        "stream_seconds",
        "payment_cost_wei",
        "payment_fee_wei",
        "tickets",
        "pixels",
        "billable_seconds",
        "sessions",
        BUILT_IN,
    }
)
GROUPS_TAKEN = frozenset({"account", "user"})  # what each meter is grouped by anyway


class Aggregation(StrEnum):
    SUM = "sum"
    COUNT = "count"
    MAX = "max"
    UNIQUE = "unique"
    TIME = "time"


class MeterRefusal(Refused):
    """A meter may not be so."""


class BadMeter(MeterRefusal):
    code = "bad_meter"


class MeterDiffers(MeterRefusal):
    code = "meter_differs"

    def __init__(self, name: str) -> None:
        super().__init__(f"the meter {name} is defined otherwise; a meter never changes, define another")


class MeterGone(MeterRefusal):
    code = "meter_retired"

    def __init__(self, name: str) -> None:
        super().__init__(f"the meter {name} is retired; its name stays taken")


class TooManyMeters(MeterRefusal):
    code = "too_many_meters"

    def __init__(self) -> None:
        super().__init__(f"there are {METERS_MAX} meters, and no room for more")


class MeterNotFound(MeterRefusal):
    code = "meter_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no meter {name}")


class Meter(NamedTuple):
    """A definition. `value` names the property that is summed, "" of a count.

    `filter` has, by property, the texts one of which it has to be.
    """

    name: str
    event_type: str
    aggregation: Aggregation
    value: str
    group_by: tuple[str, ...]
    filter: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(
        cls,
        name: str,
        event_type: str,
        aggregation: str,
        value: str,
        group_by: Iterable[str],
        filter: Mapping[str, Iterable[str]],  # noqa: A002 (the word of the contract)
    ) -> "Meter":
        allowed = {each: tuple(sorted(set(texts))) for each, texts in sorted(filter.items())}
        return cls(name, event_type, Aggregation(aggregation), value, tuple(group_by), allowed)


class Known(NamedTuple):
    """A meter with the versions of `Meters` at which it was defined, and retired if it was."""

    meter: Meter
    since: int
    defined_at: datetime
    retired_at: datetime | None


class Meters(Aggregate):
    """All meters of the house: whoever counts names the version it counted with."""

    TOPIC = "metering.meters"

    class Event(Aggregate.Event):
        TOPIC = "metering.meters.event"

    class Begun(Event, Aggregate.Created):
        TOPIC = "metering.meters_begun"

    class Defined(Event):
        TOPIC = "metering.meter_defined"
        name: str
        event_type: str
        aggregation: str
        value: str
        group_by: Sequence[str]
        filter: Mapping[str, Sequence[str]]
        actor: str
        reason: str = UNSPECIFIED

    class Retired(Event):
        TOPIC = "metering.meter_retired"
        name: str
        actor: str
        reason: str = UNSPECIFIED

    @staticmethod
    def create_id() -> UUID:
        return uuid5(NAMESPACE_URL, "/meters")

    @event(Begun)
    def __init__(self, timestamp: datetime) -> None:
        self.known: dict[str, Known] = {}

    def define(self, meter: Meter, *, actor: str, reason: str = UNSPECIFIED, now: datetime) -> None:
        """Count from now on. The same again changes nothing."""
        if (known := self.known.get(meter.name)) is not None:
            if known.meter != meter:
                raise MeterDiffers(meter.name)
            if known.retired_at is not None:
                raise MeterGone(meter.name)
            return
        _require_sense(meter)
        if len(self.known) >= METERS_MAX:
            raise TooManyMeters
        said = {each: list(texts) for each, texts in meter.filter.items()}
        self._defined(*meter[:4], list(meter.group_by), said, actor, reason, timestamp=now)

    def retire(self, name: str, *, actor: str, reason: str = UNSPECIFIED, now: datetime) -> None:
        """Count no more; what was counted stays readable."""
        known = self.known.get(name)
        if known is None:
            raise MeterNotFound(name)
        if known.retired_at is None:
            self._retired(name, actor, reason, timestamp=now)

    @event(Defined)
    def _defined(
        self,
        name: str,
        event_type: str,
        aggregation: str,
        value: str,
        group_by: Sequence[str],
        filter: Mapping[str, Sequence[str]],  # noqa: A002 (the word of the contract)
        actor: str,
        reason: str = UNSPECIFIED,
        *,
        timestamp: datetime,
    ) -> None:
        meter = Meter.of(name, event_type, aggregation, value, group_by, filter)
        self.known[name] = Known(meter, self.version + 1, timestamp, None)

    @event(Retired)
    def _retired(self, name: str, actor: str, reason: str = UNSPECIFIED, *, timestamp: datetime) -> None:
        self.known[name] = self.known[name]._replace(retired_at=timestamp)


class Counting:
    """The meters that count at one version of `Meters`, or `only` one; none are defined at version 0."""

    def __init__(self, meters: Meters | None, only: str | None = None) -> None:
        self.version = meters.version if meters is not None else 0
        self._by_type: dict[str, list[Known]] = {}
        for known in meters.known.values() if meters is not None else ():
            if known.retired_at is None and only in {None, known.meter.name}:
                self._by_type.setdefault(known.meter.event_type, []).append(known)
        self._found: dict[tuple[str, int], list[Meter]] = {}

    def of(self, event_type: str, since: int) -> list[Meter]:
        """Those that count a record of this type which was first recorded at version `since`."""
        of_type = self._by_type.get(event_type)
        if of_type is None:
            return []
        found = self._found.get((event_type, since))
        if found is None:
            found = [known.meter for known in of_type if known.since <= since]
            self._found[event_type, since] = found
        return found


def _require_sense(meter: Meter) -> None:
    if meter.name in TAKEN:
        raise BadMeter(f"name: {meter.name} is counted anyway; take another name")
    if (meter.value == "") is not (meter.aggregation is Aggregation.COUNT):
        wanted = "takes no property" if meter.value else "needs a property"
        raise BadMeter(f"value: {meter.aggregation} {wanted}")
    if len(set(meter.group_by)) < len(meter.group_by):
        raise BadMeter("group_by: a property is named twice")
    if taken := GROUPS_TAKEN & set(meter.group_by):
        raise BadMeter(f"group_by: every meter is grouped by {min(taken)} anyway; name another property")
