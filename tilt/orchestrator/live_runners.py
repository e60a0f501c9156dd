"""Live runners are paid by the second, by the pixel or by the call; their sessions open with a payment.

The order of refusals is go-livepeer's: 404 and 400 for the runner, 402 with a challenge if there is
no payment, 402 and 403 for unreadable or wrong headers, 403 for another's manifest, 400 for a wrong
fixed price; then 409 and 503 for the slot; then 400 for the tickets, which gives the slot back.
"""

import asyncio
from contextlib import suppress

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address, checksummed
from tilt.orchestrator.auth_tokens import new_session_id
from tilt.orchestrator.challenges import Challenge, Repeat
from tilt.orchestrator.headers import Presented, decode_payment, manifest_id_of
from tilt.orchestrator.intake import Received
from tilt.orchestrator.journal import GivenChallenge, IgnoredPayment
from tilt.orchestrator.messages import price_of
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import JsonRefusedError, RefusedError
from tilt.orchestrator.runners import Runner
from tilt.orchestrator.sessions import INSUFFICIENT_BALANCE, Session


class LiveRunners:
    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    async def challenge(
        self, runner: Runner, sender: Address, origin: str, *, repeats: str = ""
    ) -> Challenge:
        """Quote for a session that does not exist yet; its id comes with the quote."""
        session_id = new_session_id()
        orchestrator = self._orchestrator
        info = await orchestrator.quote(sender, session_id, price=runner.price, origin=origin)
        info = orchestrator.oddities.applied(info, "challenge", sender)
        url = f"{origin}/apps/{runner.id}/session/{info.auth_token.session_id}/payment"
        challenge = Challenge(info=info, payment_url=url)
        orchestrator.repeats.remember(challenge)
        self._note(challenge, runner, sender, repeats)
        return challenge

    async def challenge_again(
        self, runner: Runner, sender: Address, origin: str, *, repeat: Repeat, headers: tuple[str, str]
    ) -> Challenge:
        """Answer a payment with a challenge, as if nothing had come; its tickets are not looked at."""
        payment, manifest_id = decode_payment(headers[0]), manifest_id_of(headers[1])
        self._orchestrator.journal.payment_ignored(
            IgnoredPayment(
                runner=runner.id,
                manifest_id=manifest_id,
                recipient_rand_hash=f"0x{payment.ticket_params.recipient_rand_hash.hex()}",
                nonces=[signed.sender_nonce for signed in payment.ticket_sender_params],
            )
        )
        same = self._orchestrator.repeats.given(manifest_id) if repeat.same else None
        if same is None:
            return await self.challenge(runner, sender, origin, repeats="fresh")
        self._note(same, runner, sender, "same")
        return same

    async def reserve(self, runner: Runner, headers: tuple[str, str]) -> Session:
        """Open the session a quote was made for; an unpaid one is closed again."""
        presented = self._orchestrator.read(*headers)
        session_id = presented.auth_token.session_id
        if presented.manifest_id != session_id:
            raise RefusedError(403, "mismatched manifest and auth token")
        if runner.is_fixed:
            _check_fixed_price(runner, presented.payment)
        session = self._take_slot(runner, presented, session_id)
        try:
            await self._take_first_payment(runner, presented, session)
        except RefusedError as refusal:
            self._orchestrator.sessions.release(session, refusal.text)
            raise
        return session

    async def pay(
        self, runner_id: str, session_id: str, headers: tuple[str, str], origin: str
    ) -> pb.PaymentResult:
        runner = self._orchestrator.runners.ready(runner_id)
        self._orchestrator.sessions.find(runner_id, session_id)
        if runner.is_fixed:
            raise RefusedError(409, "fixed-price live runner sessions do not accept follow-up payments")
        presented = self._orchestrator.read(*headers)
        if presented.manifest_id != session_id:
            raise RefusedError(403, "mismatched session and payment manifest")
        info = await self._orchestrator.credit_and_quote(
            presented, manifest_id=session_id, kind="runner", origin=origin
        )
        return pb.PaymentResult(info=info)

    async def refresh(self, sender: Address, manifest_id: str, origin: str) -> Challenge:
        """Quote anew at the price a manifest's first payment fixed, whether or not it still runs."""
        orchestrator = self._orchestrator
        price = orchestrator.fixed_price(sender, manifest_id)
        if price is None:
            raise JsonRefusedError(409, "fixed price not found for session")
        info = await orchestrator.quote(sender, manifest_id, price=price, origin=origin)
        orchestrator.journal.counters.refreshes += 1
        info = orchestrator.oddities.applied(info, "refresh_payment", sender)
        return Challenge(info=info, payment_url=f"{origin}/payment")

    def stop(self, runner_id: str, session_id: str) -> None:
        self._orchestrator.runners.known(runner_id)
        with suppress(RefusedError):
            session = self._orchestrator.sessions.find(runner_id, session_id)
            self._orchestrator.sessions.release(session, "stopped")

    async def work(self, runner: Runner, session: Session) -> None:
        """Take the time that a single shot takes, unless its money ends before."""
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(session.over.wait(), runner.work_seconds)
            if session.release_reason == INSUFFICIENT_BALANCE:
                raise RefusedError(502, "context canceled")
        finally:
            self._orchestrator.sessions.release(session, "finished")

    def _take_slot(self, runner: Runner, presented: Presented, session_id: str) -> Session:
        return self._orchestrator.sessions.reserve(
            runner.id,
            session_id,
            presented.sender,
            capacity=runner.capacity,
            units_per_second=runner.units_per_second,
            price=price_of(presented.payment),
            now=self._orchestrator.clock(),
        )

    async def _take_first_payment(self, runner: Runner, presented: Presented, session: Session) -> None:
        account = await self._orchestrator.credit(
            Received(
                payment=presented.payment,
                sender=presented.sender,
                manifest_id=session.session_id,
                kind="runner",
            )
        )
        if runner.is_fixed and not account.debit(1, session.price):
            raise RefusedError(400, INSUFFICIENT_BALANCE)

    def _note(self, challenge: Challenge, runner: Runner, sender: Address, repeats: str) -> None:
        self._orchestrator.journal.challenge_given(
            GivenChallenge(
                runner=runner.id,
                manifest_id=challenge.manifest_id,
                sender=checksummed(sender),
                recipient_rand_hash=f"0x{challenge.info.ticket_params.recipient_rand_hash.hex()}",
                repeats=repeats,
            )
        )


def _check_fixed_price(runner: Runner, payment: pb.Payment) -> None:
    """Insist on the price as quoted, in these very terms: price and one unit."""
    expected = payment.expected_price
    if (expected.price_per_unit, expected.pixels_per_unit) != (runner.price_per_unit, 1):
        raise RefusedError(400, "payment price does not match live runner price")
