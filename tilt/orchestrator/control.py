"""Steering for tests: other terms, hostile quotes, repeated challenges, faults, and a lost memory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tilt.orchestrator.auth_tokens import LIFE_SECONDS
from tilt.orchestrator.certificate import Certificate
from tilt.orchestrator.challenges import Repeat
from tilt.orchestrator.faults import Fault
from tilt.orchestrator.oddities import OddQuote
from tilt.orchestrator.offer import Model
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.runners import Runner
from tilt.orchestrator.terms import SHORT_TOKEN_LIFE_SECONDS, Price, Terms
from tilt.orchestrator.tickets import Wei

RELEASED = "released by a test"

type Changes = dict[str, Any]  # fields of a Runner or a Model


class BasePrice(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    price_per_unit: int
    pixels_per_unit: int = 1


class Wish(BaseModel):
    """What a test may ask for; absent means as it was."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reset: bool = False  # first of all, everything below as at the start

    ticket_ev_wei: int | None = None
    face_value_wei: int | None = None
    params_life_blocks: int | None = None
    token_life_seconds: int | None = None
    expire_params: bool | None = None  # tokens that are good for one payment, or long-lived ones again
    price_per_unit: int | None = None  # of the first runner
    base_price: BasePrice | None = None
    runners: dict[str, Changes] = Field(default_factory=dict)  # by id
    models: dict[str, Changes] = Field(default_factory=dict)  # by "pipeline/name"
    version: str | None = None
    mandatories: list[int] | None = None
    capped: bool | None = None
    quote: OddQuote | None = None  # null: honest quotes again
    repeat_402: Repeat | int | None = None  # 0 or null: no more of them
    faults: list[Fault] = Field(default_factory=list)  # beside those planned already
    clear_faults: bool = False

    new_secret: bool = False
    restart: bool = False
    new_certificate: bool = False
    release: str | None = None  # a session's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What can be changed and put back."""

    terms: Terms
    runners: Mapping[str, Runner]
    base_price: Price
    models: Mapping[str, Model]
    version: str
    mandatories: list[int]
    capped: bool

    @classmethod
    def of(cls, orchestrator: Orchestrator) -> Self:
        offer = orchestrator.offer
        return cls(
            terms=orchestrator.quotes.terms,
            runners={runner.id: runner for runner in orchestrator.runners},
            base_price=offer.base_price,
            models=dict(offer.models),
            version=offer.version,
            mandatories=offer.mandatories,
            capped=orchestrator.is_capped,
        )

    def install(self, orchestrator: Orchestrator) -> None:
        orchestrator.quotes.terms = self.terms
        orchestrator.runners.replace(self.runners.values())
        offer = orchestrator.offer
        offer.base_price, offer.models = self.base_price, dict(self.models)
        offer.version, offer.mandatories = self.version, self.mandatories
        orchestrator.is_capped = self.capped

    def changed(self, wish: Wish) -> "Setup":
        """Apply a wish; raises ValueError for what makes no sense, and RefusedError for what is unknown."""
        base = wish.base_price
        return Setup(
            terms=_terms(self.terms, wish),
            runners={**self.runners, **self._changed_runners(wish)},
            base_price=self.base_price if base is None else Price(base.price_per_unit, base.pixels_per_unit),
            models={**self.models, **_changed(self.models, wish.models, Model)},
            version=_or(wish.version, self.version),
            mandatories=_or(wish.mandatories, self.mandatories),
            capped=_or(wish.capped, self.capped),
        )

    def _changed_runners(self, wish: Wish) -> dict[str, Runner]:
        wishes = dict(wish.runners)
        if wish.price_per_unit is not None:
            first = next(iter(self.runners))
            wishes[first] = {**wishes.get(first, {}), "price_per_unit": wish.price_per_unit}
        return _changed(self.runners, wishes, Runner)


class Control:
    def __init__(self, orchestrator: Orchestrator, certificate: Certificate | None) -> None:
        self._orchestrator = orchestrator
        self._certificate = certificate
        self._start = Setup.of(orchestrator)

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked, or nothing; returns the terms as they are then."""
        try:
            wish = Wish.model_validate(body)
            setup = (self._start if wish.reset else Setup.of(self._orchestrator)).changed(wish)
            self._check(wish)
            self._change_quotes(wish)
        except (ValidationError, ValueError) as error:
            raise RefusedError(400, str(error)) from error
        setup.install(self._orchestrator)
        self._plan(wish)
        self._act(wish)
        return terms_document(self._orchestrator)

    def _check(self, wish: Wish) -> None:
        if wish.release is not None and not self._orchestrator.sessions.named(wish.release):
            raise RefusedError(404, "session not found")
        if wish.new_certificate and self._certificate is None:
            raise RefusedError(400, "there is no TLS port")

    def _change_quotes(self, wish: Wish) -> None:
        if wish.reset or "quote" in wish.model_fields_set:
            self._orchestrator.oddities.want(wish.quote)

    def _plan(self, wish: Wish) -> None:
        faults, repeat = self._orchestrator.faults, wish.repeat_402
        if wish.reset or wish.clear_faults:
            faults.clear()
        for fault in wish.faults:
            faults.plan(fault)
        if isinstance(repeat, int):
            repeat = Repeat(times=repeat) if repeat > 0 else None
        if wish.reset or "repeat_402" in wish.model_fields_set:
            self._orchestrator.repeats.want(repeat)

    def _act(self, wish: Wish) -> None:
        if wish.new_secret:
            self._orchestrator.renew_ticket_secret()
        if wish.new_certificate and self._certificate is not None:
            self._certificate.renew()
        if wish.release is not None:
            for session in self._orchestrator.sessions.named(wish.release):
                self._orchestrator.sessions.release(session, RELEASED)
        if wish.restart:
            self._orchestrator.restart_without_state()


def terms_document(orchestrator: Orchestrator) -> dict[str, Any]:
    terms, first = orchestrator.quotes.terms, next(iter(orchestrator.runners))
    return {
        "ticket_ev_wei": terms.ticket_ev,
        "face_value_wei": terms.face_value,
        "price_per_unit": first.price_per_unit,
        "pixels_per_unit": first.pixels_per_unit,
        "params_life_blocks": terms.params_life_blocks,
        "token_life_seconds": terms.token_life_seconds,
    }


def _changed[T: (Runner, Model)](
    current: Mapping[str, T], changes: Mapping[str, Changes], kind: type[T]
) -> dict[str, T]:
    """Change some; a runner keeps its id and a model its name, as others know them by it."""
    changed = {}
    for key, wanted in changes.items():
        if key not in current:
            raise RefusedError(404, f"{key} not found")
        changed[key] = kind.model_validate({**current[key].model_dump(), **wanted})
        if changed[key].key != key:
            raise ValueError(f"{key} keeps its name")
    return changed


def _terms(terms: Terms, wish: Wish) -> Terms:
    return replace(
        terms,
        ticket_ev=Wei(_or(wish.ticket_ev_wei, terms.ticket_ev)),
        face_value=Wei(_or(wish.face_value_wei, terms.face_value)),
        params_life_blocks=_or(wish.params_life_blocks, terms.params_life_blocks),
        token_life_seconds=_token_life(terms, wish),
    )


def _token_life(terms: Terms, wish: Wish) -> int:
    """A quote with a short-lived token is good for one payment; then its signer asks anew."""
    if wish.expire_params is None:
        return _or(wish.token_life_seconds, terms.token_life_seconds)
    return SHORT_TOKEN_LIFE_SECONDS if wish.expire_params else LIFE_SECONDS


def _or[T](wanted: T | None, current: T) -> T:
    return current if wanted is None else wanted
