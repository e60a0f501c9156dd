"""Publishers' logs in memory, that answer for a page of them as `shared.log` does."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.message import Event, LogEntry, LogEpoch, LogPage, ReadLog, Refusal
from contracts.public_log import PublicEvent
from contracts.signer import PaymentSigned, SessionClosed
from shared.bus import CommandRefusedError, ServiceUnavailableError

START = datetime(2031, 5, 17, 8, tzinfo=UTC)


def paid(account_id: str = "acme", **changes: Any) -> PaymentSigned:
    payment: dict[str, Any] = {
        "account_id": account_id,
        "session_id": "5e" * 16,
        "user_id": "ann",
        "app": "demo/echo",
        "job_type": "live",
        "recipient": "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        "payer": "0x" + "ab" * 20,
        "tickets": 3,
        "cost": 2**70,
        "face_value": 2**70,
        "win_prob": "0xff",
        "units": 7,
        "price_per_unit": 1_000_001,
        "pixels_per_unit": 2,
        "creation_round": 9,
        "recipient_rand_hash": "cd" * 32,
        "first_nonce": 1,
    }
    return PaymentSigned.model_validate({**payment, **changes})


def closed(account_id: str = "acme") -> SessionClosed:
    return SessionClosed(account_id=account_id, session_id="5e" * 16, spent=1, ask_number=1)


@dataclass
class FakeLog:
    """One publisher's. Positions have gaps; an epoch begins where a restore cut the log off."""

    service: str
    entries: list[LogEntry] = field(default_factory=list)
    epochs: list[LogEpoch] = field(default_factory=lambda: [LogEpoch(epoch=1, began_after=0)])
    away: bool = False
    asked: int = 0

    @property
    def head(self) -> int:
        return self.entries[-1].position if self.entries else 0

    def tell(self, event: Event, *, at: datetime = START, gap: int = 3) -> LogEntry:
        entry = LogEntry(
            epoch=self.epochs[-1].epoch,
            position=self.head + gap,
            previous_position=self.head,
            subject=event.subject,
            at=at,
            event=event.model_dump(mode="json"),
        )
        self.entries.append(entry)
        return entry

    def restore(self, kept: int, epoch: int, *, forget_epochs: int = 0) -> None:
        """Go back to the first entries, and begin an epoch."""
        self.forget(kept)
        del self.epochs[len(self.epochs) - forget_epochs :]
        self.epochs.append(LogEpoch(epoch=epoch, began_after=self.head))

    def forget(self, kept: int) -> None:
        del self.entries[kept:]

    def read(self, asked: ReadLog) -> LogPage:
        self.asked += 1
        if self.away:
            raise ServiceUnavailableError(f"cmd.{self.service}.read_log.v1: NoRespondersError")
        if asked.epoch is not None:
            self._check(asked.epoch, asked.after)
        found = [entry for entry in self.entries if entry.position > asked.after][: asked.limit]
        before = max((one.position for one in self.entries if one.position <= asked.after), default=0)
        head = self.head if len(found) == asked.limit else found[-1].position if found else before
        now = self.epochs[-1]
        return LogPage(
            epoch=now.epoch, head=head, entries=found, began_after=now.began_after, epochs=self.epochs
        )

    def _check(self, epoch: int, after: int) -> None:
        known = {one.epoch for one in self.epochs}
        ended = next((one.began_after for one in self.epochs if one.epoch > epoch), None)
        if epoch not in known or (ended is not None and after > ended):
            raise CommandRefusedError(Refusal(code="log_epoch_changed", message="it is over"))


class FakeLogs:
    """Several of them, by name."""

    def __init__(self, *services: str) -> None:
        self.of = {service: FakeLog(service) for service in services}

    async def ask_page(self, service: str, asked: ReadLog) -> LogPage:
        return self.of.setdefault(service, FakeLog(service)).read(asked)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def ids(events: Sequence[PublicEvent]) -> list[str]:
    return [event.id for event in events]
