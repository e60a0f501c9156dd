"""Which requests come to a decision at all: nobody stopped them, their rules allow them, in their pace.

Done in memory alone, before any store is asked.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from math import ceil

from contracts.limits import StopView
from services.signer.intent import Intent, PaymentRequest, Reader
from services.signer.pace import Pace
from services.signer.permits import Job, Permit, Permits, Who
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
        """What a request wants, or why it is not even read.

        With a refusal if it could be read, but is not allowed: then its session may tell. One that
        `is_counted` came before, and comes again with quota's answer.
        """
        try:
            permit = self._permit(request, now)
        except PaymentRefusal as refusal:
            return refusal
        intent = self._reader.read(request, permit)
        if isinstance(intent, PaymentRefusal):
            return intent
        outside = self._refusal(intent, now)
        if outside is not None:
            return replace(intent, refusal=outside)
        if permit.rates and not is_counted and not self._is_in_pace(intent, now):
            return PaymentRefusal(429, "rate_limited", "too many payments a second", PACE_RETRY_SECONDS)
        return intent

    def note_signed(self, intent: Intent) -> None:
        """Its repeats get the same tickets, so they are not counted again."""
        if intent.permit.rates:
            self._signed[intent.session_id, intent.digest] = None
            if len(self._signed) > SIGNED_MAX:
                self._signed.popitem(last=False)

    def _permit(self, request: PaymentRequest, now: datetime) -> Permit:
        """What holds for those who ask; refused if they are stopped, whatever they ask for."""
        payer = request.payer or self._reader.default_payer
        permit = self._permits.of(
            Who(request.account_id, request.user_id, request.key_id, request.token_id, payer)
        )
        check_stops(permit.stops, now)
        return permit

    def _refusal(self, intent: Intent, now: datetime) -> PaymentRefusal | None:
        """Why it is not allowed, as far as that is known without its session."""
        body, quote = intent.body, intent.quote
        job = Job(body.job_type, body.app, quote.recipient, quote.orchestrator_url)
        try:
            check_stops(self._permits.stops(job), now)
            if intent.permit.scopes:
                check_scopes(intent, now)
        except PaymentRefusal as refusal:
            return refusal
        except BadRequestError as problem:
            return refused(400, "bad_request", str(problem))
        return None

    def _is_in_pace(self, intent: Intent, now: datetime) -> bool:
        is_repeat = (intent.session_id, intent.digest) in self._signed
        return is_repeat or self._pace.take(intent.permit.rates, now)


def check_stops(stops: Sequence[StopView], now: datetime) -> None:
    """Refuse if one of them holds now; the first says why, but not who set it."""
    for stop in stops:
        if stop.expires_at is None or now < stop.expires_at:
            text = f"signing is stopped for {WORDS.get(stop.what, 'this ' + stop.what)} ({stop.reason})"
            if stop.what not in OURS:
                raise PaymentRefusal(403, "signing_stopped", text)
            raise PaymentRefusal(503, "signing_stopped", text, _retry_seconds(stop, now))


def _retry_seconds(stop: StopView, now: datetime) -> int:
    if stop.expires_at is None:
        return STOPPED_RETRY_SECONDS
    return min(STOPPED_RETRY_SECONDS, ceil((stop.expires_at - now).total_seconds()))
