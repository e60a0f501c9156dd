"""A payment as the signer's log tells it to those who follow."""

from typing import Any

from contracts.signer import PaymentSigned


def payment_signed(session_id: str, cost: int, **told: Any) -> PaymentSigned:
    """A live payment of one ticket, of `acme` unless told; `cost` in wei."""
    usual: dict[str, Any] = {
        "account_id": "acme",
        "user_id": None,
        "app": "app",
        "job_type": "live",
        "recipient": "0x" + "22" * 20,
        "payer": "0x" + "11" * 20,
        "tickets": 1,
        "face_value": 1000,
        "win_prob": "0x1",
        "units": 1,
        "price_per_unit": 1,
        "pixels_per_unit": 1,
        "creation_round": 10,
    }
    return PaymentSigned(session_id=session_id, cost=cost, **{**usual, **told})
