"""The reply to a payment, built from what is stored: the same request gives the same bytes."""

from base64 import b64decode

from services.signer.domain.session import PaymentSession
from services.signer.intent import Intent
from services.signer.payer import Payer
from services.signer.state import State, StateSeal, encode, go_time
from services.signer.tickets import encode_credentials, encode_payment


def reply(intent: Intent, session: PaymentSession, payer: Payer, seal: StateSeal) -> str:
    """The JSON of protocol §1.3."""
    quote = intent.quote
    joined = b64decode(session.last_signatures)
    signatures = [joined[start : start + 65] for start in range(0, len(joined), 65)]
    payment = encode_payment(quote, payer.key.address, session.last_first_nonce, signatures)
    manifest_id = intent.body.manifest_id or next(iter(session.manifests))
    assert quote.auth_token is not None
    credentials = encode_credentials(
        manifest_id,
        b64decode(session.manifests[manifest_id]),
        quote.auth_token,
        intent.body.capabilities,
    )
    state = seal.wire(session.account_id, encode(_state_of(session)))
    return f'{{"payment":"{payment}","segCreds":"{credentials}","state":{state}}}'


def _state_of(session: PaymentSession) -> State:
    return State(
        state_id=session.session_id,
        pm_session_id="0x" + session.recipient_rand_hash,
        last_update=go_time(session.last_at),
        orchestrator_address=session.orchestrator,
        app=session.app,
        sender_nonce=session.last_nonce,
        balance=session.balance_wei,
        initial_price_per_unit=session.price_per_unit,
        initial_pixels_per_unit=session.pixels_per_unit,
        job_type=session.job_type,
        sequence=session.sequence,
    )
