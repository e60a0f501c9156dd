"""What the edge has metering record: deliveries, pushed usage, and tickets that others signed."""

from collections.abc import Sequence
from typing import Literal

from nats.aio.client import Client

from contracts.signed_tickets import TICKETS_MAX, RecordSignedTickets, SignedTicket, SignedTicketsAnswered
from contracts.usage_events import (
    EVENTS_MAX,
    EventOutcome,
    RecordUsageEvents,
    UsageEvent,
    UsageEventsAnswered,
)
from contracts.webhooks_in import DELIVERIES_MAX, DeliveriesRecorded, Delivery, RecordDeliveries
from services.edge.recording_line import Bounds, RecordingLine
from shared.bus import ask

MIB = 1024 * 1024
MESSAGE_BYTES = MIB + MIB // 2  # NATS takes 4 MiB, and a body may grow to twice its size as JSON
ASK_SHARE = 0.85  # of the time a request waits, metering has; the rest is the way back

type TicketOutcome = Literal["recorded", "repeated"]
type DeliveryLine = RecordingLine[Delivery, None]
type EventLine = RecordingLine[UsageEvent, EventOutcome]
type TicketLine = RecordingLine[SignedTicket, TicketOutcome]


def delivery_line(client: Client, *, wait_seconds: float = 4.0, waiting_max: int = 500) -> DeliveryLine:
    """Webhooks of Livepeer Studio, which gives up after five seconds; up to 256 KiB each."""

    async def record(deliveries: list[Delivery]) -> Sequence[None]:
        command = RecordDeliveries(deliveries=deliveries)
        await ask(client, command, DeliveriesRecorded, timeout=wait_seconds * ASK_SHARE)
        return [None] * len(deliveries)

    bounds = Bounds(DELIVERIES_MAX, MESSAGE_BYTES, waiting_items=waiting_max, waiting_size=128 * MIB)
    return RecordingLine("deliveries", record, bounds, wait_seconds=wait_seconds)


def event_line(client: Client, *, wait_seconds: float = 5.0, waiting_max: int = 20_000) -> EventLine:
    async def record(events: list[UsageEvent]) -> Sequence[EventOutcome]:
        command = RecordUsageEvents(events=events)
        return (await ask(client, command, UsageEventsAnswered, timeout=wait_seconds * ASK_SHARE)).outcomes

    bounds = Bounds(EVENTS_MAX, MESSAGE_BYTES, waiting_items=waiting_max, waiting_size=32 * MIB)
    return RecordingLine("usage events", record, bounds, wait_seconds=wait_seconds)


def ticket_line(client: Client, *, wait_seconds: float = 5.0, waiting_max: int = 10_000) -> TicketLine:
    async def record(tickets: list[SignedTicket]) -> Sequence[TicketOutcome]:
        command = RecordSignedTickets(tickets=tickets)
        return (await ask(client, command, SignedTicketsAnswered, timeout=wait_seconds * ASK_SHARE)).outcomes

    bounds = Bounds(TICKETS_MAX, MESSAGE_BYTES, waiting_items=waiting_max, waiting_size=32 * MIB)
    return RecordingLine("signed tickets", record, bounds, wait_seconds=wait_seconds)
