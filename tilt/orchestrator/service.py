"""net.Orchestrator as a service, apart from how it is reached: who asks, and what they are told (§7.2)."""

from coincurve import PrivateKey

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address, address_of_bytes, checksummed
from tilt.orchestrator.auth_tokens import new_session_id
from tilt.orchestrator.offer import CAPABILITY_BY_PIPELINE, LIVE_VIDEO
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.signatures import is_signed_by, keccak256, sign

REFUSED = 500  # gRPC knows no other: go-livepeer's errors all arrive as UNKNOWN


class Service:
    def __init__(self, orchestrator: Orchestrator, key: bytes) -> None:
        self._orchestrator = orchestrator
        self._key = PrivateKey(key)

    async def get_orchestrator(self, request: pb.OrchestratorRequest) -> pb.OrchestratorInfo:
        """Quote to a sender that proves its address, at the price of the models it asks for."""
        orchestrator = self._orchestrator
        sender = address_of_bytes(request.address)
        self._check_sender(sender, request.sig)
        wanted = request.capabilities if request.HasField("capabilities") else None
        if wanted is not None and not request.ignore_capacity_check:
            self._check_capacity(wanted)
        info = await orchestrator.quote(
            sender,
            new_session_id(),
            price=orchestrator.offer.price(wanted),
            origin=orchestrator.tls_url or orchestrator.url,
        )
        info.capabilities.CopyFrom(orchestrator.offer.capabilities(orchestrator.sessions.in_use))
        if wanted is None:
            info.capabilities_prices.extend(orchestrator.offer.prices())
            info.hardware.extend(orchestrator.offer.hardware())
        orchestrator.journal.counters.orchestrator_infos += 1
        return orchestrator.oddities.applied(info, "get_orchestrator", sender)

    async def ping(self, request: pb.PingPong) -> pb.PingPong:
        return pb.PingPong(value=sign(self._key, keccak256(request.value)))

    async def end_transcoding_session(
        self, request: pb.EndTranscodingSessionRequest
    ) -> pb.EndTranscodingSessionResponse:
        """Believe whoever has the token; live sessions do not end by it, in go-livepeer neither."""
        if not self._orchestrator.quotes.tokens.is_genuine(request.auth_token):
            raise RefusedError(REFUSED, "Invalid auth token")
        self._orchestrator.journal.counters.sessions_ended += 1
        return pb.EndTranscodingSessionResponse()

    def _check_sender(self, sender: Address, signature: bytes) -> None:
        if not is_signed_by(sender, keccak256(checksummed(sender).encode()), signature):
            raise RefusedError(REFUSED, "Invalid orchestrator request: orchestrator req sig check failed")
        if self._orchestrator.is_capped:
            raise RefusedError(REFUSED, "Invalid orchestrator request: OrchestratorCapped")

    def _check_capacity(self, wanted: pb.Capabilities) -> None:
        """Have room for one of the live-video models asked for, if any is."""
        live_video = CAPABILITY_BY_PIPELINE[LIVE_VIDEO]
        if live_video not in wanted.constraints.per_capability:
            return
        offer, sessions = self._orchestrator.offer, self._orchestrator.sessions
        names = wanted.constraints.per_capability[live_video].models
        known = (offer.models.get(f"{LIVE_VIDEO}/{name}") for name in names)
        if not any(model and sessions.in_use(model.key) < model.capacity for model in known):
            raise RefusedError(REFUSED, "Invalid orchestrator request: OrchestratorCapped")
