"""Who may come in, from where, until when and how often: what each request passes before its route."""

from dataclasses import dataclass
from typing import Final, Literal

import structlog
from starlette.types import Scope

from contracts.accounts import Identity
from services.edge.auth import (
    Administrator,
    Authenticator,
    KeyExpired,
    NetworkRefused,
    NotReadyError,
    TooMany,
    UnknownKey,
)
from services.edge.caps import Cap, Pace
from services.edge.networks import ClientAddresses, visitor_of
from services.edge.rules import Bounds, RuleBook, RulesUnknownError
from services.edge.sightings import Sightings
from services.edge.tokens import TokenHolder, token_id_of
from shared import telemetry
from shared.clock import Clock

VISITORS_MAX = 20_000
PAYERS_MAX = 100_000
BURST_SECONDS = 2  # of payments
TOKENS = Pace(per_second=10, burst=200)  # that a key may make: quota remembers those with limits
PAGES = Pace(per_second=10, burst=50)  # of the console, for a key: each asks the services some thirty times
TOLD = Pace(per_second=0.1, burst=1)  # lines in the log of one cap and key: a flood is not to flood it
HOOKS = frozenset({"/authorize", "/auth/stream"})
COARSE = 2  # a rule is counted exactly by the signer; here one replica lets so much more pass


type Capped = Literal["no_valid_key", "payments_of_key", "payments_of_token", "tokens_of_key", "pages_of_key"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Paces:
    """For this process; None: no cap."""

    unknown: Pace | None  # requests of an address without a valid key
    payments: Pace | None  # of a key


class Admission:
    def __init__(
        self,
        authenticator: Authenticator,
        rules: RuleBook,
        addresses: ClientAddresses,
        paces: Paces,
        *,
        sightings: Sightings,
        clock: Clock,
    ) -> None:
        self._authenticator = authenticator
        self._rules: Final = rules
        self._addresses = addresses
        self._paces = paces
        self._sightings = sightings
        self._clock = clock
        self._visitors = Cap(VISITORS_MAX)
        self._payers = Cap(PAYERS_MAX)
        self._told = Cap(PAYERS_MAX)

    async def admit(self, scope: Scope) -> Identity:
        """Return whose request it is; raise AuthenticationRefused."""
        header = scope["head"].get(b"authorization")
        identity = self._authenticator.recall(header) or await self._look_up(scope, header)
        scope["account_id"] = identity.account_id
        scope["bounds"] = self.check(identity, identity.user_id, scope)
        # At a hook somebody else shows the key; tokens are made to be shown from everywhere.
        if scope["path"] not in HOOKS and not isinstance(identity, TokenHolder):
            self._sightings.note(identity, self._addresses.of(scope))
        return identity

    async def admit_anybody(self, scope: Scope) -> Identity | Administrator:
        administrator = self._authenticator.find_administrator(scope["head"].get(b"authorization"))
        return administrator or await self.admit(scope)

    def check(self, identity: Identity, user_id: str | None, scope: Scope) -> Bounds:
        """Raise AuthenticationRefused unless the rules of all that is named let this request pass."""
        try:
            bounds = self._rules.of(
                identity.account_id,
                user_id=user_id,
                key_id=identity.key_id,
                token_id=token_id_of(identity),
            )
        except RulesUnknownError as problem:
            raise NotReadyError(str(problem)) from problem
        if isinstance(identity, TokenHolder) and identity.limited and not bounds.has_token:
            raise NotReadyError("the limits of this session token have not arrived here yet")
        if bounds.expires_at is not None and self._clock.now() >= bounds.expires_at:
            raise KeyExpired
        if bounds.networks:
            address = self._addresses.of(scope)
            if not bounds.allow(address):
                raise NetworkRefused(str(address or "an address that cannot be told"))
        return bounds

    def count_payment(self, identity: Identity, user_id: str | None, scope: Scope) -> None:
        """Let a payment for a user pass, after `admit`; raise AuthenticationRefused."""
        bounds = scope["bounds"]
        if user_id != identity.user_id:
            bounds = self.check(identity, user_id, scope)
        pace = _coarse(bounds.of_key, self._paces.payments)
        if pace is not None:
            self._count_payment("payments_of_key", identity.key_id, pace, identity)
        token_id = token_id_of(identity)
        if token_id is not None and bounds.of_token is not None:
            of_token = _coarse(bounds.of_token, None)
            self._count_payment("payments_of_token", f"token {token_id}", of_token, identity)

    def count_token(self, identity: Identity) -> None:
        """Let a key make a session token; raise TooMany."""
        wait = self._payers.take(f"tokens of {identity.key_id}", TOKENS)
        if wait > 0:
            self._note("tokens_of_key", identity)
            raise TooMany("too many session tokens a second of this key", wait)

    def count_page(self, identity: Identity) -> None:
        """Let somebody see a page who signed in with this key; raise TooMany."""
        wait = self._payers.take(f"pages of {identity.key_id}", PAGES)
        if wait > 0:
            self._note("pages_of_key", identity)
            raise TooMany("too many pages a second with this key", wait)

    def _count_payment(self, capped: Capped, name: str, pace: Pace | None, identity: Identity) -> None:
        wait = self._payers.take(name, pace) if pace else 0.0
        if wait > 0:
            self._note(capped, identity)
            raise TooMany("too many payments a second with this key", wait)

    def _note(self, capped: Capped, identity: Identity | None = None) -> None:
        """Count what a cap of ours refuses, and tell of it now and then."""
        telemetry.edge_capped_requests_total.labels(capped).inc()
        key_id = identity.key_id if identity else None
        if self._told.take(f"{capped} {key_id}", TOLD) == 0:
            account_id = identity.account_id if identity else None
            log.warning("requests_capped", cap=capped, account_id=account_id, key_id=key_id)

    async def _look_up(self, scope: Scope, header: bytes | None) -> Identity:
        """Authenticate what is not known by heart; whoever has no valid key is counted by address.

        Over the cap nothing is asked for him. A valid key passes all the same, and a known one that is
        refused is told so: its holder is to stop, not to come back.
        """
        pace = self._paces.unknown
        if pace is None:
            return await self._authenticator.authenticate(header)
        visitor = visitor_of(self._addresses.of(scope))
        may_ask = self._visitors.wait(visitor, pace) == 0
        try:
            return await self._authenticator.authenticate(header, may_ask=may_ask)
        except TooMany:
            self._note("no_valid_key")
            raise
        except UnknownKey:
            wait = self._visitors.take(visitor, pace)
            if wait > 0:
                self._note("no_valid_key")
                raise TooMany("too many requests without a valid API key", wait) from None
            raise


def _coarse(rule: int | None, pace: Pace | None) -> Pace | None:
    """The cap of a process, or twice the rule if that is less."""
    if rule is None or (pace is not None and pace.per_second <= COARSE * rule):
        return pace
    return Pace(COARSE * rule, COARSE * rule * BURST_SECONDS)
