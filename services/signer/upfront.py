"""One job, one upfront payment: a runner that keeps answering 402 is not paid again and again.

The SDK answers each 402 with a first payment, up to seven a call, each for other params and another
session. That two of them are for one job only the client can tell: by naming the job
(`Idempotency-Key`), or the stream, of which an orchestrator serves one metered job at a time.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.signer.intent import Intent
from services.signer.refusal import refused
from services.signer.rules import METERED

UPFRONT_TIME = timedelta(seconds=10)  # what the first payment of a live job covers
JOBS_MAX = 20_000

type Job = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Paid:
    session_id: str
    at: datetime


class Upfront:
    """The jobs whose first payment was just signed, and no other since.

    Kept in memory, by the signer of the account: a restart costs one more payment at most.
    """

    def __init__(self) -> None:
        self._paid: OrderedDict[Job, Paid] = OrderedDict()

    def check(self, intent: Intent, now: datetime) -> None:
        """Refuse a first payment that would open another session for a job just paid for."""
        if intent.reference is not None or (job := _job(intent)) is None:
            return
        paid = self._paid.get(job)
        if paid is not None and paid.session_id != intent.session_id and now - paid.at < UPFRONT_TIME:
            raise refused(482, "upfront_paid", "no tickets: this job was just paid for")

    def note(self, intent: Intent, now: datetime) -> None:
        """A payment was signed: a first one is remembered, a later one shows that the job runs."""
        if (job := _job(intent)) is None:
            return
        if intent.reference is not None:
            self._paid.pop(job, None)
            return
        self._paid[job] = Paid(intent.session_id, now)
        self._paid.move_to_end(job)
        if len(self._paid) > JOBS_MAX:
            self._paid.popitem(last=False)


def _job(intent: Intent) -> Job | None:
    request, body = intent.request, intent.body
    if request.job_id is not None:
        return (request.account_id, "job", request.job_id)
    if request.stream_id is not None and body.job_type in METERED:
        served = (intent.quote.orchestrator.hex(), body.app, body.job_type)
        return (request.account_id, "stream", request.user_id, request.stream_id, *served)
    return None
