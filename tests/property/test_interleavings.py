"""However asks, grants, closes, payments and limits interleave, what is held adds up and comes back.

Spent and held stay within the limit, and nothing is freed twice or by time alone. A signer and a
quota in memory; the messages between them get lost, come twice and late.
"""

import json
from base64 import b64decode
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.accounts import AccountResumed, AccountSuspended
from contracts.deposit_watcher import FundsObserved, RoundChanged
from contracts.message import Event, LogEntry
from services.quota.application import Quota
from services.quota.domain.budget import Budget
from services.quota.domain.granting import Ask
from services.quota.limiting import Limiting
from services.signer.application import Close
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.domain.session import PaymentSession
from services.signer.intent import PaymentRequest
from services.signer.outbox import SignerOutbox
from shared.money import Wei
from tests.quotes import ROUND, QuoteMaker, body
from tests.unit.signer.client import START, Signer

ACCOUNTS = ("account-1", "account-2")
LIMIT, DEPOSIT = Wei(1500), 4000
CLOSING_ROUNDS = 6
BETWEEN_CLOSES_SECONDS = 130  # quota asks again and again; the signer repeats itself less often

# What happens, and a number that says to which; odd: the message stays under way, and comes again.
STEPS = (
    ["first", "ask", "grant"] * 3
    + ["pay", "follow"] * 2
    + ["close", "deliver close", "lose", "wait", "limit", "suspend", "resume", "funds"]
)
schedules = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(min_value=0, max_value=999)), min_size=5, max_size=45
)


@dataclass(frozen=True)
class Wish:
    """An ask on its way, or the grant that answers it."""

    request: PaymentRequest
    quote: QuoteMaker
    ask: AllowanceNeeded
    granted: Wei | None = None


class Interleaving:
    """Plays a schedule; every step is checked against what was before."""

    def __init__(self) -> None:
        self.signer = Signer()
        self.signing = self.signer.signing
        self.outbox = SignerOutbox(self.signing)
        self.quota = Quota(LIMIT)
        self.payer = self.signer.payer.address
        self.position = 0  # up to which quota has read the signer's log
        self.told = 0  # by the other publishers
        self.opened = 0
        self.asks: list[Wish] = []
        self.grants: list[Wish] = []
        self.closes: list[Close] = []
        self.states: dict[str, tuple[str, QuoteMaker, Any]] = {}  # by session: what pays next
        self.hear_funds(DEPOSIT)

    def play(self, step: str, number: int) -> None:
        before = {account: self.stand(account) for account in ACCOUNTS}
        getattr(self, "step_" + step.replace(" ", "_"))(number)
        self.signer.wait(0.25)
        for account, (held, spent) in before.items():
            self._check(account, held, spent, may_free=step == "follow")

    def _check(self, account: str, held_before: int, spent_before: int, *, may_free: bool) -> None:
        budget = self.quota.budget(account, START)
        promised = budget.held + budget.spent
        assert promised <= max(budget.spend_limit, held_before + spent_before)
        assert may_free or budget.held >= held_before
        assert budget.spent >= spent_before
        assert budget.held == sum(budget.held_by(session) for session in budget.sessions)
        assert self.quota.pool(self.payer).held == sum(self.stand(each)[0] for each in ACCOUNTS)

    def stand(self, account: str) -> tuple[int, int]:
        budget = self.quota.budget(account, START)
        return budget.held, budget.spent

    # Clients and signer

    def step_first(self, number: int) -> None:
        self.opened += 1
        quote = QuoteMaker(self.signer.now, ev=50 + number)
        text = body(quote.text(), manifest_id=f"m{self.opened}")
        self.pay(PaymentRequest(ACCOUNTS[number % 2], "key-1", None, None, text), quote)

    def step_pay(self, number: int) -> None:
        if self.states:
            account, quote, state = list(self.states.values())[number % len(self.states)]
            self.signer.wait(number % 15)
            text = body(quote.text(), state=state)
            self.pay(PaymentRequest(account, "key-1", None, None, text), quote)

    def pay(self, request: PaymentRequest, quote: QuoteMaker, wish: Wish | None = None) -> None:
        grants = {0: Grant(wish.ask.number, wish.granted)} if wish and wish.granted is not None else {}
        [outcome] = self.signing.sign_all([request], self.signer.now, grants)
        if isinstance(outcome, AllowanceNeeded):
            self.asks.append(Wish(request, quote, outcome))
        elif isinstance(outcome, str):
            state = json.loads(outcome)["state"]
            session_id = json.loads(b64decode(state["State"]))["StateID"]
            self.states[session_id] = (request.account_id, quote, state)

    # Between signer and quota

    def step_ask(self, number: int) -> None:
        if not self.asks:
            return
        wish = self._take(self.asks, number)
        needed = wish.ask
        ask = Ask(
            needed.account_id,
            needed.key_id,
            needed.session_id,
            needed.number,
            needed.payer,
            needed.needed,
            needed.wanted,
        )
        [answer] = self.quota.grant_all([ask], self.signer.now)
        if isinstance(answer, int):
            self.grants.append(replace(wish, granted=answer))

    def step_grant(self, number: int) -> None:
        if self.grants:
            wish = self._take(self.grants, number)
            self.pay(wish.request, wish.quote, wish)

    def step_lose(self, number: int) -> None:
        messages: list[Wish] = [self.asks, self.grants][number % 2]
        if messages:
            messages.pop(number % len(messages))

    def step_close(self, number: int) -> None:
        account = ACCOUNTS[number % 2]
        sessions = self.quota.budget(account, START).sessions
        if sessions:
            session_id = list(sessions)[number % len(sessions)]
            ask_number = sessions[session_id]["number"]
            self.closes.append(Close(account, session_id, ask_number, 60 * (number % 3)))

    def step_deliver_close(self, number: int) -> None:
        if self.closes:
            self.signing.close_all([self._take(self.closes, number)], self.signer.now)

    def _take[M](self, messages: list[M], number: int) -> M:
        place = number // 2 % len(messages)
        return messages[place] if number % 2 else messages.pop(place)

    def step_follow(self, number: int) -> None:
        entries = self.log()[: 1 + number % 9]
        if entries:
            self.quota.follow_spend(entries, _nothing)
            self.position = entries[-1].position

    def log(self) -> list[LogEntry]:
        """What quota has not read yet of what it reads."""
        topics = [PaymentSession.PaymentSigned.TOPIC, PaymentSession.Closed.TOPIC]
        stored = self.signing.recorder.select_notifications(self.position + 1, 1000, topics=topics)
        told = [(each.id, *self.outbox.to_public(each)) for each in stored]
        return [_entry(event, position) for position, event, _ in told]

    # What else is heard

    def step_wait(self, number: int) -> None:
        self.signer.wait(number)

    def step_limit(self, number: int) -> None:
        Limiting(self.quota).set_spend_limit(ACCOUNTS[number % 2], Wei(3 * number), self.signer.now)

    def step_suspend(self, number: int) -> None:
        self.hear(AccountSuspended(account_id=ACCOUNTS[number % 2], reason="unpaid"))

    def step_resume(self, number: int) -> None:
        self.hear(AccountResumed(account_id=ACCOUNTS[number % 2]))

    def hear(self, event: Event) -> None:
        self.told += 1
        self.quota.follow_accounts([_entry(event, self.told)], _nothing)

    def step_funds(self, number: int) -> None:
        if number % 3:
            self.hear_funds(10 * number)
            return
        self.told += 1
        changed = RoundChanged(round=ROUND + number // 300, round_hash="0x", ticket_validity_rounds=2)
        self.quota.follow_funds([_entry(changed, self.told)], _nothing)

    def hear_funds(self, deposit: int) -> None:
        self.told += 1
        observed = FundsObserved(
            payer=self.payer,
            deposit=deposit,
            reserve=1,
            withdraw_round=0,
            pool_size=100,
            l1_block=1,
            block_hash="0x",
        )
        self.quota.follow_funds([_entry(observed, self.told)], _nothing)

    # The end

    def deliver_all(self) -> None:
        """What is under way arrives, late as it is."""
        for messages, deliver in ((self.asks, self.step_ask), (self.grants, self.step_grant)):
            for _ in range(len(messages)):
                deliver(0)
        while self.closes:
            self.step_deliver_close(0)
        self.follow_all()

    def follow_all(self) -> None:
        while self.log():
            self.step_follow(8)

    def close_all(self) -> None:
        """Quota asks for what is held, as it does for ever."""
        for _ in range(CLOSING_ROUNDS):
            self.signer.wait(BETWEEN_CLOSES_SECONDS)
            for account in ACCOUNTS:
                sessions = self.quota.budget(account, START).sessions
                closes = [Close(account, each, kept["number"], 0) for each, kept in sessions.items()]
                self.signing.close_all(closes, self.signer.now)
            self.follow_all()

    def signed(self) -> dict[str, int]:
        """By account, what its sessions spent by the signer's own events."""
        account_of: dict[UUID, str] = {}
        total: dict[str, int] = defaultdict(int)
        for stored in self.signing.recorder.select_notifications(1, 10_000):
            event = self.signing.mapper.to_domain_event(stored)
            if isinstance(event, PaymentSession.Named):
                account_of[event.originator_id] = event.account_id
            elif isinstance(event, PaymentSession.PaymentSigned):
                total[account_of[event.originator_id]] += event.cost
        return total


def _entry(event: Event, position: int) -> LogEntry:
    return LogEntry(
        epoch=1,
        position=position,
        previous_position=position - 1,
        subject=event.subject,
        at=START,
        event=event.model_dump(mode="json"),
    )


def _nothing(_: object) -> None:
    """An effect, where there is no transaction."""


LATE_COPY = [("first", 0), ("ask", 1), ("close", 0), ("deliver close", 0), ("follow", 8)]


@settings(max_examples=60)
@example([*LATE_COPY])  # the copy of an ask arrives when its session was closed and freed
@given(schedules)
def test_everything_is_freed_once_and_in_the_end(schedule: list[tuple[str, int]]) -> None:
    world = Interleaving()
    for step, number in schedule:
        world.play(step, number)

    world.deliver_all()
    world.close_all()

    signed = world.signed()
    for account in ACCOUNTS:
        assert world.stand(account) == (0, signed[account])
        _check_freed(world, account)
    assert world.quota.pool(world.payer).held == 0


def _check_freed(world: Interleaving, account: str) -> None:
    """By quota's own events: each wei that was granted was spent or freed, once."""
    left: dict[str, int] = defaultdict(int)
    for event in world.quota.events.get(Budget.create_id(account)):
        match event:
            case Budget.AllowanceGranted():
                left[event.session_id] += event.amount
            case Budget.SpendRecorded():
                for session_id, cost in event.spends.items():
                    left[session_id] -= cost
            case Budget.AllowanceFreed():
                assert event.amount >= 0
                left[event.session_id] -= event.amount
        assert min(left.values(), default=0) >= 0
    assert set(left.values()) <= {0}


@settings(max_examples=40)
@given(schedules)
def test_signer_and_quota_agree_on_what_a_session_holds(schedule: list[tuple[str, int]]) -> None:
    """The signer never counts on more than quota holds for it; on less only if a grant got lost."""
    world = Interleaving()
    for step, number in schedule:
        if step != "lose":
            world.play(step, number)

    world.deliver_all()

    for account in ACCOUNTS:
        budget = world.quota.budget(account, START)
        for session_id in {*budget.sessions, *world.states}:
            if world.signing.absent([PaymentSession.create_id(account, session_id)]):
                continue
            session = world.signing.session(account, session_id)
            assert session.allowance_left <= budget.held_by(session_id)
            assert session.granted >= session.spent


def test_the_schedules_do_something() -> None:
    """A plain one: a session is opened, pays, asks for more, pays again, and quota hears of it."""
    world = Interleaving()
    plain = [("first", 50), ("ask", 50), ("grant", 50), ("wait", 30), ("pay", 14), ("ask", 0), ("grant", 0)]
    for step, number in plain:
        world.play(step, number)

    world.deliver_all()

    assert world.stand("account-1") == (0, 602)  # one ticket of 100 and a little, then five
    assert world.signed() == {"account-1": 602}
