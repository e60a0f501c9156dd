"""What may be signed for a request: the rules of its account, user, key and session token.

All that hold are checked, each by itself; what a scope leaves open comes from its account's plan.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

from contracts.limits import Rules
from contracts.stops import StopView
from services.signer.asking import Asked, capabilities_asked, capability_named
from services.signer.pace import Rate
from services.signer.rules import Ceiling, Limits
from shared.money import Wei

TIGHTENED_MAX = 4096  # limits kept: plans share them

type Level = Literal["account", "user", "key", "token"]


class Who(NamedTuple):
    """Whose rules and stops hold: known before a request is read."""

    account_id: str
    user_id: str | None
    key_id: str
    token_id: str | None
    payer: str


class Job(NamedTuple):
    """What else may be stopped: known from the request itself."""

    job_type: str
    app: str
    recipient: bytes
    orchestrator_url: str


@dataclass(frozen=True, slots=True)
class Prices:
    """The highest prices per unit."""

    by_job_type: Mapping[str, Fraction]
    by_capability: Mapping[Asked, Fraction]

    def of(self, job_type: str, asked: frozenset[Asked]) -> Iterator[Fraction]:
        """Each ceiling that holds: the job type's, and the sum over what is asked for (protocol §6.3)."""
        if job_type in self.by_job_type:
            yield self.by_job_type[job_type]
        own = [price for each in asked if (price := self._of(each)) is not None]
        if own:
            yield sum(own, Fraction(0))

    def _of(self, asked: Asked) -> Fraction | None:
        """The model's, else its pipeline's."""
        price = self.by_capability.get(asked)
        return self.by_capability.get((asked[0], None)) if price is None else price


@dataclass(frozen=True, slots=True)
class Terms:
    """The rules of one scope, as they are checked. None: not set."""

    payments_per_second: int | None = None
    ticket_ev_max: Wei | None = None
    face_value_max: Wei | None = None
    prices: Prices | None = None
    job_types: frozenset[str] | None = None
    apps: frozenset[str] | None = None
    capabilities: frozenset[Asked] | None = None
    recipients: frozenset[bytes] | None = None
    expires_at: datetime | None = None

    def over(self, other: "Terms") -> "Terms":
        """These, and where they are not set the other's."""
        if self is OPEN or other is OPEN:
            return other if self is OPEN else self
        unset = (term.name for term in fields(self) if getattr(self, term.name) is None)
        return replace(self, **{name: getattr(other, name) for name in unset})


OPEN = Terms()


class Scope(NamedTuple):
    """One of those whose rules hold. `name` is that of its entry, whether there is one or not."""

    level: Level
    name: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class Permit:
    """All that holds for those who ask; without anything set, all is allowed."""

    scopes: tuple[Scope, ...] = ()  # those with rules
    stops: tuple[StopView, ...] = ()  # expired ones too
    rates: tuple[Rate, ...] = ()
    ticket_ev_max: Wei | None = None
    face_value_max: Wei | None = None

    def tighten(self, limits: Limits) -> Limits:
        """The signer's own limits, or what is tighter here."""
        if self.ticket_ev_max is None and self.face_value_max is None:
            return limits
        return _tightened(limits, self.ticket_ev_max, self.face_value_max)

    def ceilings(self, job_type: str, capabilities: bytes) -> list[Ceiling]:
        """Raises BadRequestError if the capabilities asked for cannot be read."""
        return [
            Ceiling(price, f"{scope.level} limit", "price_above_limit")
            for scope in self.scopes
            if scope.terms.prices is not None
            for price in scope.terms.prices.of(job_type, capabilities_asked(capabilities))
        ]


@lru_cache(maxsize=TIGHTENED_MAX)
def _tightened(limits: Limits, ticket_ev_max: Wei | None, face_value_max: Wei | None) -> Limits:
    ev_max = limits.max_ticket_ev if ticket_ev_max is None else ticket_ev_max
    return replace(
        limits,
        max_ticket_ev=min(limits.max_ticket_ev, ev_max),
        max_face_value=_least([limits.max_face_value, face_value_max]),
    )


def _least(values: Iterable[Wei | None]) -> Wei | None:
    return min((value for value in values if value is not None), default=None)


UNLIMITED_PERMIT = Permit()


class Permits(Protocol):
    """Where the rules are found."""

    def of(self, who: Who) -> Permit:
        """What holds for them; refuses with 503 if the rules are not known."""

    def stops(self, job: Job) -> Sequence[StopView]:
        """The stops of such jobs, expired ones too; refuses with 503 if they are not known."""


class Unlimited:
    """Permits for a signer that nobody limits: tests and simulations."""

    def of(self, who: Who) -> Permit:  # noqa: ARG002 (whoever it is)
        return UNLIMITED_PERMIT

    def stops(self, job: Job) -> Sequence[StopView]:  # noqa: ARG002 (whatever it is)
        return ()


UNLIMITED = Unlimited()


def permit_of(scopes: Sequence[Scope], stops: Sequence[StopView]) -> Permit:
    limited = tuple(scope for scope in scopes if scope.terms is not OPEN)
    if not limited and not stops:
        return UNLIMITED_PERMIT
    rates = ((scope.name, scope.terms.payments_per_second) for scope in limited)
    return Permit(
        scopes=limited,
        stops=tuple(stops),
        rates=tuple((name, rate) for name, rate in rates if rate is not None),
        ticket_ev_max=_least(scope.terms.ticket_ev_max for scope in limited),
        face_value_max=_least(scope.terms.face_value_max for scope in limited),
    )


def terms_of(rules: Rules | None) -> Terms:
    """Rules made ready to be checked. Names that nobody knows allow nothing, and price nothing."""
    if rules is None:
        return OPEN
    terms = Terms(
        payments_per_second=rules.payments_per_second,
        ticket_ev_max=None if rules.ticket_ev_max_wei is None else Wei(rules.ticket_ev_max_wei),
        face_value_max=(
            None if rules.ticket_face_value_max_wei is None else Wei(rules.ticket_face_value_max_wei)
        ),
        prices=None if rules.prices_max is None else _prices(rules.prices_max),
        job_types=None if rules.job_types is None else frozenset(rules.job_types),
        apps=None if rules.apps is None else frozenset(rules.apps),
        capabilities=None if rules.capabilities is None else _capabilities(rules.capabilities),
        recipients=None if rules.recipients is None else frozenset(map(_address, rules.recipients)),
        expires_at=rules.expires_at,
    )
    return OPEN if terms == OPEN else terms


def _prices(by_name: Mapping[str, str]) -> Prices:
    by_capability = {
        asked: Fraction(price) for name, price in by_name.items() if (asked := capability_named(name))
    }
    by_job_type = {name: Fraction(price) for name, price in by_name.items() if not capability_named(name)}
    return Prices(by_job_type, by_capability)


def _capabilities(names: Sequence[str]) -> frozenset[Asked]:
    return frozenset(asked for name in names if (asked := capability_named(name)))


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
