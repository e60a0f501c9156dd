"""Each kind of violation, forged into what importers sent and into rows that were read from a sound system.

Every forgery changes a copy, and is named by the rule that has to notice it.
"""

from collections import Counter
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any
from uuid import UUID

from tests.faults.checker.rows import Payment
from tests.faults.imports.rows import Stored
from tests.faults.imports.rules import Found, violations
from tests.faults.imports.sent import Key, Sent

type Forge = Callable[[Sent, Found], object]

NOBODYS = UUID(int=0)
FAR = 10**12  # a position or amount that nothing real has


def noticed(sent: Sent, found: Found) -> dict[str, bool]:
    """Forge each in a copy; whether its rule was broken then."""
    return {rule: rule in _rules_broken(forge, sent, found) for rule, forge in FORGERIES.items()}


def _rules_broken(forge: Forge, sent: Sent, found: Found) -> set[str]:
    forged_sent, forged = _copied(sent), _copied(found)
    forged.rows, forged.books = _copied(found.rows), _copied(found.books)
    forged.evidence = _copied(found.evidence)
    forge(forged_sent, forged)
    return {violation.rule for violation in violations(forged_sent, forged)}


def _copied[T](rows: T) -> T:
    """Its lists, sets and mappings are new; what is in them never changes."""
    made = copy(rows)
    for name, value in vars(rows).items():
        setattr(made, name, copy(value))
    return made


def _stored(found: Found, kind: str, *, corrected: bool = False) -> int:
    """The place of one that an importer sent."""
    return next(
        place
        for place, one in enumerate(found.rows.stored)
        if one.key[0] == kind and one.key[1] in found.account_ids and bool(one.number) is corrected
    )


def _answer(sent: Sent, answers: Counter[str], *, recorded: bool = False) -> None:
    """Change the answers of one that was to be kept."""
    kept = (key for key in sent.answers if not sent.due(key))
    key = next(key for key in kept if not recorded or sent.answers[key]["recorded"])
    sent.answers[key] = answers


def _forget(found: Found) -> None:
    del found.rows.stored[_stored(found, "event")]


def _store_again(found: Found) -> None:
    found.rows.stored.append(found.rows.stored[_stored(found, "ticket")])


def _store_unsent(found: Found) -> None:
    one = found.rows.stored[_stored(found, "event")]
    key: Key = (*one.key[:3], "never sent")
    found.rows.stored.append(Stored(key, one.said, one.where))


def _alter(found: Found) -> None:
    place = _stored(found, "ticket")
    one = found.rows.stored[place]
    found.rows.stored[place] = replace(one, said=(*one.said[:-1], one.said[-1] + 1))


def _renumber(found: Found) -> None:
    place = _stored(found, "event", corrected=True)
    found.rows.stored[place] = replace(found.rows.stored[place], number=999)


def _add_one(rows: dict[Any, Any], field: str) -> None:
    place = next(iter(rows))
    row = rows[place]
    rows[place] = row._replace(**{field: getattr(row, field) + 1})


def _one_more(rows: dict[Any, Any]) -> None:
    rows[next(iter(rows))] += 1


def _drop(rows: dict[Any, Any]) -> None:
    del rows[next(iter(rows))]


def _pay_unseen(found: Found) -> None:
    """A payment of an importer that no row tells of."""
    payment: Payment = next(one for one in found.books.payments if one.account_id in found.account_ids)
    found.books.payments.append(replace(payment, position=FAR))


def _lose_released(found: Found) -> None:
    """The log lost what a client holds, and the tables with it."""
    ticket, _ = next(iter(found.evidence.receipts[0].tickets()))
    found.books.payments = [
        one for one in found.books.payments if (one.payer, one.rand_hash) != (ticket.payer, ticket.rand_hash)
    ]


FORGERIES: dict[str, Forge] = {
    "never answered": lambda sent, _: _answer(sent, Counter()),
    "answered otherwise": lambda sent, _: _answer(sent, Counter({"bad_event": 1})),
    "told twice that it was recorded": lambda sent, _: _answer(sent, Counter(recorded=2), recorded=True),
    "answered, and not stored": lambda _, found: _forget(found),
    "stored twice": lambda _, found: _store_again(found),
    "stored, and not sent": lambda _, found: _store_unsent(found),
    "stored other than sent": lambda _, found: _alter(found),
    "keys of events": lambda _, found: _drop(found.rows.keys),
    "keys of tickets": lambda _, found: found.rows.ticket_keys.add(NOBODYS),
    "places of corrections": lambda _, found: _drop(found.rows.corrections),
    "numbers of corrections": lambda _, found: _renumber(found),
    "hours of a meter": lambda _, found: _add_one(found.rows.hours, "amount"),
    "values of a meter": lambda _, found: _one_more(found.rows.values),
    "hours of imported payments": lambda _, found: _add_one(found.rows.paid_hours, "late"),
    "sessions of imported payments": lambda _, found: _add_one(found.rows.paid_sessions, "cost"),
    "row that no import makes": lambda _, found: found.rows.odd.append("of another hour"),
    "hours of signed payments": lambda _, found: _pay_unseen(found),
    "does not catch up": lambda _, found: setattr(found.books, "metered_to", 0),
    "dead letter": lambda _, found: found.books.dead_letters.append("metering 1 1 not as the contract says"),
    "signed payments": lambda _, found: _lose_released(found),
    "usage as it is told": lambda _, found: _one_more(found.told),
    "cost as it is told": lambda _, found: _one_more(found.told_cost),
    "spend in quota": lambda _, found: _one_more(found.spent),
    "table is not its rebuild": lambda _, found: found.differing.append("meter_hourly"),
}
