"""Each kind of violation, forged into rows that were read from a sound system.

Every forgery changes a copy, and is named by the rule that has to notice it.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

from livepeer_gateway import lp_rpc_pb2 as pb

from tests.faults.checker.checker import behind
from tests.faults.checker.rows import Books, Change, Payment, Sums
from tests.faults.checker.rules import Evidence, unsigned, violations
from tests.faults.checker.tickets import TicketId

type Forge = Callable[[Books, Evidence], object]

FAR = 10**12  # a position, an amount or a nonce that nothing real has


def noticed(books: Books, evidence: Evidence) -> dict[str, bool]:
    """Forge each in a copy; whether its rule was broken then."""
    return {rule: rule in _rules_broken(forge, books, evidence) for rule, forge in FORGERIES.items()}


def _rules_broken(forge: Forge, books: Books, evidence: Evidence) -> set[str]:
    forged, held = _copied(books), _copied(evidence)
    forge(forged, held)
    found = [*violations(forged, held), *unsigned(forged, 0), *behind(forged)]
    return {violation.rule for violation in found}


def _copied[T](rows: T) -> T:
    """Its lists, sets and mappings are new; what is in them never changes."""
    made = copy(rows)
    for name, value in vars(rows).items():
        setattr(made, name, copy(value))
    return made


def _change(rows: list[Any], place: int, **changes: Any) -> None:
    rows[place] = replace(rows[place], **changes)


def _held_payment(books: Books, evidence: Evidence) -> int:
    """The place of a payment that a client has a receipt of."""
    ticket, _ = next(iter(evidence.receipts[0].tickets()))
    return next(
        place
        for place, payment in enumerate(books.payments)
        if (payment.payer, payment.rand_hash) == ticket[:2] and payment.first_nonce == ticket.nonce
    )


def _lose_released(books: Books, evidence: Evidence) -> None:
    del books.payments[_held_payment(books, evidence)]


def _alter_released(books: Books, evidence: Evidence) -> None:
    place = _held_payment(books, evidence)
    _change(books.payments, place, signatures=bytes(len(books.payments[place].signatures)))


def _sign_again(_: Books, evidence: Evidence) -> None:
    receipt = evidence.receipts[0]
    message = pb.Payment.FromString(receipt.payment)
    message.ticket_sender_params[0].sig = bytes(65)
    evidence.receipts.append(replace(receipt, payment=message.SerializeToString()))


def _payment_again(books: Books, **changes: Any) -> None:
    books.payments.append(replace(books.payments[-1], position=FAR, **changes))


def _in_two_sessions(books: Books, evidence: Evidence) -> None:
    place = _held_payment(books, evidence)
    payment = books.payments[place]
    evidence.receipts.append(replace(evidence.receipts[0], digest=payment.digest))
    books.payments.append(replace(payment, position=FAR, session_id="other", first_nonce=FAR))


def _budget_change(books: Books, kind: str) -> int:
    return next(place for place, one in enumerate(books.budget_changes) if one.kind == kind)


def _repeat_grant(books: Books) -> None:
    books.budget_changes.append(books.budget_changes[_budget_change(books, "allowance_granted")])


def _free_too_much(books: Books) -> None:
    granted = books.budget_changes[_budget_change(books, "allowance_granted")]
    books.budget_changes.append(replace(granted, kind="allowance_freed", amount=FAR * FAR))


def _spend_unheld(books: Books) -> None:
    granted = books.budget_changes[_budget_change(books, "allowance_granted")]
    spends = ((granted.session_id, FAR * FAR),)
    books.budget_changes.append(Change(FAR, "spend_recorded", granted.account_id, amounts=spends))


def _grant_in_the_signer(books: Books) -> None:
    place = next(i for i, one in enumerate(books.session_changes) if one.kind == "allowance_granted")
    _change(books.session_changes, place, amount=books.session_changes[place].amount + 1)


def _forget_allowances(books: Books) -> None:
    books.session_changes = [one for one in books.session_changes if one.kind != "allowance_granted"]


def _pool_change(books: Books, *, amount: int = 0, cost: int = 0) -> None:
    payer = books.pool_changes[0].account_id
    change = Change(FAR, "pool_spent", payer, amount=amount, amounts=(("1", cost),) if cost else ())
    books.pool_changes.append(change)


def _lower_limits(books: Books) -> None:
    limits = {"budget_opened", "spend_limit_set"}
    books.budget_changes = [
        replace(one, amount=0) if one.kind in limits else one for one in books.budget_changes
    ]


def _lose_spend(books: Books) -> None:
    del books.budget_changes[_budget_change(books, "spend_recorded")]


def _shift_nonces(books: Books) -> None:
    _change(books.taken, 0, first=books.taken[0].first + 1)


def _some_ticket(books: Books) -> TicketId:
    payment: Payment = books.payments[0]
    return TicketId(payment.payer, payment.rand_hash, FAR)


FORGERIES: dict[str, Forge] = {
    "released but not in the log": _lose_released,
    "released other than logged": _alter_released,
    "two signatures of one ticket": _sign_again,
    "nonce signed twice": lambda books, _: _payment_again(books, digest="another"),
    "nonces taken with a hole": lambda books, _: _shift_nonces(books),
    "nonces taken without a payment": lambda books, _: books.payments.pop(0),
    "payment without nonces taken": lambda books, _: books.taken.pop(),
    "cost is not the tickets' value": lambda books, _: _change(
        books.payments, 0, cost=books.payments[0].cost + 1
    ),
    "fence raised": lambda books, _: books.fences.append("position 1: a client is ahead"),
    "charged twice": lambda books, _: _payment_again(books, first_nonce=FAR),
    "charged in two sessions": _in_two_sessions,
    "metered twice": lambda books, _: books.used.append(books.used[0]),
    "metered but not logged": lambda books, _: _change(books.used, 0, position=FAR),
    "metered other than logged": lambda books, _: _change(books.used, 0, tickets=FAR),
    "logged but not metered": lambda books, _: books.used.pop(),
    "usage of a session": lambda books, _: books.usage_by_session.update({("who", "what"): Sums(1, 1, 1)}),
    "usage of an account": lambda books, _: books.usage_by_account.update({"who": Sums(1, 1, 1)}),
    "dead letter": lambda books, _: books.dead_letters.append("metering-record-usage 1 7 ValueError"),
    "granted past the limit": lambda books, _: _lower_limits(books),
    "freed more than held": lambda books, _: _free_too_much(books),
    "spent more than held": lambda books, _: _spend_unheld(books),
    "one ask granted twice": lambda books, _: _repeat_grant(books),
    "spend of a session in quota": lambda books, _: _lose_spend(books),
    "held by a session, by the table of allowances": lambda books, _: books.allowances.update(
        {("who", "what"): 1}
    ),
    "spent past the allowance": lambda books, _: _forget_allowances(books),
    "allowance that quota did not grant": lambda books, _: _grant_in_the_signer(books),
    "held of a pool": lambda books, _: _pool_change(books, amount=1),
    "costs of a pool by round": lambda books, _: _pool_change(books, cost=1),
    "accepted but not in the log": lambda books, held: held.accepted.add(_some_ticket(books)),
    "rejected by the orchestrator": lambda books, held: held.rejected.update(
        {_some_ticket(books): "invalid nonce"}
    ),
    "as many signatures as tickets": lambda books, _: _change(
        books.payments, 0, signatures=books.payments[0].signatures + b"0"
    ),
    "not signed by its payer": lambda books, _: _change(
        books.payments, 0, signatures=bytes(len(books.payments[0].signatures))
    ),
    "does not catch up": lambda books, _: setattr(books, "metered_to", 0),
}
