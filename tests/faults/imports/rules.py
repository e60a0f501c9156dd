"""What must hold of imports, each rule a function that yields what breaks it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.faults.checker.evidence import Evidence, Violation, differences
from tests.faults.checker.rows import Books
from tests.faults.checker.rules import no_nonce_twice, nonces_have_no_holes, released_is_logged
from tests.faults.imports import expected
from tests.faults.imports.rows import Rows, Where, event_key, ticket_key
from tests.faults.imports.sent import APP, GOOD, HOUR_US, Event, Key, Sent, Ticket

MICROSECOND = 10**6


@dataclass
class Found:
    """What there is in the end: tables, what others hold, and what the services say."""

    account_ids: set[str]
    rows: Rows
    books: Books  # of the signer's log, and how far metering is in it
    evidence: Evidence  # what clients hold who paid meanwhile
    told: dict[expected.Place, Fraction] = field(default_factory=dict)  # by /v1/usage, of meters
    told_cost: dict[tuple[str, str, int], int] = field(default_factory=dict)  # of payments, by user, hour
    spent: dict[str, int] = field(default_factory=dict)  # by account, as quota says
    differing: list[str] = field(default_factory=list)  # tables that `replay --verify` names


def answers_are_kept(sent: Sent, found: Found) -> Iterator[Violation]:
    """What was answered is stored, what had to be refused is not, and nobody was told "recorded" twice."""
    stored = {one.key for one in found.rows.stored}
    for key in sent.events.keys() | sent.tickets.keys():
        answers, due = sent.answers.get(key, Counter()), sent.due(key)
        if not answers:
            yield Violation("never answered", str(key))
        for answer in answers:
            if answer != due if due else answer not in GOOD:
                yield Violation("answered otherwise", f"{key}: {answer}, not {due or sorted(GOOD)}")
        if answers["recorded"] > 1:
            yield Violation("told twice that it was recorded", f"{key}: {answers}")
        if not due and key not in stored:
            yield Violation("answered, and not stored", f"{key}: {dict(answers)}")


def each_is_stored_once(sent: Sent, found: Found) -> Iterator[Violation]:
    for key, times in Counter(one.key for one in found.rows.stored).items():
        if times > 1:
            yield Violation("stored twice", f"{key}: {times} times")
    sound = expected.kept_events(sent).keys() | expected.kept_tickets(sent).keys()
    for one in found.rows.stored:
        if one.key[1] in found.account_ids and one.key not in sound:
            yield Violation("stored, and not sent", str(one))


def each_is_stored_as_it_was_sent(sent: Sent, found: Found) -> Iterator[Violation]:
    due: dict[Key, tuple[Any, ...]] = {key: _event(one) for key, one in expected.kept_events(sent).items()}
    due |= {key: _ticket(one) for key, one in expected.kept_tickets(sent).items()}
    for one in found.rows.stored:
        if one.said != due.get(one.key, one.said):
            yield Violation("stored other than sent", f"{one.key}: {one.said}, not {due[one.key]}")


def keys_are_those_of_the_log(_: Sent, found: Found) -> Iterator[Violation]:
    """Of all accounts: who ever pushes again is told apart by them."""
    events = {event_key(one.key): one.where for one in found.rows.stored if one.key[0] == "event"}
    yield from differences("keys of events", events, found.rows.keys)
    tickets = {ticket_key(one.key) for one in found.rows.stored if one.key[0] == "ticket"}
    for key in tickets ^ found.rows.ticket_keys:
        yield Violation("keys of tickets", f"{key} is in the {'log' if key in tickets else 'table'} alone")


def corrections_are_numbered(sent: Sent, found: Found) -> Iterator[Violation]:
    """One after the other, from 1, by record; and each where the log has it."""
    numbers: dict[Key, list[int]] = defaultdict(list)
    places: dict[tuple[Any, int], Where] = {}
    for one in found.rows.stored:
        if one.number:
            kind, account_id, source, _ = one.key
            key = (kind, account_id, source, one.said[0])
            numbers[key].append(one.number)
            places[event_key(key), one.number] = one.where
    yield from differences("places of corrections", places, found.rows.corrections)
    ours = {key: sorted(each) for key, each in numbers.items() if key[1] in found.account_ids}
    due = {key: list(range(1, count + 1)) for key, count in expected.numbers_of_corrections(sent).items()}
    yield from differences("numbers of corrections", due, ours)


def hours_are_exact(sent: Sent, found: Found) -> Iterator[Violation]:
    yield from differences("hours of a meter", expected.hours(sent), found.rows.hours)
    yield from differences("values of a meter", expected.values(sent), found.rows.values)
    yield from differences("hours of imported payments", expected.paid_hours(sent), found.rows.paid_hours)
    sessions = expected.paid_sessions(sent)
    yield from differences("sessions of imported payments", sessions, found.rows.paid_sessions)
    for text in found.rows.odd:
        yield Violation("row that no import makes", text)


def signed_hours_are_those_of_the_log(_: Sent, found: Found) -> Iterator[Violation]:
    """What clients paid meanwhile: metering has of it what the signer's log says, by user and hour."""
    due: dict[tuple[str, str, int], tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for one in found.books.payments:
        place = one.account_id, one.user_id or "", _hour(one.at.timestamp())
        if one.account_id in found.account_ids:
            payments, tickets, cost = due[place]
            due[place] = payments + 1, tickets + one.tickets, cost + one.cost
    yield from differences("hours of signed payments", dict(due), found.rows.signed_hours)
    if found.books.metered_to != found.books.ends_at:
        text = f"metering is at {found.books.metered_to}, the signer's log ends at {found.books.ends_at}"
        yield Violation("does not catch up", text)
    for letter in found.books.dead_letters:
        yield Violation("dead letter", letter)


def signed_payments_are_sound(_: Sent, found: Found) -> Iterator[Violation]:
    """The rules of the kill matrix that a relay's death could break."""
    for rule in (released_is_logged, no_nonce_twice, nonces_have_no_holes):
        for broken in rule(found.books, found.evidence):
            yield Violation("signed payments", str(broken))


def all_say_the_same(sent: Sent, found: Found) -> Iterator[Violation]:
    """What is asked of `/v1/usage`, what quota spent, and what a rebuild of the tables makes."""
    yield from differences("usage as it is told", expected.told(sent), found.told)
    cost: Counter[tuple[str, str, int]] = Counter()
    for one in found.books.payments:
        if one.account_id in found.account_ids:
            cost[one.account_id, one.user_id or "", _hour(one.at.timestamp())] += one.cost
    for place, paid in expected.paid_hours(sent).items():
        cost[place.account_id, place.user_id, place.hour] += paid.cost
    yield from differences("cost as it is told", dict(cost), found.told_cost)
    spent: Counter[str] = Counter()
    for (account_id, _, _), wei in cost.items():
        spent[account_id] += wei
    yield from differences("spend in quota", dict(spent), found.spent)
    for table in found.differing:
        yield Violation("table is not its rebuild", table)


type Rule = Callable[[Sent, Found], Iterable[Violation]]

RULES: tuple[Rule, ...] = (
    answers_are_kept,
    each_is_stored_once,
    each_is_stored_as_it_was_sent,
    keys_are_those_of_the_log,
    corrections_are_numbered,
    hours_are_exact,
    signed_hours_are_those_of_the_log,
    signed_payments_are_sound,
    all_say_the_same,
)


def violations(sent: Sent, found: Found) -> list[Violation]:
    return [violation for rule in RULES for violation in rule(sent, found)]


def _event(event: Event) -> tuple[Any, ...]:
    data = None if event.data is None else expected.in_billionths(event.data)
    return (event.corrects, data) if event.corrects else (event.type, event.user_id, event.at, data)


def _ticket(ticket: Ticket) -> tuple[Any, ...]:
    session_id = f"go-livepeer:{ticket.session_id}"
    return (
        *(ticket.user_id, session_id, ticket.sequence, ticket.job_type, APP, ticket.recipient),
        *(ticket.at, ticket.tickets, ticket.fee, ticket.units),
    )


def _hour(seconds: float) -> int:
    return int(seconds * MICROSECOND) // HOUR_US
