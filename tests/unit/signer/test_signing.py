"""What the signer answers, and what it stores: in memory, with a key of the tests."""

import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from eventsourcing.persistence import OperationalError

from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.domain.fence import Fence
from services.signer.domain.sequence import TicketSequence
from services.signer.domain.session import PaymentSession
from services.signer.intent import PaymentRequest
from services.signer.state import StateSeal
from shared.money import Wei, batch_cost
from tests.quotes import L1_BLOCK, QuoteMaker, body
from tests.unit.signer.client import RICH, START, Signer, nonces, sequence_of, state_of

WIRE_ERROR = 400


def test_the_first_payment_covers_ten_seconds(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))

    assert nonces(reply) == [1]  # 10 s at 10 wei are one ticket of 100 wei
    assert sequence_of(reply) == 0


def test_the_first_ask_is_exactly_the_batch(signer: Signer, quote: QuoteMaker) -> None:
    outcome = signer.ask(body(quote.text()), grant=None)

    assert isinstance(outcome, AllowanceNeeded)
    assert (outcome.needed, outcome.wanted, outcome.number) == (101, 101, 1)
    assert signer.stored() == 0


def test_later_asks_are_for_a_minute_of_the_sessions_pace(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()), grant=Wei(101))
    signer.wait(10)

    outcome = signer.ask(body(quote.text(), state=first["state"]), grant=None)

    assert isinstance(outcome, AllowanceNeeded)
    assert (outcome.needed, outcome.wanted, outcome.number) == (101, 303, 2)


def test_a_session_without_a_manifest_id_keeps_the_id_it_asked_with(
    signer: Signer, quote: QuoteMaker
) -> None:
    request = PaymentRequest("account-1", "key-1", None, None, body(quote.text(), manifest_id=""))
    [wish] = signer.signing.sign_all([request], signer.now)
    assert isinstance(wish, AllowanceNeeded)

    [reply] = signer.signing.sign_all([request], signer.now, {0: Grant(1, RICH)})

    assert isinstance(reply, str)
    assert json.loads(b64decode(json.loads(reply)["state"]["State"]))["StateID"] == wish.session_id


def test_an_exact_repeat_gets_the_same_bytes_and_costs_nothing(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.ask(body(quote.text()))
    assert isinstance(first, str)
    signer.wait(5)
    text = body(quote.text(), state=json.loads(first)["state"])
    second = signer.ask(text)
    stored = signer.stored()

    assert signer.ask(text) == second
    assert signer.stored() == stored


def test_a_first_request_repeated_is_one_session(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.ask(body(quote.text()))
    stored = signer.stored()
    signer.wait(2)

    again = signer.ask(body(quote.text(), maxPrice={"price": 99, "currency": "wei", "unit": "seconds"}))

    assert again == first
    assert signer.stored() == stored


def test_the_same_manifest_of_another_account_is_another_session(signer: Signer, quote: QuoteMaker) -> None:
    mine = signer.pay(body(quote.text()))

    theirs = signer.pay(body(quote.text()), account="account-2")

    assert theirs["state"] != mine["state"]
    assert nonces(mine) + nonces(theirs) == [1, 2]


def test_a_state_of_another_account_is_a_bad_signature(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))

    refusal = signer.refused(body(quote.text(), state=reply["state"]), account="account-2")

    assert (refusal.status, str(refusal)) == (400, "invalid sig")


def test_after_a_lost_reply_the_batch_is_paid_again(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()))
    signer.wait(10)
    signer.pay(body(quote.text(), state=first["state"]))
    signer.wait(3)

    text = body(quote.text(), state=first["state"], app="")
    reply = signer.pay(text + " ")  # other bytes: not a repeat, so the reply before was lost

    session_id = json.loads(b64decode(reply["state"]["State"]))["StateID"]
    balance = signer.signing.session("account-1", session_id).balance_wei
    # 10 + 10 + 3 s were used; the orchestrator has the first batch and this one: 3 x 100 wei.
    assert (sequence_of(reply), nonces(reply)) == (2, [3, 4])
    assert 300 - 230 <= balance < 300 - 230 + 1


def test_an_older_state_continues_from_ours(signer: Signer, quote: QuoteMaker) -> None:
    replies = [signer.pay(body(quote.text()))]
    for _ in range(3):
        signer.wait(10)
        replies.append(signer.pay(body(quote.text(), state=replies[-1]["state"])))
    signer.wait(10)

    quote.auth_seconds += 1  # other bytes than were paid
    reply = signer.pay(body(quote.text(), state=replies[0]["state"]))

    assert sequence_of(reply) == 4
    given = [nonce for each in [*replies, reply] for nonce in nonces(each)]
    assert given == list(range(1, len(given) + 1))


def test_a_late_copy_of_a_request_is_never_paid_again(signer: Signer, quote: QuoteMaker) -> None:
    texts = [body(quote.text())]
    for _ in range(4):
        reply = signer.pay(texts[-1])
        signer.wait(10)
        texts.append(body(quote.text(), state=reply["state"]))
    last = signer.pay(texts[-1])
    paid = signer.signing.session("account-1", state_of(last)["StateID"]).payments

    for text in texts[:-1]:
        assert signer.refused(text).status == 480

    assert signer.pay(texts[-1]) == last
    assert signer.signing.session("account-1", state_of(last)["StateID"]).payments == paid == 5


def test_a_users_own_key_has_nothing_to_do_with_another_users_sessions(
    signer: Signer, quote: QuoteMaker
) -> None:
    first = body(quote.text())
    paid = signer.pay(first, user="user-1", user_bound=True)
    signer.wait(10)
    following = body(quote.text(), state=paid["state"])

    refusal = signer.refused(following, user="user-2", user_bound=True)
    assert (refusal.status, str(refusal)) == (WIRE_ERROR, "invalid sig")
    other = signer.pay(first, user="user-2", user_bound=True)
    assert state_of(other)["StateID"] != state_of(paid)["StateID"]
    assert sequence_of(signer.pay(following, user="user-1", user_bound=True)) == 1


def test_an_accounts_key_serves_all_its_users_sessions(signer: Signer, quote: QuoteMaker) -> None:
    paid = signer.pay(body(quote.text()), user="user-1", user_bound=True)
    signer.wait(10)

    assert sequence_of(signer.pay(body(quote.text(), state=paid["state"]), user="user-2")) == 1


def test_a_lost_reply_is_spent_all_the_same(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))
    session = signer.signing.session("account-1", state_of(reply)["StateID"])
    for _ in range(3):
        signer.wait(10)
        quote.auth_seconds += 1
        before = session.spent
        tickets = len(nonces(signer.pay(body(quote.text(), state=reply["state"]))))  # never arrives

        assert session.spent - before == batch_cost(Wei(quote.face_value), quote.win_prob, tickets)


def test_nothing_is_answered_that_could_not_be_stored(
    signer: Signer, quote: QuoteMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("the store is away")

    reply = signer.pay(body(quote.text()))
    signer.wait(10)
    text = body(quote.text(), state=reply["state"])
    with monkeypatch.context() as broken:
        broken.setattr(signer.signing.recorder, "insert_events", fail)
        with pytest.raises(OperationalError):
            signer.ask(text)

    assert sequence_of(signer.pay(text)) == 1


def test_two_lost_replies_and_the_same_bytes_again_are_one_payment(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))
    signer.wait(10)
    signer.pay(body(quote.text(), state=reply["state"]))  # never arrives
    signer.wait(10)
    quote.auth_seconds += 1
    other = body(quote.text(), state=reply["state"])
    lost = signer.pay(other)  # neither does this

    assert signer.pay(other) == lost
    assert signer.signing.session("account-1", state_of(lost)["StateID"]).payments == 3


def test_a_state_ahead_of_ours_raises_the_fence(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))
    fields = json.loads(b64decode(reply["state"]["State"]))
    ahead = json.dumps({**fields, "SequenceNumber": 7}).encode()
    seal = StateSeal([b"k" * 32]).seal("account-1", ahead)
    state = {"State": b64encode(ahead).decode(), "Sig": b64encode(seal).decode()}

    refusal = signer.refused(body(quote.text(), state=state))

    fence: Fence = signer.signing.repository.get(Fence.create_id(signer.payer.address))
    assert refusal.status == 480
    assert fence.l1_block == L1_BLOCK
    other = QuoteMaker(START, expiration_block=L1_BLOCK + 50)
    assert signer.refused(body(other.text(), manifest_id="other")).status == 480


def test_behind_the_fence_new_params_are_signed(signer: Signer) -> None:
    fence = Fence(signer.payer.address, timestamp=START)
    fence.raise_to(L1_BLOCK - 11, "test", START)
    signer.signing.save(fence)
    old, new = (QuoteMaker(START, expiration_block=L1_BLOCK + ahead) for ahead in (39, 40))

    assert signer.refused(body(old.text())).status == 480
    assert signer.pay(body(new.text()))


def test_parallel_sessions_on_one_set_of_params_share_no_nonce(signer: Signer, quote: QuoteMaker) -> None:
    requests = [
        PaymentRequest("account-1", "key-1", None, None, body(quote.text(), manifest_id=f"m{n}"))
        for n in range(8)
    ]
    wishes = signer.signing.sign_all(requests, START)

    grants = {n: Grant(1, RICH) for n in range(8)}
    replies = signer.signing.sign_all(requests, START, grants)

    assert all(isinstance(wish, AllowanceNeeded) for wish in wishes)
    given = [nonce for reply in replies if isinstance(reply, str) for nonce in nonces(json.loads(reply))]
    assert given == list(range(1, 9))


def test_at_500_nonces_the_params_are_used_up(signer: Signer, quote: QuoteMaker) -> None:
    sequence = TicketSequence(
        signer.payer.address,
        quote.recipient_rand_hash.hex(),
        _params_text(quote),
        timestamp=START,
    )
    sequence.take(499, START)
    signer.signing.save(sequence)

    last = signer.pay(body(quote.text()))
    refusal = signer.refused(body(quote.text(), manifest_id="next"))

    assert nonces(last) == [500]
    assert (refusal.status, refusal.orchestrator_url) == (480, quote.url)


def test_a_spare_ticket_is_minted_while_the_balance_would_not_outlive_a_loss(
    signer: Signer, quote: QuoteMaker
) -> None:
    quote.ev, quote.face_value = 1000, 5000
    reply = signer.pay(body(quote.text()))  # 100 of 1000 wei used
    signer.wait(3)
    spare = signer.pay(body(quote.text(), state=reply["state"]))
    signer.wait(3)

    assert nonces(spare) == [2]
    assert signer.refused(body(quote.text(), state=spare["state"])).status == 482


def test_a_clock_that_steps_back_bills_nothing(signer: Signer, quote: QuoteMaker) -> None:
    quote.ev = 300
    reply = signer.pay(body(quote.text()))
    signer.wait(-60)

    again = signer.pay(body(quote.text(), state=reply["state"]))

    session_id = json.loads(b64decode(again["state"]["State"]))["StateID"]
    session = signer.signing.session("account-1", session_id)
    assert int(session.balance_wei) == 2 * 300 - 100


def test_time_is_billed_once_however_the_clock_steps(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))
    for seconds in (60, -60, 60, -30, 40):  # the furthest it ever stood is 70 s after the first
        signer.wait(seconds)
        outcome = signer.ask(body(quote.text(), state=reply["state"]))
        reply = json.loads(outcome) if isinstance(outcome, str) else reply

    session = signer.signing.session("account-1", state_of(reply)["StateID"])
    assert int(session.balance_wei) == 100 * session.tickets - 10 * 80


def test_nothing_is_signed_past_the_allowance(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()), grant=Wei(150))
    signer.wait(10)

    outcome = signer.ask(body(quote.text(), state=first["state"]), grant=None)

    assert isinstance(outcome, AllowanceNeeded)


def test_replay_gives_the_live_state(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()), grant=Wei(350))
    for _ in range(5):
        signer.wait(7)
        reply = signer.pay(body(quote.text(), state=reply["state"]))
    session_id = json.loads(b64decode(reply["state"]["State"]))["StateID"]
    live = signer.signing.session("account-1", session_id)

    signer.signing.forget(live.id)
    replayed: PaymentSession = signer.signing.repository.get(live.id)

    assert vars(replayed) == vars(live)


def _params_text(quote: QuoteMaker) -> str:
    return b64encode(quote.message().ticket_params.SerializeToString(deterministic=True)).decode()
