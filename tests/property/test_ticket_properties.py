"""However another signer's events are cut, ordered and repeated: the same usage, the same budgets."""

from collections import defaultdict
from collections.abc import Sequence
from random import Random
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from services.metering.domain.signed_tickets import SignedTicket, keys_of, usage_of
from services.metering.domain.usage import Hour, SessionChange, Sums, Usage, add, rollup, session_changes
from services.quota.domain import credit
from services.quota.domain.credit import CreditGrant, GrantKind
from services.quota.domain.foreign import PREFIX
from services.quota.domain.spending import WORTH, spent_in
from shared.money import MicroUsd
from tests.unit.quota.installation import AUTHOR, USD_PER_ETH, Installation
from tests.unit.quota.ledger import NOW

AT_MS = 1_782_907_199_000
STATES = ("a", "b", "c")
STEPS = ("ask", "ask", "ask", "tell", "tell", "settle")
PREPAID = MicroUsd(1)


@st.composite
def signed(draw: st.DrawFn) -> list[SignedTicket]:
    """Payments of some sessions of one account, each of one user and job type."""
    kinds = draw(st.lists(st.sampled_from(["live", "lv2v", "fixed", ""]), max_size=4))
    return [
        SignedTicket(
            account_id="acme",
            user_id=("", "ann", "bob")[number % 3],
            event_id=f"{number}-{sequence}",
            gateway="",
            state_id=f"state-{number}",
            sequence=sequence,
            signed_at_ms=AT_MS + draw(st.integers(-(10**7), 10**7)),
            orchestrator=f"0x{number}",
            job_type=job_type,
            app="app",
            tickets=draw(st.integers(0, 5)),
            fee=draw(st.integers(0, 2**90)),
            pixels=draw(st.integers(0, 2**40)),
            billable_seconds=draw(st.integers(0, 100)),
        )
        for number, job_type in enumerate(kinds)
        for sequence in range(draw(st.integers(1, 8)))
    ]


def recorded(batches: Sequence[Sequence[SignedTicket]]) -> list[Usage]:
    """What is stored of requests that come one after the other, read back from its bytes."""
    known: set[UUID] = set()
    usages: list[Usage] = []
    for batch in batches:
        new = {ticket.key: ticket for ticket in reversed(batch) if ticket.key not in known}
        if new:
            usages.append(from_json(to_json(usage_of(list(new.values()))[1])))
            known.update(keys_of(usages[-1]))
    return usages


def hours(usages: Sequence[Usage]) -> dict[Hour, Sums]:
    total: dict[Hour, Sums] = {}
    for usage in usages:
        for by, sums in rollup(usage).items():
            total[by] = add(total[by], sums) if by in total else sums
    return total


def sessions(usages: Sequence[Usage]) -> dict[tuple[str, str], tuple[object, ...]]:
    found: dict[tuple[str, str], list[SessionChange]] = defaultdict(list)
    for usage in usages:
        for key, change in session_changes(usage).items():
            found[key].append(change)
    return {
        key: (
            max(((each.told_by, each.facts) for each in changes), key=lambda told: told[0]),
            min(each.first_at for each in changes),
            max(each.last_at for each in changes),
            sum(each.payments for each in changes),
            sum(each.tickets for each in changes),
            sum(each.cost for each in changes),
        )
        for key, changes in found.items()
    }


@given(signed(), st.randoms(use_true_random=False), st.integers(1, 9))
def test_any_split_order_and_repetition_is_the_same_usage(
    tickets: list[SignedTicket], random: Random, size: int
) -> None:
    shuffled = tickets + random.sample(tickets, len(tickets) // 2)
    random.shuffle(shuffled)
    batches = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]

    whole, parts = recorded([tickets]), recorded(batches)

    assert hours(parts) == hours(whole)
    assert sessions(parts) == sessions(whole)
    assert {key for usage in parts for key in keys_of(usage)} == {ticket.key for ticket in tickets}
    assert sum(sums.fee_numerator for sums in hours(parts).values()) == sum(each.fee for each in tickets)


class Books:
    """What quota should have booked, by hand."""

    def __init__(self) -> None:
        self.house = Installation(limit=10**9, spend_per_day_wei=10**9)
        self.house.quota.observe_rate(USD_PER_ETH)
        grant = CreditGrant("g", GrantKind.PREPAID, PREPAID)
        self.house.limiting.grant_credit("acme", grant, AUTHOR, NOW)
        self.held: dict[tuple[str, int], int] = {}
        self.counted: dict[tuple[str, int], int] = {}
        self.fees = 0
        self.asked = dict.fromkeys(STATES, 0)

    def ask(self, state: str, balance: int) -> None:
        sequence = self.asked[state]
        status, estimate = self.house.ask(sequence, str(balance), state)
        assert status == 200
        self.held[state, sequence] = estimate
        self.asked[state] += 1

    def tell(self, state: str, fees: Sequence[tuple[int, int]]) -> None:
        self.house.tell(*fees, state=state)
        for sequence, fee in fees:
            self.held.pop((state, sequence), None)
            self.counted.pop((state, sequence), None)
            self.fees += fee

    def settle(self, state: str) -> None:
        if PREFIX + state in self.house.budget.sessions:
            self.house.settle(state)
            for key in [key for key in self.held if key[0] == state]:
                self.counted[key] = self.held.pop(key)

    def check(self) -> None:
        budget, ann = self.house.budget, self.house.ann
        spent = self.fees + sum(self.counted.values())
        assert (budget.held, budget.spent) == (sum(self.held.values()), spent)
        assert (ann.held, ann.spending["all"][0]) == (budget.held, budget.spent)
        assert spent_in(budget.spending, "hour", NOW) == spent_in(budget.spending, None, NOW)
        worth = spent * USD_PER_ETH.micro_usd_per_eth
        assert credit.prepaid(budget.credit, NOW) - credit.owed(budget.credit) == PREPAID * WORTH - worth


@settings(max_examples=60)
@given(st.data())
def test_budgets_are_exact_after_each_step(data: st.DataObject) -> None:
    books = Books()
    books.ask("a", 70)
    for step in data.draw(st.lists(st.sampled_from(STEPS), max_size=25)):
        state = data.draw(st.sampled_from(STATES))
        match step:
            case "ask":
                books.ask(state, data.draw(st.integers(0, 200)))
            case "settle":
                books.settle(state)
            case "tell":
                paid = st.tuples(st.integers(0, books.asked[state] + 1), st.integers(0, 300))
                books.tell(state, data.draw(st.lists(paid, min_size=1, max_size=4)))
        books.check()


@settings(max_examples=40)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_any_order_and_split_of_events_leaves_the_same_budgets(fees: list[int], random: Random) -> None:
    told = list(enumerate(fees))
    shuffled = random.sample(told, len(told))
    cut, settled_after = random.randrange(len(told) + 1), random.randrange(len(told) + 1)
    one, other = Books(), Books()
    for books in (one, other):
        for number in range(len(fees)):
            books.ask("a", 70 + number)

    one.tell("a", told)
    for place, paid in enumerate(shuffled[:cut]):
        if place == settled_after:
            other.settle("a")
        other.tell("a", [paid])
    if shuffled[cut:]:
        other.tell("a", shuffled[cut:])

    for books in (one, other):
        books.settle("a")
        books.check()
    assert one.house.stand == other.house.stand == (0, sum(fees))
    assert one.house.budget.spending == other.house.budget.spending
    assert one.house.ann.spending == other.house.ann.spending
