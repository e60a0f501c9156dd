"""What must hold of limits, credit and stops; each rule as in `rules.py`."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from tests.faults.checker.buckets import expected, said
from tests.faults.checker.evidence import Evidence, Killed, Stopped, Violation, differences
from tests.faults.checker.limits import LimitLedger
from tests.faults.checker.purse import WORTH, is_valid, quarter
from tests.faults.checker.rows import Books
from tests.faults.checker.terms import Terms

# A second is promised; the rest is what a machine takes that has more to do than it can.
OBEYED_WITHIN = timedelta(seconds=3)
RECOVERED_WITHIN = timedelta(seconds=10)  # after a kill, who writes the buckets and who reads them


def books_of_limits_add_up(books: Books, _: Evidence) -> Iterator[Violation]:
    """No grant passes a limit that holds; users', keys' and tokens' books are what their accounts' say."""
    ledger = LimitLedger()
    for entry in books.limit_entries:
        yield from ledger.apply(entry)
    yield from ledger.differences()
    booked: Counter[tuple[str, str, int]] = Counter()
    for payment in books.payments:
        if payment.position <= books.booked_to:
            booked[payment.account_id, payment.session_id, quarter(payment.at)] += payment.cost
    yield from differences("spend in a quarter of an hour", booked, ledger.by_quarter)


def credit_adds_up(books: Books, evidence: Evidence) -> Iterator[Violation]:
    """Of each grant drawn + left is what was granted; what no grant covered is owed."""
    if not evidence.credit:
        return
    ledger = LimitLedger()
    for entry in books.limit_entries:
        list(ledger.apply(entry))
    for account_id, view in evidence.credit.items():
        credit = ledger.credit[account_id]
        left = {
            (account_id, name): grant["left"] // WORTH
            for name, grant in credit.grants.items()
            if is_valid(grant, evidence.asked_at)
        }
        found = {(account_id, row["grant_id"]): row["left_micro_usd"] for row in view["grants"]}
        yield from differences("left of credit", left, found)
        owed = {account_id: -(-credit.owed // WORTH)}
        yield from differences("owed beyond credit", owed, {account_id: view["owed_micro_usd"]})


def buckets_are_as_stored(books: Books, evidence: Evidence) -> Iterator[Violation]:
    """Whatever died between a commit and its entry: the entry is there."""
    if evidence.entries is None:
        return
    terms = Terms()
    for entry in books.limit_entries:
        terms.apply(entry)
    yield from differences("entry of a bucket", expected(terms), said(evidence.entries))


def stops_are_obeyed(books: Books, evidence: Evidence) -> Iterator[Violation]:
    """Nothing is signed for who is stopped, from a moment after that was acknowledged until it is lifted."""
    for stop in evidence.stops:
        since = obeyed_from(stop, evidence.kills)
        for payment in books.payments:
            is_of_it = payment.account_id == stop.account_id and stop.user_id in {None, payment.user_id}
            if is_of_it and since < payment.at < stop.lifted_at:
                late = (payment.at - stop.acknowledged_at).total_seconds()
                text = f"position {payment.position}, {late:.1f} s after {stop}"
                yield Violation("signed for who is stopped", text)


def obeyed_from(stop: Stopped, kills: list[Killed]) -> datetime:
    """When every signer has to know of it; what died at that time may recover first."""
    since = stop.acknowledged_at + OBEYED_WITHIN
    for kill in sorted(kills, key=lambda each: each.since):
        recovered = kill.until + RECOVERED_WITHIN
        if kill.since < since and recovered > stop.acknowledged_at:
            since = max(since, recovered)
    return since
