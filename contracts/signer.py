"""What the signer says and listens to."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.message import Command, Event, Message, Recovered, WeiText

CLOSES_MAX = 32  # sessions in one message
REQUESTS_MAX = 32  # payments in one message; fewer cost throughput, more gain none


class GeneratePayment(Message):
    """One client's request to `/generate-live-payment`, its body untouched."""

    request_id: str
    account_id: str
    key_id: str
    user_id: str | None
    stream_id: str | None
    body: str
    payer: str | None = None  # the credential's, 0x and 40 lower-case digits; None: the signer's first
    job_id: str | None = None  # the client's `Idempotency-Key`: one job gets one upfront payment
    user_bound: bool = False  # the key is the user's own: other users' sessions are none of its
    token_id: str | None = None  # the session token that was shown in the key's place


class GeneratePayments(Command):
    """All payments that wait: one message is one batch, one commit, one reply or a few.

    Sent to `subject.<partition>`. Answers come to the reply subject in one or more
    `PaymentAnswers`; each request is answered once, by its index. A request may be sent again, also
    to another partition: by its `request_id` it is one payment. What is read after `expires_at_ms`
    (UTC since 1970) is dropped: nobody waits for it any more.
    """

    subject: ClassVar[str] = "cmd.signer.generate_payments.v1"

    requests: list[GeneratePayment] = Field(max_length=REQUESTS_MAX)
    expires_at_ms: int | None = None


class PaymentSignedAnswer(Message):
    kind: Literal["signed"] = "signed"
    index: int
    body: str  # the JSON reply of protocol §1.3, without the line feed


class PaymentRefusedAnswer(Message):
    kind: Literal["refused"] = "refused"
    index: int
    status: int
    reason: str
    message: str
    retry_after_seconds: int | None = None
    orchestrator_url: str | None = None  # with 480


type PaymentAnswer = Annotated[PaymentSignedAnswer | PaymentRefusedAnswer, Field(discriminator="kind")]


class PaymentAnswers(Message):
    kind: Literal["payment_answers"] = "payment_answers"
    answers: list[PaymentAnswer]


class SignOrchestratorInfo(Command):
    subject: ClassVar[str] = "cmd.signer.sign_orchestrator_info.v1"

    account_id: str
    payer: str | None = None  # None: the signer's first


class OrchestratorInfoSigned(Message):
    kind: Literal["orchestrator_info_signed"] = "orchestrator_info_signed"
    address: str  # EIP-55
    signature: str  # 0x and 130 hex digits


class SessionToClose(Message):
    """`ask_number` is the last grant quota knows of: an answer to it that comes late is void."""

    account_id: str
    session_id: str
    ask_number: int
    idle_seconds: int  # none: a withdrawal, which acts at once


class CloseSessions(Command):
    """Give back what the sessions' allowances have left; their next payments ask quota anew.

    One commit for all. A session that was used within its `idle_seconds` stays open, and is named
    in the reply.
    """

    subject: ClassVar[str] = "cmd.signer.close_sessions.v1"

    sessions: list[SessionToClose] = Field(max_length=CLOSES_MAX)


class SessionsClosed(Message):
    kind: Literal["sessions_closed"] = "sessions_closed"
    busy: list[str]  # session ids


class ReadSession(Command):
    subject: ClassVar[str] = "cmd.signer.read_session.v1"

    account_id: str
    session_id: str


class TimelineEntry(Message):
    at: datetime
    event: str
    text: str


class SessionView(Message):
    kind: Literal["session"] = "session"
    session_id: str
    account_id: str
    user_id: str | None
    stream_id: str | None
    key_id: str
    manifest_id: str
    app: str
    job_type: str
    orchestrator: str
    recipient: str
    closed: bool
    payments: int
    tickets: int
    cost_wei: WeiText
    allowance_left_wei: WeiText
    payer: str = ""
    summary: str = ""  # where it stands, in a sentence
    timeline: list[TimelineEntry]


class SessionOpened(Event):
    subject: ClassVar[str] = "evt.signer.session_opened.v1"

    account_id: str
    session_id: str
    user_id: str | None
    key_id: str
    stream_id: str | None
    app: str
    job_type: str
    orchestrator: str
    capability: str = ""  # what was asked for, `pipeline/model`; several by commas; "" if nothing was


class PaymentSigned(Event):
    """One batch of tickets. What it costs is ceil(tickets x EV); the fee is what was used.

    EV in wei is `face_value * win_prob / (2**256 - 1)`, the fee
    `units * price_per_unit / pixels_per_unit`: both exact, neither rounded here.
    """

    subject: ClassVar[str] = "evt.signer.payment_signed.v1"

    account_id: str
    session_id: str
    user_id: str | None
    app: str
    job_type: str
    recipient: str
    payer: str
    tickets: int
    cost: WeiText
    face_value: WeiText
    win_prob: str  # hex
    units: int
    price_per_unit: int
    pixels_per_unit: int
    creation_round: int
    recipient_rand_hash: str = ""  # hex of 32 bytes without 0x; "" from signers that did not tell
    first_nonce: int = 0  # the tickets' nonces are this and those that follow
    key_id: str = ""  # that paid; "" from signers that did not tell
    capability: str = ""  # as in SessionOpened, of this payment


class TicketRecovered(Recovered):
    """A batch of tickets that was signed and left, and whose PaymentSigned a restore had lost."""

    subject: ClassVar[str] = "evt.signer.ticket_recovered.v1"

    account_id: str
    session_id: str
    user_id: str | None
    app: str
    job_type: str
    recipient: str
    payer: str
    tickets: int
    cost: WeiText
    face_value: WeiText
    win_prob: str  # hex
    units: int
    price_per_unit: int
    pixels_per_unit: int
    creation_round: int
    recipient_rand_hash: str  # hex of 32 bytes without 0x
    first_nonce: int
    key_id: str = ""
    capability: str = ""


class PaymentRefused(Event):
    subject: ClassVar[str] = "evt.signer.payment_refused.v1"

    account_id: str
    session_id: str
    status: int
    reason: str


class SessionClosed(Event):
    subject: ClassVar[str] = "evt.signer.session_closed.v1"

    account_id: str
    session_id: str
    spent: WeiText
    ask_number: int


class FenceRaised(Event):
    """The signer's store went back in time: params a lost ticket may have used are refused."""

    subject: ClassVar[str] = "evt.signer.fence_raised.v1"

    payer: str
    l1_block: int
    reason: str
