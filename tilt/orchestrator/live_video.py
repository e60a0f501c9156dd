"""Live video to video: a stream that is started with a payment and metered in pixels (§14)."""

from dataclasses import dataclass

from tilt.orchestrator.auth_tokens import new_session_id
from tilt.orchestrator.intake import Received
from tilt.orchestrator.messages import price_of
from tilt.orchestrator.offer import LIVE_VIDEO
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.runners import PIXELS_PER_SECOND
from tilt.orchestrator.sessions import Session
from tilt.orchestrator.trickle import CHANNELS_PATH


@dataclass(frozen=True, slots=True)
class Started:
    """The URLs of a stream: where to publish, where its output is, and two channels beside."""

    manifest_id: str
    origin: str

    def to_json(self) -> dict[str, str]:
        channel = f"{self.origin}{CHANNELS_PATH}/{self.manifest_id}"
        return {
            "control_url": f"{channel}-control",
            "events_url": f"{channel}-events",
            "manifest_id": self.manifest_id,
            "publish_url": channel,
            "subscribe_url": f"{channel}-out",
        }


class LiveVideo:
    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    async def start(self, model_name: str, headers: tuple[str, str]) -> Session:
        """Start a stream under a manifest of our own, which is what the payment is credited to."""
        orchestrator = self._orchestrator
        model = orchestrator.offer.model(LIVE_VIDEO, model_name)
        if orchestrator.sessions.in_use(model.key) >= model.capacity:
            raise RefusedError(503, "insufficient capacity")
        presented = orchestrator.read(*headers)
        manifest_id, price = new_session_id(), price_of(presented.payment)
        received = Received(
            payment=presented.payment,
            sender=presented.sender,
            manifest_id=manifest_id,
            kind="live-video-to-video",
        )
        account = await orchestrator.credit(received)
        if price and account.balance < orchestrator.quotes.terms.ticket_ev:
            raise RefusedError(400, "Insufficient balance")
        return orchestrator.sessions.reserve(
            model.key,
            manifest_id,
            presented.sender,
            capacity=model.capacity,
            units_per_second=PIXELS_PER_SECOND if price else 0,
            price=price,
            now=orchestrator.clock(),
        )
