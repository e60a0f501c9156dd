"""From the bus to the signer's use cases and back."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import structlog
from eventsourcing.persistence import PersistenceError
from faststream import Context
from faststream.nats import NatsBroker, NatsMessage, NatsRouter
from nats.aio.client import Client

from contracts.message import Fault, LogPage, ReadLog, read_log_subject
from contracts.quota import (
    AllowanceAnswers,
    AllowanceAsk,
    AllowanceGrantedAnswer,
    AllowanceRefusedAnswer,
    GrantAllowances,
)
from contracts.signer import (
    CloseSessions,
    GeneratePayment,
    GeneratePayments,
    OrchestratorInfoSigned,
    PaymentAnswer,
    PaymentAnswers,
    PaymentRefusedAnswer,
    PaymentSignedAnswer,
    ReadSession,
    SessionsClosed,
    SessionView,
    SignOrchestratorInfo,
)
from services.signer.application import SILENT, Close, Outcome, Signing
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.intent import PaymentRequest
from services.signer.refusal import PaymentRefusal
from services.signer.timeline import view
from shared import telemetry
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask
from shared.clock import Clock
from shared.log import PublicLog
from shared.money import Wei

log = structlog.get_logger()

TEXT_LOGGED_MAX = 300
GRANTS_WAITING_MAX = 64  # batches that wait for quota at the same time
ASKS_OF_QUOTA = 2  # the first may have gone to a replica that hangs; a repeated ask is the same one

router = NatsRouter()


@dataclass(frozen=True, slots=True)
class Received:
    """One message of the edge."""

    reply_to: str
    requests: Sequence[PaymentRequest]
    expires_at_ms: int | None

    def is_expired(self) -> bool:
        """Whether all clients in it have given up; by the machine's clock, as the edge's is."""
        return self.expires_at_ms is not None and time.time() * 1000 > self.expires_at_ms


def _request(command: GeneratePayment) -> PaymentRequest:
    return PaymentRequest(
        account_id=command.account_id,
        key_id=command.key_id,
        user_id=command.user_id,
        stream_id=command.stream_id,
        body=command.body,
        request_id=command.request_id,
        payer=command.payer,
        job_id=command.job_id,
        user_bound=command.user_bound,
        token_id=command.token_id,
    )


class Payments:
    """Answers batches of payments: one message, one commit, one reply; the slow ones later.

    Runs in the loop's own thread and blocks it on purpose: threads and pipelining measured slower.
    """

    def __init__(
        self,
        signing: Signing,
        broker: NatsBroker,
        client: Client,
        clock: Clock,
        quota_timeout_seconds: float,
    ) -> None:
        self._signing = signing
        self._broker = broker  # answers go out where requests came in: only there they are allowed
        self._client = client
        self._clock = clock
        self._timeout = quota_timeout_seconds
        self._waiting: set[asyncio.Task[None]] = set()

    async def answer(self, message: tuple[bytes, str]) -> None:
        """Answer a batch; whatever goes wrong with it, nobody waits in vain."""
        body, reply_to = message
        try:
            await self._answer_batch(body, reply_to)
        except Exception as problem:
            log.exception("payments_failed")
            fault = Fault(message=type(problem).__name__)
            await self._broker.publish(fault.model_dump_json().encode(), reply_to)

    async def finish(self) -> None:
        """Answer those that wait for quota; called when no more messages come."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=self._timeout + 1)

    async def _answer_batch(self, body: bytes, reply_to: str) -> None:
        command = GeneratePayments.model_validate_json(body)
        message = Received(reply_to, [_request(each) for each in command.requests], command.expires_at_ms)
        if message.is_expired():
            log.warning("payments_expired", requests=len(message.requests))  # read by one that hung
            return
        outcomes = self._sign(message.requests, {})
        needed = {i: o for i, o in enumerate(outcomes) if isinstance(o, AllowanceNeeded)}
        answers = [_answer(i, o) for i, o in enumerate(outcomes) if i not in needed]
        if answers or not needed:
            await self._publish(message, answers)
        if needed:
            await self._defer(message, needed)

    async def _defer(self, message: Received, needed: dict[int, AllowanceNeeded]) -> None:
        if len(self._waiting) >= GRANTS_WAITING_MAX:
            busy = PaymentRefusal(503, "overloaded", "Service Unavailable Error", 1)
            await self._publish(message, [_answer(i, busy) for i in needed])
            return
        task = asyncio.create_task(self._grant_and_sign(message, needed))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _grant_and_sign(self, message: Received, needed: dict[int, AllowanceNeeded]) -> None:
        """Ask quota for all that need it, then sign those it granted in one more commit."""
        try:
            outcomes = await self._outcomes(message, needed)
        except Exception:
            log.exception("payments_failed")
            away = PaymentRefusal(503, "signer_failed", "Service Unavailable Error", 1)
            outcomes = dict.fromkeys(needed, away)
        await self._publish(message, [_answer(i, o) for i, o in outcomes.items()])

    async def _outcomes(self, message: Received, needed: dict[int, AllowanceNeeded]) -> dict[int, Outcome]:
        began = time.perf_counter()
        answers = await self._ask(list(needed.values()))
        waited = telemetry.request_seconds.labels("allowance")
        for _ in answers:
            waited.observe(time.perf_counter() - began)
        outcomes: dict[int, Outcome] = {}
        grants: dict[int, Grant] = {}
        for (index, wish), answer in zip(needed.items(), answers, strict=True):
            if isinstance(answer, AllowanceGrantedAnswer):
                grants[index] = Grant(wish.number, Wei(answer.amount))
            else:
                outcomes[index] = self._refuse(wish, answer)
        if message.is_expired():
            return outcomes  # the grants stay: the same asks will get them again
        granted = list(grants)
        signed = self._sign(
            [message.requests[index] for index in granted],
            {place: grants[index] for place, index in enumerate(granted)},
        )
        for index, outcome in zip(granted, signed, strict=True):
            outcomes[index] = (
                PaymentRefusal(429, "allowance_moved", "the allowance was used meanwhile", 1)
                if isinstance(outcome, AllowanceNeeded)
                else outcome
            )
        return outcomes

    async def _ask(
        self, wishes: Sequence[AllowanceNeeded]
    ) -> Sequence[AllowanceGrantedAnswer | AllowanceRefusedAnswer]:
        command = GrantAllowances(
            asks=[
                AllowanceAsk(
                    account_id=wish.account_id,
                    user_id=wish.user_id,
                    key_id=wish.key_id,
                    token_id=wish.token_id,
                    session_id=wish.session_id,
                    number=wish.number,
                    payer=wish.payer,
                    needed=wish.needed,
                    wanted=wish.wanted,
                )
                for wish in wishes
            ]
        )
        for _ in range(ASKS_OF_QUOTA):
            try:
                timeout = self._timeout / ASKS_OF_QUOTA
                return (await ask(self._client, command, AllowanceAnswers, timeout=timeout)).answers
            except (ServiceUnavailableError, CommandRefusedError) as problem:
                log.warning("quota_unavailable", problem=str(problem))
        text = "Service Unavailable Error"
        away = AllowanceRefusedAnswer(
            status=503, reason="quota_unavailable", message=text, retry_after_seconds=1
        )
        return [away] * len(wishes)

    def _refuse(self, wish: AllowanceNeeded, answer: AllowanceRefusedAnswer) -> PaymentRefusal:
        if wish.optional:
            return PaymentRefusal(482, "no_tickets", "no tickets")
        try:
            self._signing.note_refusal(
                wish.account_id,
                wish.session_id,
                status=answer.status,
                reason=answer.reason,
                message=answer.message,
                now=self._clock.now(),
            )
        except PersistenceError as problem:
            log.warning("refusal_not_noted", problem=repr(problem))
        return PaymentRefusal(answer.status, answer.reason, answer.message, answer.retry_after_seconds)

    def _sign(self, requests: Sequence[PaymentRequest], grants: dict[int, Grant]) -> list[Outcome]:
        telemetry.batch_size.labels("payments").observe(len(requests))
        try:
            return self._signing.sign_all(requests, self._clock.now(), grants)
        except PersistenceError as problem:
            log.error("store_unavailable", problem=repr(problem))
            away = PaymentRefusal(503, "store_unavailable", "Service Unavailable Error", 1)
            return [away] * len(requests)
        except Exception:
            # One request that we cannot digest must not take its neighbours with it.
            log.exception("payment_failed", requests=len(requests))
            if len(requests) == 1:
                return [PaymentRefusal(500, "signer_failed", "Internal Server Error")]
            alone = ({0: grants[i]} if i in grants else {} for i in range(len(requests)))
            return [self._sign([one], grant)[0] for one, grant in zip(requests, alone, strict=True)]

    async def _publish(self, message: Received, answers: list[PaymentAnswer]) -> None:
        for answer in answers:
            reason = answer.reason if isinstance(answer, PaymentRefusedAnswer) else "signed"
            if isinstance(answer, PaymentRefusedAnswer) and answer.status not in SILENT:
                _log_refusal(message.requests[answer.index], answer)
            telemetry.answers_total.labels("payment", reason).inc()
        data = PaymentAnswers.model_construct(answers=answers).model_dump_json().encode()
        await self._broker.publish(data, message.reply_to)


def _log_refusal(request: PaymentRequest, answer: PaymentRefusedAnswer) -> None:
    log.info(
        "payment_refused",
        request_id=request.request_id,
        account_id=request.account_id,
        status=answer.status,
        reason=answer.reason,
        text=answer.message[:TEXT_LOGGED_MAX],
    )


def _answer(index: int, outcome: Outcome) -> PaymentAnswer:
    if isinstance(outcome, str):
        return PaymentSignedAnswer.model_construct(index=index, body=outcome)
    assert isinstance(outcome, PaymentRefusal)
    return PaymentRefusedAnswer(
        index=index,
        status=outcome.status,
        reason=outcome.reason,
        message=str(outcome),
        retry_after_seconds=outcome.retry_after_seconds,
        orchestrator_url=outcome.orchestrator_url,
    )


async def read_batch(message: NatsMessage) -> tuple[bytes, str]:
    """The decoder of payment batches: the bytes and where the answers go."""
    return message.body, message.reply_to


@router.subscriber(SignOrchestratorInfo.subject, queue="signer")
async def sign_orchestrator_info(
    command: SignOrchestratorInfo, signing: Annotated[Signing, Context()]
) -> OrchestratorInfoSigned:
    address, signature = signing.signed_address(command.payer)
    return OrchestratorInfoSigned(address=address, signature=signature)


@router.subscriber(CloseSessions.subject, queue="signer")
async def close_sessions(
    command: CloseSessions, signing: Annotated[Signing, Context()], clock: Annotated[Clock, Context()]
) -> SessionsClosed:
    closes = [
        Close(
            account_id=session.account_id,
            session_id=session.session_id,
            ask_number=session.ask_number,
            idle_seconds=session.idle_seconds,
        )
        for session in command.sessions
    ]
    return SessionsClosed(busy=signing.close_all(closes, clock.now()))


@router.subscriber(ReadSession.subject, queue="signer")
async def read_session(command: ReadSession, signing: Annotated[Signing, Context()]) -> SessionView:
    return view(signing, command.account_id, command.session_id)


@router.subscriber(read_log_subject("signer"), queue="signer")
def read_log(command: ReadLog, public_log: Annotated[PublicLog, Context()]) -> LogPage:
    return public_log.read(command)
