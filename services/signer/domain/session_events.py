"""What is stored of a payment session."""

from datetime import datetime

from eventsourcing.domain import Aggregate

from shared.money import Wei


class SessionEvents:
    class Event(Aggregate.Event):
        TOPIC = "signer.payment_session.event"

    class Named(Event, Aggregate.Created):
        """The id exists. Alone it is the tombstone of a session that never opened."""

        TOPIC = "signer.session_named"
        account_id: str
        session_id: str

    class Opened(Event):
        TOPIC = "signer.session_opened"
        user_id: str | None
        key_id: str
        stream_id: str | None
        payer: str
        app: str
        job_type: str
        orchestrator: str
        price_per_unit: int
        pixels_per_unit: int
        token_id: str | None = None
        capability: str = ""

    class UseChanged(Event):
        """From here on another key pays for the session, or another capability is asked for."""

        TOPIC = "signer.use_changed"
        key_id: str
        capability: str

    class ManifestNamed(Event):
        TOPIC = "signer.manifest_named"
        manifest_id: str
        credentials: str

    class QuoteAccepted(Event):
        TOPIC = "signer.quote_accepted"
        recipient_rand_hash: str
        recipient: str
        face_value: int
        win_prob: int
        creation_round: int

    class Adopted(Event):
        """It goes on where a signer with the same key left off (design §4.2)."""

        TOPIC = "signer.session_adopted"
        sequence: int
        balance: int
        last_at: datetime

    class Continued(Event):
        """It goes on where the client's state says, which the log had lost (design §4.2)."""

        TOPIC = "signer.session_continued"
        payments_lost: int
        sequence: int
        balance: int
        last_at: datetime

    class AllowanceGranted(Event):
        TOPIC = "signer.allowance_granted"
        number: int
        amount: Wei

    class PaymentSigned(Event):
        TOPIC = "signer.payment_signed"
        digest: str
        units: int
        tickets: int
        first_nonce: int
        signatures: str
        cost: Wei
        lost: bool

    class PaymentRefused(Event):
        TOPIC = "signer.payment_refused"
        status: int
        reason: str
        message: str

    class Closed(Event):
        TOPIC = "signer.session_closed"
        spent: Wei
        ask_number: int
