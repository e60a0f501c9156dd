"""Two replicas on one store, neither knowing of the other: what must be single stays single."""

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from contracts.accounts import AccountSuspended
from contracts.deposit_watcher import FundsObserved
from contracts.livepeer.payments_pb2 import Payment
from contracts.message import LogEntry
from contracts.signer import SessionClosed
from services.quota.application import Quota
from services.quota.domain.granting import Ask
from services.quota.domain.limit_set import Author, LimitSet, Scope
from services.quota.domain.limits import Limits as SpendLimits
from services.quota.domain.refusal import AllowanceRefusal
from services.quota.limiting import Limiting
from services.signer.application import Close, Outcome, Signing
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.payer import Payer
from services.signer.rules import Limits
from services.signer.state import StateSeal
from shared.money import Wei
from shared.store import EventSourced, postgres_env
from tests.beside import together
from tests.infra import Database
from tests.quotes import QuoteMaker, body, chain_view

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYER = "0x" + "11" * 20
ROUNDS = 40
KEY = Scope("account-1", key_id="key-1")


def signer(env: dict[str, str]) -> Signing:
    payer = Payer(LocalKey(b"\x11" * 32), lambda: chain_view(NOW))
    return Signing([payer], StateSeal([b"k" * 32]), Limits(), env)


@pytest.fixture
def running() -> Iterator[Callable[[EventSourced], None]]:
    with ExitStack() as applications:

        def close_at_the_end(application: EventSourced) -> None:
            applications.callback(application.close)

        yield close_at_the_end


@pytest.fixture
def signers(database: Callable[..., Database], running: Callable[..., None]) -> tuple[Signing, Signing]:
    env = dict(postgres_env(database("signer").dsn("signer"), "signer", create_tables=True))
    pair = signer(env), signer(env)
    for each in pair:
        running(each)
    return pair


@pytest.fixture
def quotas(database: Callable[..., Database], running: Callable[..., None]) -> tuple[Quota, Quota]:
    env = dict(postgres_env(database("quota").dsn("quota"), "quota", create_tables=True))
    pair = Quota(Wei(1000), env), Quota(Wei(1000), env)
    for each in pair:
        running(each)
    pair[0].create_tables()
    return pair


def pay(signing: Signing, text: str, now: datetime) -> Outcome:
    return pay_request(signing, PaymentRequest("account-1", "key-1", None, None, text), now)


def pay_request(signing: Signing, request: PaymentRequest, now: datetime) -> Outcome:
    [outcome] = signing.sign_all([request], now)
    if isinstance(outcome, AllowanceNeeded):
        [outcome] = signing.sign_all([request], now, {0: Grant(outcome.number, Wei(10**12))})
    return outcome


def nonces(reply: Outcome) -> list[int]:
    assert isinstance(reply, str), reply
    payment = Payment.FromString(b64decode(json.loads(reply)["payment"]))
    return [ticket.sender_nonce for ticket in payment.ticket_sender_params]


def test_two_signers_never_give_out_a_nonce_twice(signers: tuple[Signing, Signing]) -> None:
    quote = QuoteMaker(NOW).text()
    given: list[int] = []

    for number in range(ROUNDS):
        texts = [body(quote, manifest_id=f"{name}{number}") for name in "ab"]
        calls = [partial(pay, each, text, NOW) for each, text in zip(signers, texts, strict=True)]
        given += [nonce for reply in together(*calls) for nonce in nonces(reply)]

    assert sorted(given) == list(range(1, 2 * ROUNDS + 1))


def test_one_request_at_two_signers_is_one_payment(signers: tuple[Signing, Signing]) -> None:
    text, now = body(QuoteMaker(NOW).text()), NOW
    for step in range(ROUNDS):
        replies = together(*(partial(pay, each, text, now) for each in signers))

        assert len(set(replies)) == 1, step
        assert isinstance(replies[0], str)
        now += timedelta(seconds=10)
        text = body(QuoteMaker(NOW).text(), state=json.loads(replies[0])["state"])

    session_id = json.loads(b64decode(json.loads(text)["state"]["State"]))["StateID"]
    assert _stored(signers[0], "signer.payment_signed") == ROUNDS
    for each in signers:
        assert each.session("account-1", session_id).payments == ROUNDS


def test_a_first_request_that_is_sent_again_to_the_other_signer_is_one_payment(
    signers: tuple[Signing, Signing],
) -> None:
    quote = QuoteMaker(NOW).text()
    for number in range(ROUNDS):
        text = body(quote, manifest_id="")
        request = PaymentRequest("account-1", "key-1", None, None, text, f"request-{number}")

        first, second = (pay_request(each, request, NOW) for each in signers)

        assert first == second
        assert nonces(first) == [number + 1]


def test_a_state_that_the_other_signer_made_is_not_taken_for_a_lost_log(
    signers: tuple[Signing, Signing],
) -> None:
    quote, now = QuoteMaker(NOW).text(), NOW
    reply = pay(signers[0], body(quote), now)
    for number in range(6):
        now += timedelta(seconds=10)
        assert isinstance(reply, str)
        reply = pay(signers[1 - number % 2], body(quote, state=json.loads(reply)["state"]), now)

    assert nonces(reply)
    assert _stored(signers[0], "signer.fence_raised") == 0


def test_a_close_at_one_signer_binds_the_other(signers: tuple[Signing, Signing]) -> None:
    quote = QuoteMaker(NOW).text()
    reply = pay(signers[0], body(quote), NOW)
    assert isinstance(reply, str)
    session_id = json.loads(b64decode(json.loads(reply)["state"]["State"]))["StateID"]
    signers[1].close_all([Close("account-1", session_id, 1, 0)], NOW)

    text = body(quote, state=json.loads(reply)["state"])
    request = PaymentRequest("account-1", "key-1", None, None, text)
    [outcome] = signers[0].sign_all([request], NOW + timedelta(seconds=10))

    assert isinstance(outcome, AllowanceNeeded)
    assert outcome.number == 2


def test_the_last_of_a_budget_goes_to_one_of_two_quotas(quotas: tuple[Quota, Quota]) -> None:
    funded = quotas[0]
    funded.follow_funds([_funds()], lambda _: None)

    for number in range(ROUNDS):
        account = f"account-{number}"
        asks = [_ask(account, name) for name in "ab"]
        calls = [partial(each.grant_all, [wish], NOW) for each, wish in zip(quotas, asks, strict=True)]
        answers = [answer for [answer] in together(*calls)]
        assert sorted(isinstance(answer, int) for answer in answers) == [False, True]
        for each in quotas:
            assert (each.budget(account, NOW).held, each.budget(account, NOW).spent) == (600, 0)

    for each in quotas:
        assert each.pool(PAYER).held == ROUNDS * 600


def test_what_could_not_be_stored_is_not_remembered(quotas: tuple[Quota, Quota]) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the transaction is undone")

    quotas[0].follow_funds([_funds()], lambda _: None)
    before = quotas[0].pool(PAYER).deposit
    changed = _funds()
    changed.event["deposit"] = str(before + 1)

    with pytest.raises(RuntimeError):
        quotas[0].follow_funds([changed], fail)

    assert quotas[0].pool(PAYER).deposit == quotas[1].pool(PAYER).deposit == before


def test_what_a_suspended_account_holds_is_to_come_back_at_once(quotas: tuple[Quota, Quota]) -> None:
    quotas[0].follow_funds([_funds()], lambda _: None)
    quotas[0].grant_all([_ask("account-1", "a"), _ask("account-2", "b")], NOW)
    suspended = AccountSuspended(account_id="account-1", reason="unpaid")
    entry = _funds().model_copy(
        update={"subject": suspended.subject, "event": suspended.model_dump(mode="json")}
    )

    quotas[0].follow_accounts([entry], lambda _: None)

    long_ago = NOW - timedelta(days=1)
    due = quotas[1].allowances.closable(NOW, long_ago, long_ago, 10)
    assert [(session.account_id, session.session_id, session.withdrawn) for session in due] == [
        ("account-1", "a", True)
    ]


@pytest.mark.parametrize(
    "scope", [Scope("account-1"), Scope("account-1", key_id="key-1")], ids=lambda scope: scope.level
)
def test_what_was_leased_under_a_higher_limit_is_to_come_back_at_once(
    quotas: tuple[Quota, Quota], scope: Scope
) -> None:
    quotas[0].follow_funds([_funds()], lambda _: None)
    quotas[0].grant_all([_ask("account-1", "a"), _ask("account-2", "b")], NOW)

    Limiting(quotas[1]).set_limits(
        scope, SpendLimits(spend_per_day_wei=Wei(599)), Author("admin", "test"), NOW
    )

    long_ago = NOW - timedelta(days=1)
    due = quotas[0].allowances.closable(NOW, long_ago, long_ago, 10)
    assert [(session.account_id, session.session_id, session.withdrawn) for session in due] == [
        ("account-1", "a", True)
    ]


def test_a_users_lease_that_one_quota_granted_is_freed_by_the_other(quotas: tuple[Quota, Quota]) -> None:
    ann = Scope("account-1", user_id="ann")
    quotas[0].follow_funds([_funds()], lambda _: None)
    Limiting(quotas[0]).set_limits(ann, SpendLimits(sessions_max=1), Author("admin", "test"), NOW)
    quotas[0].grant_all([replace(_ask("account-1", "a"), user_id="ann")], NOW)
    quotas[0].follow_spend([_closed("a")], lambda _: None)
    quotas[1].grant_all([replace(_ask("account-1", "b"), user_id="ann")], NOW)

    quotas[0].pool(PAYER)  # it knows the pool as it is, as after any payment, and ann's books from before
    quotas[0].follow_spend([_closed("b")], lambda _: None)

    for each in quotas:
        assert Limiting(each).view(ann, NOW).sessions == 0


class Interrupted(Quota):
    """A process in whose decision something else happens, at one of two moments."""

    name = "quota"
    meanwhile: Callable[[], object] | None = None
    before_it_saves = False

    def absent(self, aggregate_ids: Iterable[UUID]) -> set[UUID]:
        wanted = list(aggregate_ids)
        found = super().absent(wanted)
        if LimitSet.create_id(*KEY.ids) in wanted and not self.before_it_saves:
            self._interrupt()
        return found

    def save(self, *aggregates: Any, **named: Any) -> Any:
        if self.before_it_saves:
            self._interrupt()
        return super().save(*aggregates, **named)

    def _interrupt(self) -> None:
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            happens()


@pytest.mark.parametrize("before_it_saves", [False, True], ids=["while it reads", "before it saves"])
def test_a_limit_that_is_set_while_a_grant_is_decided_holds_for_it(
    quotas: tuple[Quota, Quota],
    running: Callable[..., None],
    before_it_saves: bool,  # noqa: FBT001
) -> None:
    """By a process that has just started; nobody holds anything that would be taken back."""
    quotas[1].follow_funds([_funds()], lambda _: None)
    quotas[1].grant_all([_ask("account-1", "a")], NOW)
    quotas[1].follow_spend([_closed("a")], lambda _: None)
    limits = SpendLimits(spend_per_month_wei=Wei(0))
    quota = Interrupted(Wei(1000), quotas[1].env)
    running(quota)
    quota.before_it_saves = before_it_saves
    quota.meanwhile = partial(Limiting(quotas[1]).set_limits, KEY, limits, Author("admin", "test"), NOW)

    [answer] = quota.grant_all([_ask("account-1", "b")], NOW)

    assert quota.meanwhile is None
    assert isinstance(answer, AllowanceRefusal)


def _ask(account: str, session: str) -> Ask:
    return Ask(account, "key-1", session, 1, PAYER, Wei(600), Wei(600))


def _closed(session: str) -> LogEntry:
    event = SessionClosed(account_id="account-1", session_id=session, spent=0, ask_number=1)
    told = {"subject": event.subject, "event": event.model_dump(mode="json")}
    return _funds().model_copy(update=told)


def _funds() -> LogEntry:
    event = FundsObserved(
        payer=PAYER,
        deposit=10**18,
        reserve=10**18,
        withdraw_round=0,
        pool_size=100,
        l1_block=1,
        block_hash="0x",
    )
    return LogEntry(
        epoch=1,
        position=1,
        previous_position=0,
        subject=event.subject,
        at=NOW,
        event=event.model_dump(mode="json"),
    )


def _stored(signing: Signing, topic: str) -> int:
    found = signing.recorder.select_notifications(0, 10_000, topics=[topic])
    return len(found)
