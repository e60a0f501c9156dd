"""Steering for tests: change the terms, let quotes expire, forget the secret, end a session."""

from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tilt.orchestrator.auth_tokens import LIFE_SECONDS
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.quotes import SHORT_TOKEN_LIFE_SECONDS, Terms, UnacceptableTermsError
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.tickets import Wei


class Control(BaseModel):
    """What a test may ask for; absent means as it was."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    ticket_ev_wei: int | None = None
    face_value_wei: int | None = None
    price_per_unit: int | None = None
    params_life_blocks: int | None = None
    expire_params: bool | None = None
    new_secret: bool = False
    release: str | None = None


def apply_control(orchestrator: Orchestrator, body: dict[str, Any]) -> dict[str, Any]:
    try:
        control = Control.model_validate(body)
        orchestrator.quotes.terms = _changed(orchestrator.quotes.terms, control)
    except (ValidationError, UnacceptableTermsError) as error:
        raise RefusedError(400, str(error)) from error
    if control.new_secret:
        orchestrator.renew_ticket_secret()
    if control.release is not None:
        orchestrator.sessions.check_is_active(control.release)
        orchestrator.sessions.release(control.release, "released by a test")
    return terms_document(orchestrator.quotes.terms)


def terms_document(terms: Terms) -> dict[str, Any]:
    return {
        "ticket_ev_wei": terms.ticket_ev,
        "face_value_wei": terms.face_value,
        "price_per_unit": terms.price_per_unit,
        "pixels_per_unit": terms.pixels_per_unit,
        "params_life_blocks": terms.params_life_blocks,
        "token_life_seconds": terms.token_life_seconds,
    }


def _changed(terms: Terms, control: Control) -> Terms:
    return replace(
        terms,
        ticket_ev=_or(control.ticket_ev_wei, terms.ticket_ev),
        face_value=_or(control.face_value_wei, terms.face_value),
        price_per_unit=_or(control.price_per_unit, terms.price_per_unit),
        params_life_blocks=_or(control.params_life_blocks, terms.params_life_blocks),
        token_life_seconds=_token_life(terms, control),
    )


def _or[T: int](wanted: int | None, current: T) -> Wei:
    return Wei(current if wanted is None else wanted)


def _token_life(terms: Terms, control: Control) -> int:
    """A quote with a short-lived token is good for one payment; then its signer asks anew."""
    if control.expire_params is None:
        return terms.token_life_seconds
    return SHORT_TOKEN_LIFE_SECONDS if control.expire_params else LIFE_SECONDS
