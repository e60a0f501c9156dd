"""What must hold, each rule a function that yields what breaks it together with the row that shows it.

Rules about usage and budgets compare with the log up to where the reader says it is: they hold at
any moment, not only when all have caught up.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from tests.faults.checker.evidence import Evidence, Violation, differences
from tests.faults.checker.limit_rules import (
    books_of_limits_add_up,
    buckets_are_as_stored,
    credit_adds_up,
    stops_are_obeyed,
)
from tests.faults.checker.rows import Books, Change, Payment, Sums
from tests.faults.checker.tickets import SIGNATURE_BYTES, Receipt, TicketId, is_signed_by

# Tickets


def released_is_logged(books: Books, evidence: Evidence) -> Iterator[Violation]:
    """Whatever a client holds is in the log: the same bytes, the same account and session."""
    logged = {
        ticket: (signature, payment.account_id, payment.session_id)
        for payment in books.payments
        for ticket, signature in payment.signed()
    }
    for receipt in evidence.receipts:
        for ticket, signature in receipt.tickets():
            found = logged.get(ticket)
            if found is None:
                yield Violation("released but not in the log", f"{ticket} of {_client(receipt)}")
            elif found != (signature, receipt.account_id, receipt.session_id):
                text = f"{ticket} of {_client(receipt)}; the log has {found[1:]}"
                yield Violation("released other than logged", text)


def one_signature_a_ticket(_: Books, evidence: Evidence) -> Iterator[Violation]:
    held: dict[TicketId, bytes] = {}
    for receipt in evidence.receipts:
        for ticket, signature in receipt.tickets():
            if held.setdefault(ticket, signature) != signature:
                yield Violation("two signatures of one ticket", f"{ticket} of {_client(receipt)}")


def no_nonce_twice(books: Books, _: Evidence) -> Iterator[Violation]:
    seen: dict[TicketId, Payment] = {}
    for payment in books.payments:
        for ticket, _signature in payment.signed():
            before = seen.setdefault(ticket, payment)
            if before is not payment:
                text = f"{ticket} at positions {before.position} and {payment.position}"
                yield Violation("nonce signed twice", text)


def nonces_have_no_holes(books: Books, _: Evidence) -> Iterator[Violation]:
    """Those taken are 1 to n, and each taking is one payment."""
    last: dict[tuple[str, str], int] = defaultdict(int)
    for taken in books.taken:
        key = taken.payer, taken.rand_hash
        if taken.first != last[key] + 1 or taken.count < 1:
            yield Violation("nonces taken with a hole", f"{taken} after {last[key]}")
        last[key] = taken.first + taken.count - 1
    took = Counter((one.payer, one.rand_hash, one.first, one.count) for one in books.taken)
    paid = Counter((one.payer, one.rand_hash, one.first_nonce, one.tickets) for one in books.payments)
    for row in took - paid:
        yield Violation("nonces taken without a payment", str(row))
    for row in paid - took:
        yield Violation("payment without nonces taken", str(row))


def costs_are_expected_values(books: Books, _: Evidence) -> Iterator[Violation]:
    for payment in books.payments:
        params = books.params[payment.payer, payment.rand_hash]
        if payment.cost != params.cost(payment.tickets):
            text = f"{_short(payment)}, not {params.cost(payment.tickets)}"
            yield Violation("cost is not the tickets' value", text)


def no_fence_is_raised(books: Books, _: Evidence) -> Iterator[Violation]:
    """A client is ahead of the log only if the log went back; nothing here takes it back."""
    for fence in books.fences:
        yield Violation("fence raised", fence)


# Charges


def nothing_charged_twice(books: Books, evidence: Evidence) -> Iterator[Violation]:
    """One request is one payment: of a session by its digest, of a repeatable first one anywhere."""
    payments: dict[tuple[str, str, str], Payment] = {}
    for payment in books.payments:
        before = payments.setdefault((payment.account_id, payment.session_id, payment.digest), payment)
        if before is not payment:
            yield Violation("charged twice", f"{_short(before)} and {_short(payment)}")
    once = {(receipt.account_id, receipt.digest) for receipt in evidence.receipts if receipt.digest}
    sessions = defaultdict(set)
    for account_id, session_id, digest in payments:
        if (account_id, digest) in once:
            sessions[account_id, digest].add(session_id)
    for request, several in sessions.items():
        if len(several) > 1:
            yield Violation("charged in two sessions", f"{request}: {sorted(several)}")


def payments_are_metered_once(books: Books, _: Evidence) -> Iterator[Violation]:
    logged = {
        one.position: (one.account_id, one.session_id, one.tickets, one.cost)
        for one in books.payments
        if one.position <= books.metered_to
    }
    counts = Counter(one.position for one in books.used)
    for used in books.used:
        said = (used.account_id, used.session_id, used.tickets, used.cost)
        if counts[used.position] > 1:
            yield Violation("metered twice", str(used))
        if used.position not in logged:
            yield Violation("metered but not logged", str(used))
        elif logged[used.position] != said:
            yield Violation("metered other than logged", f"{used}; the log has {logged[used.position]}")
    for position in logged.keys() - counts.keys():
        yield Violation("logged but not metered", f"position {position}: {logged[position]}")


def usage_tables_add_up(books: Books, _: Evidence) -> Iterator[Violation]:
    metered = [one for one in books.payments if one.position <= books.metered_to]
    by_session = _sum((one.account_id, one.session_id, one) for one in metered)
    said_by_session = {key: sums for key, sums in books.usage_by_session.items() if sums != Sums()}
    yield from differences("usage of a session", by_session, said_by_session)
    by_account = {key[0]: sums for key, sums in _sum((one.account_id, "", one) for one in metered).items()}
    yield from differences("usage of an account", by_account, books.usage_by_account)


def nothing_is_buried(books: Books, _: Evidence) -> Iterator[Violation]:
    for letter in books.dead_letters:
        yield Violation("dead letter", letter)


# Budgets and pools


class _Ledger:
    """Budgets, folded a second time: granted - spent - freed of each session is what it holds."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self.held_by_session: Counter[tuple[str, str]] = Counter()
        self.spent_by_session: Counter[tuple[str, str]] = Counter()
        self.payer_by_session: dict[tuple[str, str], str] = {}
        self.grants: dict[tuple[str, str, int], list[int]] = defaultdict(list)
        self.violations = [violation for change in changes for violation in self._apply(change)]

    def _apply(self, change: Change) -> Iterator[Violation]:
        key = change.account_id, change.session_id
        match change.kind:
            case "allowance_granted":
                self.held_by_session[key] += change.amount
                self.payer_by_session[key] = change.payer
                self.grants[*key, change.number].append(change.amount)
            case "allowance_freed":
                self.held_by_session[key] -= change.amount
                if self.held_by_session[key] < 0:
                    yield Violation("freed more than held", f"{change}: {self.held_by_session[key]}")
            case "spend_recorded":
                yield from self._spend(change)

    def _spend(self, change: Change) -> Iterator[Violation]:
        for session_id, amount in change.amounts:
            key = change.account_id, session_id
            self.held_by_session[key] -= amount
            self.spent_by_session[key] += amount
            if self.held_by_session[key] < 0:
                text = f"{key} at position {change.position}: {self.held_by_session[key]}"
                yield Violation("spent more than held", text)


def budgets_add_up(books: Books, _: Evidence) -> Iterator[Violation]:
    """Spent is what was logged; held is granted - spent - freed, and never below 0."""
    ledger = _Ledger(books.budget_changes)
    yield from ledger.violations
    for ask, amounts in ledger.grants.items():
        if len(amounts) > 1:
            yield Violation("one ask granted twice", f"{ask}: {amounts}")
    booked: Counter[tuple[str, str]] = Counter()
    for payment in books.payments:
        if payment.position <= books.booked_to:
            booked[payment.account_id, payment.session_id] += payment.cost
    yield from differences("spend of a session in quota", booked, ledger.spent_by_session)
    held = {key: amount for key, amount in ledger.held_by_session.items() if amount}
    table = {key: amount for key, amount in books.allowances.items() if amount}
    yield from differences("held by a session, by the table of allowances", held, table)


def allowances_come_from_quota(books: Books, _: Evidence) -> Iterator[Violation]:
    """What a session took quota has granted, and it spent no more than that."""
    grants = _Ledger(books.budget_changes).grants
    left: Counter[tuple[str, str]] = Counter()
    changes: list[Change | Payment] = [*books.session_changes, *books.payments]
    for change in sorted(changes, key=lambda one: one.position):
        key = change.account_id, change.session_id
        if isinstance(change, Payment):
            left[key] -= change.cost
            if left[key] < 0:
                yield Violation("spent past the allowance", f"{_short(change)}: {left[key]}")
        elif change.kind == "session_closed":
            left[key] = 0
        else:
            left[key] += change.amount
            if change.amount not in grants.get((*key, change.number), []):
                yield Violation("allowance that quota did not grant", str(change))


def pools_add_up(books: Books, _: Evidence) -> Iterator[Violation]:
    """A pool holds what its sessions hold, and its costs by round are those of the log."""
    held: Counter[str] = Counter()
    costs: Counter[tuple[str, str]] = Counter()
    for change in books.pool_changes:
        held[change.account_id] += change.amount
        for made, cost in change.amounts:
            costs[change.account_id, made] += cost
    ledger = _Ledger(books.budget_changes)
    by_sessions: Counter[str] = Counter()
    for key, amount in ledger.held_by_session.items():
        by_sessions[ledger.payer_by_session.get(key, "")] += amount
    logged: Counter[tuple[str, str]] = Counter()
    for payment in books.payments:
        if payment.position <= books.booked_to:
            logged[payment.payer, str(payment.creation_round)] += payment.cost
    yield from differences("held of a pool", +by_sessions, +held)
    yield from differences("costs of a pool by round", logged, costs)


# The orchestrator


def accepted_is_logged(books: Books, evidence: Evidence) -> Iterator[Violation]:
    logged = {ticket for payment in books.payments for ticket, _ in payment.signed()}
    for ticket in evidence.accepted - logged:
        yield Violation("accepted but not in the log", str(ticket))


def no_ticket_is_rejected(_: Books, evidence: Evidence) -> Iterator[Violation]:
    for ticket, reason in evidence.rejected.items():
        yield Violation("rejected by the orchestrator", f"{ticket}: {reason}")


type Rule = Callable[[Books, Evidence], Iterable[Violation]]

RULES: tuple[Rule, ...] = (
    released_is_logged,
    one_signature_a_ticket,
    no_nonce_twice,
    nonces_have_no_holes,
    costs_are_expected_values,
    no_fence_is_raised,
    nothing_charged_twice,
    payments_are_metered_once,
    usage_tables_add_up,
    nothing_is_buried,
    budgets_add_up,
    allowances_come_from_quota,
    pools_add_up,
    books_of_limits_add_up,
    credit_adds_up,
    buckets_are_as_stored,
    stops_are_obeyed,
    accepted_is_logged,
    no_ticket_is_rejected,
)


def violations(books: Books, evidence: Evidence) -> list[Violation]:
    """All but signatures, which take long: `unsigned` checks those of new payments."""
    return [violation for rule in RULES for violation in rule(books, evidence)]


def unsigned(books: Books, after: int) -> Iterator[Violation]:
    """Signatures after this position in the log that are not the payer's over that very ticket."""
    for payment in books.payments:
        if payment.position <= after:
            continue
        if len(payment.signatures) != SIGNATURE_BYTES * payment.tickets:
            yield Violation("as many signatures as tickets", _short(payment))
        params = books.params[payment.payer, payment.rand_hash]
        for ticket, signature in payment.signed():
            if not is_signed_by(payment.payer, params.digest(payment.payer, ticket.nonce), signature):
                yield Violation("not signed by its payer", f"{ticket} at position {payment.position}")


def _sum(keyed: Iterable[tuple[str, str, Payment]]) -> dict[tuple[str, str], Sums]:
    sums: dict[tuple[str, str], Sums] = defaultdict(Sums)
    for account_id, session_id, one in keyed:
        before = sums[account_id, session_id]
        sums[account_id, session_id] = Sums(
            before.payments + 1, before.tickets + one.tickets, before.cost + one.cost
        )
    return dict(sums)


def _short(payment: Payment) -> str:
    return (
        f"position {payment.position}, {payment.account_id} {payment.session_id}: {payment.tickets} tickets"
        f" from nonce {payment.first_nonce} for {payment.cost} wei, request {payment.digest}"
    )


def _client(receipt: Receipt) -> str:
    return f"{receipt.account_id} {receipt.session_id}"
