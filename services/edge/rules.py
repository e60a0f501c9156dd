"""What holds for a request beside its key: networks, expiry and pace, from the `rules` bucket."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog
from pydantic import ValidationError

from contracts.limits import Rules, RulesEntry, Scoped, plan_entry, scope_entry
from services.edge.networks import Address, Networks

log = structlog.get_logger()

REMEMBER_MAX = 50_000
DEFAULT_PLAN = "default"  # of accounts that are on none
NO_RULES, NO_ENTRY = Rules(), RulesEntry()

type Watched = tuple[tuple[str, bytes | None], ...]


class RulesUnknownError(Exception):
    """We cannot tell now what holds."""


class Bucket(Protocol):
    """A copy of the `rules` bucket; an entry's bytes stay the same object until it changes."""

    ready: bool

    def get(self, key: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """All that holds for a request, of all its scopes; payments a second of its key and its token."""

    networks: tuple[Networks, ...] = ()
    expires_at: datetime | None = None
    of_key: int | None = None
    of_token: int | None = None
    has_token: bool = False  # the token has rules of its own

    def allow(self, address: Address | None) -> bool:
        return address is not None and all(address in networks for networks in self.networks)


class RuleBook:
    """Puts together what was set for an account, a user, a key and a token, and for their plan."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._known: dict[tuple[str | None, ...], tuple[Watched, Bounds]] = {}

    def of(self, account_id: str, *, user_id: str | None, key_id: str, token_id: str | None = None) -> Bounds:
        """Raise RulesUnknownError before the bucket is loaded, or if an entry cannot be read."""
        if not self._bucket.ready:
            raise RulesUnknownError("rules are not loaded")
        names = (account_id, user_id, key_id, token_id)
        known = self._known.get(names)
        if known is not None:
            get = self._bucket.get
            for name, entry in known[0]:
                if get(name) is not entry:
                    break
            else:
                return known[1]
        return self._put_together(*names)

    def _put_together(
        self, account_id: str, user_id: str | None, key_id: str, token_id: str | None
    ) -> Bounds:
        watched: dict[str, bytes | None] = {}
        account = self._read(Scoped(account_id=account_id), watched)
        plan = self._read_entry(plan_entry(account.plan or DEFAULT_PLAN), watched)
        scopes = [_over(account.rules, plan.rules)]
        if user_id is not None:
            user = self._read(Scoped(account_id=account_id, user_id=user_id), watched)
            scopes.append(_over(user.rules, plan.user_rules))
        key = _over(self._read(Scoped(account_id=account_id, key_id=key_id), watched).rules, plan.key_rules)
        token = NO_RULES
        if token_id is not None:
            entry = self._read(Scoped(account_id=account_id, token_id=token_id), watched)
            token = entry.rules if entry is not NO_ENTRY else NO_RULES
        # A key's networks are where it is kept. Its tokens are shown elsewhere: they have their own.
        located = [*scopes, key if token_id is None else token]
        ends = [rules.expires_at for rules in (*scopes, key, token) if rules.expires_at is not None]
        bounds = Bounds(
            networks=tuple(Networks(rules.networks) for rules in located if rules.networks is not None),
            expires_at=min(ends, default=None),
            of_key=key.payments_per_second,
            of_token=token.payments_per_second,
            has_token=token is not NO_RULES,
        )
        if len(self._known) >= REMEMBER_MAX:
            self._known.clear()  # they come back one by one
        self._known[account_id, user_id, key_id, token_id] = (tuple(watched.items()), bounds)
        return bounds

    def _read(self, scope: Scoped, watched: dict[str, bytes | None]) -> RulesEntry:
        return self._read_entry(scope_entry(scope), watched)

    def _read_entry(self, name: str, watched: dict[str, bytes | None]) -> RulesEntry:
        entry = watched[name] = self._bucket.get(name)
        if entry is None:
            return NO_ENTRY
        try:
            return RulesEntry.model_validate_json(entry)
        except ValidationError as problem:
            log.error("rules_unreadable", entry=name, problems=problem.errors(include_input=False)[:3])
            raise RulesUnknownError(name) from problem


def _over(own: Rules, of_plan: Rules | None) -> Rules:
    """What was set for a scope, and what its plan says where nothing was."""
    if of_plan is None:
        return own
    return Rules(
        networks=of_plan.networks if own.networks is None else own.networks,
        expires_at=of_plan.expires_at if own.expires_at is None else own.expires_at,
        payments_per_second=own.payments_per_second or of_plan.payments_per_second,
    )
