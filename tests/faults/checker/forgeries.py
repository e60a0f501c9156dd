"""Each kind of violation, forged into rows that were read from a sound system.

Every forgery changes a copy, and is named by the rule that has to notice it.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

from livepeer_gateway import lp_rpc_pb2 as pb

from tests.faults.checker.checker import behind
from tests.faults.checker.evidence import Evidence, Stopped
from tests.faults.checker.rows import Books, Change, Payment, Sums
from tests.faults.checker.rules import unsigned, violations
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


def _limit_all(books: Books, **limits: int) -> None:
    """As if an operator had set these for everybody at once, as soon as anybody had limits."""
    books.limit_entries = [
        replace(one, state={**one.state, "limits": {**one.state["limits"], **limits}})
        if one.kind == "limits_set"
        else one
        for one in books.limit_entries
    ]


def _limit_entry(books: Books, kind: str) -> int:
    return next(place for place, one in enumerate(books.limit_entries) if one.kind == kind)


def _count_nowhere(books: Books) -> None:
    place = next(i for i, one in enumerate(books.limit_entries) if one.state.get("counted_by"))
    state = {**books.limit_entries[place].state, "counted_by": None}
    _change(books.limit_entries, place, state=state)


def _hold_elsewhere(books: Books) -> None:
    held = books.limit_entries[_limit_entry(books, "sub_budget_held")]
    state = {**held.state, "session_id": "other"}
    books.limit_entries.append(replace(held, position=FAR, state=state))


def _forge_credit(evidence: Evidence, *, left: int = 0, owed: int = 0) -> None:
    account_id, view = next(each for each in evidence.credit.items() if each[1]["grants"])
    first, *others = view["grants"]
    grants = [{**first, "left_micro_usd": first["left_micro_usd"] + left}, *others]
    forged = {**view, "grants": grants, "owed_micro_usd": view["owed_micro_usd"] + owed}
    evidence.credit[account_id] = forged


def _lose_entry(evidence: Evidence) -> None:
    assert evidence.entries
    evidence.entries.popitem()


def _stop_in_vain(books: Books, evidence: Evidence) -> None:
    payment, minute = books.payments[0], timedelta(minutes=1)
    stop = Stopped(payment.account_id, None, payment.at - minute, payment.at + minute)
    evidence.stops.append(stop)


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
    "granted past a limit": lambda books, _: _limit_all(books, spend_per_hour_wei=0),
    "granted past the credit": lambda books, _: _limit_all(books, credit_limit_micro_usd=-FAR),
    "more sessions than may run": lambda books, _: _limit_all(books, sessions_max=0),
    "not counted by who is limited": lambda books, _: _count_nowhere(books),
    "spend of a user, key or token": lambda books, _: books.limit_entries.pop(
        _limit_entry(books, "sub_budget_spent")
    ),
    "held by a user, key or token": lambda books, _: _hold_elsewhere(books),
    "spend in a quarter of an hour": lambda books, _: _change(
        books.payments, 0, at=books.payments[0].at - timedelta(days=1)
    ),
    "left of credit": lambda _, held: _forge_credit(held, left=1),
    "owed beyond credit": lambda _, held: _forge_credit(held, owed=1),
    "entry of a bucket": lambda _, held: _lose_entry(held),
    "signed for who is stopped": _stop_in_vain,
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
