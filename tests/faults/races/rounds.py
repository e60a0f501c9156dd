"""What two replicas race for: each round has one winner, and the loser is told the right thing."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from contracts.accounts import AccountSuspended
from contracts.deposit_watcher import FundsObserved
from contracts.livepeer.payments_pb2 import Payment
from contracts.message import ReadLog
from contracts.signer import PaymentSigned
from services.quota.domain.granting import Ask
from services.quota.domain.refusal import AllowanceRefusal
from services.signer.application import Close
from services.signer.deciding import AllowanceNeeded
from services.signer.domain.session import PaymentSession
from services.signer.intent import PaymentRequest
from services.signer.refusal import PaymentRefusal
from services.signer.tickets import personal_digest
from shared.money import Wei
from shared.positions import Position, PositionMovedError
from tests.faults.races.field import KEY, LIMIT, NOW, PAYER, Field, entry
from tests.quotes import QuoteMaker, body

READER = "quota-follow-spend"

# What went wrong in a round of this number; nothing: one winner, as it should be.
type Round = Callable[[Field, int], Iterator[str]]


def last_of_a_budget(field: Field, number: int) -> Iterator[str]:
    """Two first payments, and a limit that is one ticket."""
    account = f"budget-{number}"
    texts = [body(QuoteMaker(NOW).text(), manifest_id=name) for name in "ab"]
    outcomes = field.together(*(partial(field.pay, which, account, texts[which]) for which in (0, 1)))
    won = [outcome for outcome in outcomes if isinstance(outcome, str)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, AllowanceRefusal)]
    if (len(won), [refusal.status for refusal in lost]) != (1, [429]):
        yield f"the last of a budget: {outcomes}"
    for each in field.quotas:
        budget = each.budget(account, NOW)
        if (budget.held, budget.spent) != (LIMIT, 0):
            yield f"after the last of a budget {budget.held} are held, {budget.spent} spent"
    yield from _spent_budget_is_402(field, account, texts[1 if isinstance(outcomes[0], str) else 0])


def _spent_budget_is_402(field: Field, account: str, text: str) -> Iterator[str]:
    """Once the winner's payment was heard of, there is nothing to wait for."""
    before = field.positions.get(READER)
    page = field.log.read(ReadLog(after=before.position))
    paid = [each for each in page.entries if each.subject == PaymentSigned.subject]
    done = field.positions.advance(READER, before, Position(1, page.entries[-1].position))
    field.quotas[0].follow_spend(paid, done)
    refusal = field.pay(1, account, text)
    if not isinstance(refusal, AllowanceRefusal) or refusal.status != 402:
        yield f"a spent budget: {refusal}"


def last_room_of_a_pool(field: Field, number: int) -> Iterator[str]:
    """Two accounts, and a deposit that covers one ticket."""
    payer = f"0x{number:040x}"
    fund(field, payer, 100)
    asks = [Ask(f"pool-{number}-{name}", "key", name, 1, payer, Wei(100), Wei(100)) for name in "ab"]
    answers = field.together(
        *(partial(each.grant_all, [ask], NOW) for each, ask in zip(field.quotas, asks, strict=True))
    )
    told = sorted(_told(answer) for answer in answers)
    if told != ["503 pool_exhausted", "granted 100"]:
        yield f"the last room of a pool: {told}"
    for each in field.quotas:
        if each.pool(payer).held != 100:
            yield f"a pool of 100 holds {each.pool(payer).held}"


def one_nonce(field: Field, number: int) -> Iterator[str]:
    """Two accounts on one set of params, three tickets each."""
    quote = QuoteMaker(NOW, ev=40).text()
    replies = field.together(
        *(
            partial(field.pay_freely, which, f"nonce-{number}-{which}", body(quote, manifest_id="m"))
            for which in (0, 1)
        )
    )
    given = sorted(nonce for reply in replies for nonce in _nonces(reply))
    if given != [1, 2, 3, 4, 5, 6]:
        yield f"nonces of two sessions: {given}, {replies}"


def one_first_request(field: Field, number: int) -> Iterator[str]:
    """One request with a name, at both signers."""
    text = body(QuoteMaker(NOW).text())
    replies = field.together(*(partial(field.pay_freely, which, f"first-{number}", text) for which in (0, 1)))
    if not isinstance(replies[0], str) or replies[0] != replies[1] or _nonces(replies[0]) != [1]:
        yield f"one request at two signers: {replies}"


def one_continued_request(field: Field, number: int) -> Iterator[str]:
    """One request of a running session, at both signers."""
    account, quote = f"continued-{number}", QuoteMaker(NOW).text()
    opened = field.pay_freely(number % 2, account, body(quote))
    text, later = body(quote, state=_state(opened)), NOW + timedelta(seconds=10)
    replies = field.together(*(partial(field.pay_freely, which, account, text, later) for which in (0, 1)))
    if not isinstance(replies[0], str) or replies[0] != replies[1]:
        yield f"one request of a session at two signers: {replies}"


def adoption(field: Field, number: int) -> Iterator[str]:
    """A state of another signer, shown by two accounts at once; then by its owner at both signers."""
    state = _foreign_state(f"foreign-{number}")
    accounts = [f"adoption-{number}-{which}" for which in (0, 1)]
    old = body(QuoteMaker(NOW).text(), state=state)
    shown = field.together(*(partial(field.pay_freely, which, accounts[which], old) for which in (0, 1)))
    statuses = [outcome.status if isinstance(outcome, PaymentRefusal) else 0 for outcome in shown]
    if sorted(statuses) != [400, 480]:
        yield f"a foreign state shown by two: {shown}"
        return
    owner = accounts[statuses.index(480)]
    text = body(QuoteMaker(NOW).text(), state=state)
    replies = field.together(*(partial(field.pay_freely, which, owner, text) for which in (0, 1)))
    if not isinstance(replies[0], str) or replies[0] != replies[1] or _nonces(replies[0]) != [1]:
        yield f"a foreign state adopted twice: {replies}"


def one_ask(field: Field, number: int) -> Iterator[str]:
    """One ask of a session, at both quotas."""
    account = f"ask-{number}"
    ask = Ask(account, "key", "s", 1, PAYER, Wei(10), Wei(30))
    answers = field.together(*(partial(each.grant_all, [ask], NOW) for each in field.quotas))
    if [_told(answer) for answer in answers] != ["granted 30", "granted 30"]:
        yield f"one ask at two quotas: {answers}"
    for each in field.quotas:
        if each.budget(account, NOW).held != 30:
            yield f"one ask of 30 holds {each.budget(account, NOW).held}"


def close_and_payment(field: Field, number: int) -> Iterator[str]:
    """A session is closed at one signer while the other one pays from it."""
    account, quote = f"close-{number}", QuoteMaker(NOW).text()
    state = _state(field.pay_freely(number % 2, account, body(quote)))
    session_id = json.loads(b64decode(state["State"]))["StateID"]
    text, later = body(quote, state=state), NOW + timedelta(seconds=10)
    payer, closer = field.signers[number // 2 % 2], field.signers[1 - number // 2 % 2]
    outcome, _ = field.together(
        partial(_pay_from_what_is_left, field, field.signers.index(payer), account, text),
        partial(closer.close_all, [Close(account, session_id, 1, 0)], later),
    )
    if not isinstance(outcome, str | AllowanceNeeded):
        yield f"a payment beside a close: {outcome}"
    yield from _nothing_paid_after_a_close(field, account, session_id)


def _pay_from_what_is_left(field: Field, which: int, account: str, text: str) -> object:
    request = PaymentRequest(account, "key-1", None, None, text)
    [outcome] = field.signers[which].sign_all([request], NOW + timedelta(seconds=10))
    return outcome


def _nothing_paid_after_a_close(field: Field, account: str, session_id: str) -> Iterator[str]:
    granted = spent = 0
    for stored in field.signers[0].events.get(PaymentSession.create_id(account, session_id)):
        match stored:
            case PaymentSession.AllowanceGranted():
                granted += stored.amount
            case PaymentSession.PaymentSigned():
                spent += stored.cost
                if spent > granted:
                    yield f"{spent} spent of {granted}"
            case PaymentSession.Closed():
                if stored.spent != spent:
                    yield f"closed with {stored.spent} spent, not {spent}"
                granted = spent


def suspension_and_grant(field: Field, number: int) -> Iterator[str]:
    """An account is suspended at one quota while the other one grants."""
    account = f"suspended-{number}"
    suspended = entry(AccountSuspended(account_id=account, reason="unpaid"))
    ask = Ask(account, "key", "s", 1, PAYER, Wei(10), Wei(10))
    _, answer = field.together(
        partial(field.quotas[0].follow_accounts, [suspended], _nothing),
        partial(field.quotas[1].grant_all, [ask], NOW),
    )
    told = _told(answer)
    if told not in {"granted 10", "403 account_suspended"}:
        yield f"a grant beside a suspension: {answer}"
    due = field.quotas[0].allowances.closable(NOW, NOW - timedelta(days=1), NOW, 10_000)
    if (account in {session.account_id for session in due}) != (told == "granted 10"):
        yield f"{told}, and the allowance to take back: {due}"
    _, refusal = field.together(lambda: None, partial(field.quotas[1].grant_all, [_second(ask)], NOW))
    if _told(refusal) != "403 account_suspended":
        yield f"a grant after a suspension: {refusal}"


def _second(ask: Ask) -> Ask:
    return Ask(ask.account_id, ask.key_id, "s2", 1, ask.payer, ask.needed, ask.wanted)


def one_entry_of_a_log(field: Field, number: int) -> Iterator[str]:
    """Two replicas read the same entry; one of them books it."""
    account = f"reader-{number}"
    ask = Ask(account, "key", "s", 1, PAYER, Wei(50), Wei(50))
    field.quotas[0].grant_all([ask], NOW)
    reader = "quota-follow-race"
    before = field.positions.get(reader)
    paid = entry(_payment(account, 20), before.position + 1)
    done = field.positions.advance(reader, before, Position(1, before.position + 1))
    results = field.together(*(partial(each.follow_spend, [paid], done) for each in field.quotas))
    moved = [isinstance(result, PositionMovedError) for result in results]
    if sorted(moved) != [False, True]:
        yield f"one entry read by two: {results}"
    for each in field.quotas:
        budget = each.budget(account, NOW)
        if (budget.held, budget.spent) != (30, 20):
            yield f"one payment of 20: {budget.spent} spent, {budget.held} held"


ROUNDS: tuple[Round, ...] = (
    last_of_a_budget,
    last_room_of_a_pool,
    one_nonce,
    one_first_request,
    one_continued_request,
    adoption,
    one_ask,
    close_and_payment,
    suspension_and_grant,
    one_entry_of_a_log,
)


def _nothing(_: object) -> None:
    """No position moves."""


def fund(field: Field, payer: str, deposit: int) -> None:
    observed = FundsObserved(
        payer=payer,
        deposit=deposit,
        reserve=10**18,
        withdraw_round=0,
        pool_size=100,
        l1_block=1,
        block_hash="0x",
    )
    field.quotas[0].follow_funds([entry(observed)], _nothing)


def _payment(account: str, cost: int) -> PaymentSigned:
    return PaymentSigned(
        account_id=account,
        session_id="s",
        user_id=None,
        app="app",
        job_type="live",
        recipient="0x" + "22" * 20,
        payer=PAYER,
        tickets=1,
        cost=cost,
        face_value=1000,
        win_prob="0x1",
        units=1,
        price_per_unit=1,
        pixels_per_unit=1,
        creation_round=10,
    )


def _told(answers: object) -> str:
    if not isinstance(answers, list):
        return repr(answers)
    [answer] = answers
    if isinstance(answer, AllowanceRefusal):
        return f"{answer.status} {answer.reason}"
    return f"granted {answer}"


def _nonces(reply: object) -> list[int]:
    if not isinstance(reply, str):
        return []
    payment = Payment.FromString(b64decode(json.loads(reply)["payment"]))
    return [ticket.sender_nonce for ticket in payment.ticket_sender_params]


def _state(reply: object) -> dict[str, str]:
    assert isinstance(reply, str), reply
    state: dict[str, str] = json.loads(reply)["state"]
    return state


def _foreign_state(state_id: str) -> dict[str, str]:
    """What a go-livepeer signer with our key gave its client (protocol §2)."""
    maker = QuoteMaker(NOW)
    content = {
        "StateID": state_id,
        "PMSessionID": "0x" + "ab" * 32,
        "LastUpdate": NOW.isoformat(),
        "OrchestratorAddress": "0x" + maker.address.hex(),
        "App": "",
        "AuthExpiry": 0,
        "SenderNonce": 3,
        "Balance": "0",
        "InitialPricePerUnit": maker.price_per_unit,
        "InitialPixelsPerUnit": maker.pixels_per_unit,
        "Type": "live",
        "SequenceNumber": 4,
        "AuthID": "",
    }
    state = json.dumps(content).encode()
    signature = KEY.sign(personal_digest(state))
    return {"State": b64encode(state).decode(), "Sig": b64encode(signature).decode()}
