"""The rules and emergency stops as the signer sees them: quota's buckets, kept in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from pydantic import ValidationError

from contracts.limits import RulesEntry, Scoped, plan_entry, scope_entry
from contracts.stops import STOP_ENTRIES, StopKind, StopView, stop_entry
from services.signer.kept import Kept, Look
from services.signer.permits import OPEN, Job, Level, Permit, Scope, Terms, Who, permit_of, terms_of
from services.signer.refusal import unavailable

DEFAULT_PLAN = "default"
KEPT_MAX = 20_000  # of those who asked last, as many as sessions stay in memory; and of their entries
JOBS_MAX = 5_000  # apps and URLs are the clients' words, and long

log = structlog.get_logger()


class UnreadableError(Exception):
    """An entry is not what this release can read: what it forbids is not known."""


class Bucket(Protocol):
    """A copy of a bucket in memory. `ready` is false until it was read, and while it is read anew."""

    ready: bool

    def get(self, key: str) -> bytes | None:
        """An entry; the same object until it changes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry made ready: the terms of a scope, or of a plan."""

    plan: str | None
    terms: Terms
    user_terms: Terms = OPEN
    key_terms: Terms = OPEN


NOTHING_SET = Entry(None, OPEN)


class WatchedRules:
    """Reads entries when they change. Once loaded, the last copy counts, also while nobody writes it."""

    def __init__(self, rules: Bucket, stops: Bucket) -> None:
        self._buckets = (rules, stops)
        self._loaded = False
        self._entries: Kept[str, Entry] = Kept(rules.get, _entry, KEPT_MAX)
        self._permits: Kept[Who, Permit] = Kept(self._look, self._permit, KEPT_MAX)
        self._stops: Kept[Job, Sequence[StopView]] = Kept(stops.get, _stops_of_job, JOBS_MAX)

    @property
    def known(self) -> bool:
        """Whether they were ever loaded: a signer that knows no stops signs nothing."""
        self._loaded = self._loaded or all(bucket.ready for bucket in self._buckets)
        return self._loaded

    def _look(self, name: str) -> bytes | None:
        rules, stops = self._buckets
        return (stops if name.startswith(STOP_ENTRIES) else rules).get(name)

    def of(self, who: Who) -> Permit:
        return self._read(self._permits.of, who)

    def stops(self, job: Job) -> Sequence[StopView]:
        return self._read(self._stops.of, job)

    def _read[Q, A](self, read: Callable[[Q], A], question: Q) -> A:
        if not self.known:
            raise unavailable("rules_unknown")
        try:
            return read(question)
        except UnreadableError as problem:
            log.error("rules_unreadable", entry=str(problem), problem=repr(problem.__cause__))
            raise unavailable("rules_unknown") from problem

    def _permit(self, who: Who, look: Look) -> Permit:
        stops = [stop for what, value in _who_can_be_stopped(who) if (stop := _stop(what, value, look))]
        return permit_of(list(self._scopes(who, look)), stops)

    def _scopes(self, who: Who, look: Look) -> Iterator[Scope]:
        account = Scoped(account_id=who.account_id)
        own = self._entry_of(scope_entry(account), look) or NOTHING_SET
        plan = self._plan(own.plan, look)
        yield Scope("account", scope_entry(account), own.terms.over(plan.terms))
        others: list[tuple[Level, Scoped, Terms]] = [
            ("user", account.model_copy(update={"user_id": who.user_id}), plan.user_terms),
            ("key", account.model_copy(update={"key_id": who.key_id}), plan.key_terms),
            ("token", account.model_copy(update={"token_id": who.token_id}), OPEN),
        ]
        for level, scope, default in others:
            name = scope_entry(scope)
            if scope != account:  # there is such a one
                yield Scope(level, name, (self._entry_of(name, look) or NOTHING_SET).terms.over(default))

    def _plan(self, name: str | None, look: Look) -> Entry:
        """The account's; where there is none, the one named `default`."""
        named = self._entry_of(plan_entry(name), look) if name is not None else None
        return named or self._entry_of(plan_entry(DEFAULT_PLAN), look) or NOTHING_SET

    def _entry_of(self, name: str, look: Look) -> Entry | None:
        return self._entries.of(name) if look(name) is not None else None


def _entry(name: str, look: Look) -> Entry:
    try:
        entry = RulesEntry.model_validate_json(look(name) or b"")
    except ValidationError as problem:
        raise UnreadableError(name) from problem
    terms, user_terms, key_terms = map(terms_of, (entry.rules, entry.user_rules, entry.key_rules))
    return Entry(entry.plan, terms, user_terms, key_terms)


def _who_can_be_stopped(who: Who) -> Iterator[tuple[StopKind, str]]:
    yield "everything", ""
    yield "payer", who.payer
    yield "account", who.account_id
    if who.user_id is not None:
        yield "user", f"{who.account_id}:{who.user_id}"
    yield "key", who.key_id


def _stops_of_job(job: Job, look: Look) -> Sequence[StopView]:
    url = job.orchestrator_url
    stoppable: list[tuple[StopKind, str]] = [
        ("job_type", job.job_type),
        ("app", job.app),
        ("recipient", "0x" + job.recipient.hex()),
        ("orchestrator_url", url),
        ("orchestrator_url", url.lower().rstrip("/")),  # which are the same to all who ask there
    ]
    return tuple(stop for what, value in stoppable if (stop := _stop(what, value, look)))


def _stop(what: StopKind, value: str, look: Look) -> StopView | None:
    name = stop_entry(what, value)
    entry = look(name)
    try:
        return StopView.model_validate_json(entry) if entry is not None else None
    except ValidationError as problem:
        raise UnreadableError(name) from problem
