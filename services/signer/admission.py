"""Which requests come to a decision at all: nobody stopped them, their rules allow them, in their pace.

Done in memory alone, before any store is asked.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from math import ceil

from contracts.stops import StopView
from services.signer.intent import Intent, PaymentRequest, Reader
from services.signer.pace import Pace
from services.signer.permits import Job, Permits, Who
from services.signer.refusal import BadRequestError, PaymentRefusal, refused
from services.signer.scope import check_scopes

SIGNED_MAX = 20_000  # requests whose repeats are not counted
STOPPED_RETRY_SECONDS = 10
PACE_RETRY_SECONDS = 1  # nobody has to wait longer: the lowest rate is one payment a second
# Of these only we are the cause, so clients are to try again; any other stop is a "no" to them.
OURS = frozenset({"everything", "payer"})
WORDS = {"everything": "everybody", "job_type": "this job type", "orchestrator_url": "this orchestrator"}


class Admission:
    """Reads requests and admits them; counts payments per second."""

    def __init__(self, reader: Reader, permits: Permits) -> None:
        self._reader = reader
        self._permits = permits
        self._pace = Pace()
        self._signed: OrderedDict[tuple[str, str], None] = OrderedDict()

    def admit(self, request: PaymentRequest, now: datetime, *, is_counted: bool) -> Intent | PaymentRefusal:
        """What a request wants, or why nothing more is asked about it.

        With a refusal if it can be read, but is not allowed: then its session's timeline tells. One
        that `is_counted` came before, and comes again with quota's answer.
        """
        payer = request.payer or self._reader.default_payer
        try:
            permit = self._permits.of(
                Who(request.account_id, request.user_id, request.key_id, request.token_id, payer)
            )
        except PaymentRefusal as unknown:
            return unknown
        stopped = refusal_by_stop(permit.stops, now) if permit.stops else None
        intent = self._reader.read(request, permit)
        if isinstance(intent, PaymentRefusal):
            return stopped or intent  # who is stopped is, whatever they send
        refusal = stopped or self._refusal(intent, now)
        if refusal is not None:
            return replace(intent, refusal=refusal)
        if permit.rates and not is_counted and not self._is_in_pace(intent, now):
            return PaymentRefusal(429, "rate_limited", "too many payments a second", PACE_RETRY_SECONDS)
        return intent

    def note_signed(self, intent: Intent) -> None:
        """Its repeats get the same tickets, so they are not counted again."""
        if intent.permit.rates:
            self._signed[intent.session_id, intent.digest] = None
            if len(self._signed) > SIGNED_MAX:
                self._signed.popitem(last=False)

    def _refusal(self, intent: Intent, now: datetime) -> PaymentRefusal | None:
        """Why it is not allowed, as far as that is known without its session."""
        body, quote = intent.body, intent.quote
        job = Job(body.job_type, body.app, quote.recipient, quote.orchestrator_url)
        try:
            stopped = refusal_by_stop(self._permits.stops(job), now)
            if stopped is None and intent.permit.scopes:
                check_scopes(intent, now)
        except PaymentRefusal as refusal:
            return refusal
        except BadRequestError as problem:
            return refused(400, "bad_request", str(problem))
        return stopped

    def _is_in_pace(self, intent: Intent, now: datetime) -> bool:
        is_repeat = (intent.session_id, intent.digest) in self._signed
        return is_repeat or self._pace.take(intent.permit.rates, now)


def refusal_by_stop(stops: Sequence[StopView], now: datetime) -> PaymentRefusal | None:
    """By the first that holds now. It says why, but not who set it."""
    for stop in stops:
        if stop.expires_at is None or now < stop.expires_at:
            text = f"signing is stopped for {WORDS.get(stop.what, 'this ' + stop.what)} ({stop.reason})"
            if stop.what in OURS:
                return PaymentRefusal(503, "signing_stopped", text, _retry_seconds(stop, now))
            return PaymentRefusal(403, "signing_stopped", text)
    return None


def _retry_seconds(stop: StopView, now: datetime) -> int:
    if stop.expires_at is None:
        return STOPPED_RETRY_SECONDS
    return min(STOPPED_RETRY_SECONDS, ceil((stop.expires_at - now).total_seconds()))
