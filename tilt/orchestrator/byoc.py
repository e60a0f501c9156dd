"""BYOC jobs: a container's capability, prepaid for a minute and charged by the second.

The header `Livepeer` names the job and, if its signer can sign jobs, who sends it. go-livepeer
takes no job without that signature; here it is checked where there is one, as no signer of
protocol.md makes it, and otherwise the payment tells the sender.
"""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tilt.orchestrator.addresses import Address, address_of_bytes, parse_address
from tilt.orchestrator.headers import decode_payment
from tilt.orchestrator.intake import Received
from tilt.orchestrator.ledger import Account
from tilt.orchestrator.offer import BYOC, Model
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.signatures import is_signed_by, keccak256

PREPAID_SECONDS = 60
SIGNATURE_DIGITS = 130


@dataclass(frozen=True, slots=True)
class Job:
    capability: str
    sender: Address | None  # none if nobody signed it


@dataclass(frozen=True, slots=True)
class Done:
    balance: int  # wei, rounded half away from zero


class Byoc:
    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    async def process(self, job_header: str, payment_header: str) -> Done:
        """Run a job whose balance covers a minute; it is charged for the seconds begun."""
        job = read_job(job_header)
        model = self._orchestrator.offer.models.get(f"{BYOC}/{job.capability}")
        if model is None or model.capacity == 0:
            raise RefusedError(503, "No capacity available for capability")
        started_at = self._orchestrator.clock()
        account = await self._account(job, payment_header)
        self._check_prepaid(account, model)
        seconds = max(1, math.ceil(self._orchestrator.clock() - started_at))
        account.charge(seconds, seconds * model.price.fraction)
        return Done(rounded(account.balance))

    async def _account(self, job: Job, payment_header: str) -> Account:
        """Credit the capability's balance; without a payment it is what earlier ones have left."""
        if not payment_header:
            account = job.sender and self._orchestrator.ledger.find(job.sender, job.capability)
            if not account:
                raise RefusedError(400, "Insufficient balance for request")
            return account
        payment = _payment(payment_header)
        sender = address_of_bytes(payment.sender)
        if job.sender not in {None, sender}:
            raise RefusedError(400, "Insufficient balance for request")
        received = Received(payment=payment, sender=sender, manifest_id=job.capability, kind="byoc")
        return await self._orchestrator.credit(received)

    @staticmethod
    def _check_prepaid(account: Account, model: Model) -> None:
        if account.balance < PREPAID_SECONDS * model.price.fraction:
            raise RefusedError(400, "Insufficient balance for request")


def read_job(header: str) -> Job:
    """Read a job request: base64 of JSON; raises RefusedError for what cannot be believed."""
    try:
        document = json.loads(base64.b64decode(header, validate=True))
        if not isinstance(document, dict) or not isinstance(document.get("capability"), str):
            raise ValueError("no capability")  # noqa: TRY004 - a value from outside
        if not document.get("timeout_seconds"):
            raise RefusedError(400, "no timeout_seconds set with request, timeout_seconds is required")
        return Job(document["capability"], _signer(document))
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "Could not verify job creds") from error


def _signer(document: Mapping[str, Any]) -> Address | None:
    """Tell who signed request and parameters; raises ValueError if it is not who it says."""
    claimed, signature = str(document.get("sender") or ""), str(document.get("sig") or "")
    if not claimed and not signature:
        return None
    sender = parse_address(claimed)
    message = str(document.get("request") or "") + str(document.get("parameters") or "")
    digits = signature[2:] if len(signature) > SIGNATURE_DIGITS else signature
    if not is_signed_by(sender, keccak256(message.encode()), bytes.fromhex(digits)):
        raise ValueError("not the sender's signature")
    return sender


def rounded(amount: Fraction) -> int:
    """Round to whole wei, half away from zero, as Go's FloatString(0)."""
    return math.floor(abs(amount) + Fraction(1, 2)) * (1 if amount >= 0 else -1)


def _payment(header: str) -> Any:
    try:
        return decode_payment(header)
    except RefusedError as refusal:
        raise RefusedError(400, "Could not parse payment") from refusal
