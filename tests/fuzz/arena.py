"""A signer in memory against the fuzzer: what it answers is judged by the predicates.

The signer is the real one with a key of its own; what the edge does before (64 KiB, UTF-8) is done
here, and grants come from a quota that gives what is asked, or sometimes nothing.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random

from contracts.livepeer.capabilities import MaxPrices
from contracts.signer import PaymentRefusedAnswer
from services.signer.application import Outcome, Signing
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.payer import Payer
from services.signer.refusal import PaymentRefusal
from services.signer.rules import ChainView, Limits
from services.signer.state import StateSeal
from shared.money import Wei
from tests.fuzz.clients import Case, Clients
from tests.fuzz.judge import Judge, Violation, state_of
from tests.fuzz.predicate import BODY_BYTES_MAX, TICKETS_MAX, Allowed
from tests.fuzz.quoted import Forbidden
from tests.fuzz.released import NotAsQuotedError
from tests.fuzz.setting import Setting
from tests.quotes import chain_view

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = LocalKey(b"\x11" * 32)
STEPS_SECONDS = (0, 0.5, 1, 3, 3, 10, 61, -2)
STATUSES = frozenset({400, 403, 480, 481, 482})
CHAIN_UNKNOWN = (503, "chain_unknown")
TOTAL_EV = (500, "total_ev_too_high")  # as go-livepeer answers it
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|(?<![A-Za-z])-?\d+(\.\d+)?(e[+-]?\d+)?")
REASON_LENGTH_MAX, DETAIL_LENGTH_MAX = 90, 200

type Asked = tuple[Case, PaymentRequest]
type Answered = tuple[Case, PaymentRequest, Outcome]


@dataclass
class Tally:
    """What was tried, and how it was answered."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    stricter: Counter[str] = field(default_factory=Counter)  # refused, though the predicate would not
    violations: list[Violation] = field(default_factory=list)


class Arena:
    def __init__(self, setting: Setting, rng: Random, *, generous: bool = False) -> None:
        self.setting = setting
        self.rng = rng
        self.generous = generous  # quota gives all that is needed, always
        self.now = START
        self.clients = Clients(setting, rng)
        self.tally = Tally()
        self._judge = Judge(setting.terms, KEY.address)
        self._grants: dict[tuple[str, str, int], Wei] = {}
        self._granted: Counter[tuple[str, str]] = Counter()
        self._spent: Counter[tuple[str, str]] = Counter()
        self.signing = Signing([Payer(KEY, self._chain)], StateSeal([b"k" * 32]), _limits(setting))

    def close(self) -> None:
        self.signing.close()

    def step(self) -> None:
        """Send what a few clients ask, in one batch as the signer gets it."""
        self.now += timedelta(seconds=self.rng.choice(STEPS_SECONDS))
        self.judge_all([self.clients.case(self.now) for _ in range(self.rng.choice((1, 1, 2, 4, 8)))])

    def judge_all(self, cases: Sequence[Case]) -> None:
        self.tally.inputs += len(cases)
        asked: list[Asked] = []
        for case in cases:
            if (text := _as_the_edge_reads(case.body)) is None:
                self.tally.outcomes["never reached the signer"] += 1
            else:
                request = PaymentRequest(case.account, "key-1", None, case.stream, text)
                asked.append((case, request))
        answered = self._ask(asked, {})
        for case, _, outcome in answered:
            self._judge_outcome(case, outcome)
        for case, _, outcome in self._grant(answered):
            self._judge_outcome(case, outcome)

    def _ask(self, asked: Sequence[Asked], grants: dict[int, Grant]) -> list[Answered]:
        """Have them decided together; where that raises one by one, so that the culprit shows."""
        try:
            outcomes = self.signing.sign_all([request for _, request in asked], self.now, grants)
        except Exception as problem:  # noqa: BLE001 (any exception is what is looked for)
            if len(asked) == 1:
                self._violate(asked[0][0], "an exception", repr(problem))
                return []
            alone = [{0: grants[i]} if i in grants else {} for i in range(len(asked))]
            return [one for pair, grant in zip(asked, alone, strict=True) for one in self._ask([pair], grant)]
        return [(*pair, outcome) for pair, outcome in zip(asked, outcomes, strict=True)]

    def _grant(self, answered: Sequence[Answered]) -> list[Answered]:
        """Quota's part: mostly exactly what is needed, sometimes what is wanted, sometimes nothing."""
        asked: list[Asked] = []
        grants: dict[int, Grant] = {}
        for case, request, outcome in answered:
            if not isinstance(outcome, AllowanceNeeded) or not (self.generous or self.rng.random() < 0.8):
                continue
            grants[len(asked)] = Grant(outcome.number, self._amount(case.account, outcome))
            asked.append((case, request))
        return self._ask(asked, grants) if asked else []

    def _amount(self, account: str, wish: AllowanceNeeded) -> Wei:
        """The same ask again is granted the same amount, and counts once."""
        ask = (account, wish.session_id, wish.number)
        if ask not in self._grants:
            exactly = self.generous or self.rng.random() < 0.8
            self._grants[ask] = wish.needed if exactly else wish.wanted
            self._granted[account, wish.session_id] += self._grants[ask]
        return self._grants[ask]

    # What an outcome may be

    def _judge_outcome(self, case: Case, outcome: Outcome) -> None:
        if isinstance(outcome, PaymentRefusal):
            self._judge_refusal(case, outcome)
            return
        if isinstance(outcome, str) and self._judge.is_repeat(case.account, outcome):
            self.tally.outcomes["accepted: the answer given before"] += 1
            return
        try:
            allowed = self._check(case)
        except Forbidden as forbidden:
            self._violate(case, f"accepted: {forbidden.reason}", str(outcome)[:DETAIL_LENGTH_MAX])
            return
        if isinstance(outcome, str):
            self.tally.outcomes["accepted: signed"] += 1
            self._judge_answer(case, outcome, allowed)
        else:
            self.tally.outcomes["accepted: quota is asked"] += 1
            self._judge_wish(case, outcome, allowed)

    def _check(self, case: Case) -> Allowed:
        if not self.setting.chain_known:
            raise Forbidden("chain unknown")
        return self._judge.may_accept(case, self.setting.chain, self.now.timestamp())

    def _judge_refusal(self, case: Case, refusal: PaymentRefusal) -> None:
        reason = reason_of(refusal.status, str(refusal))
        self.tally.outcomes[reason] += 1
        if not self._may_refuse(refusal):
            self._violate(case, f"refused with {refusal.status} {refusal.reason}", str(refusal))
        self._require_sayable(case, refusal)
        try:
            self._check(case)
        except Forbidden:
            return
        self.tally.stricter[reason] += 1

    def _may_refuse(self, refusal: PaymentRefusal) -> bool:
        kind = (refusal.status, refusal.reason)
        chain_unknown = kind == CHAIN_UNKNOWN and not self.setting.chain_known
        return refusal.status in STATUSES or kind == TOTAL_EV or chain_unknown

    def _require_sayable(self, case: Case, refusal: PaymentRefusal) -> None:
        """What the bus has to carry to the edge must be text that can be written."""
        try:
            PaymentRefusedAnswer(
                index=0,
                status=refusal.status,
                reason=refusal.reason,
                message=str(refusal),
                orchestrator_url=refusal.orchestrator_url,
            ).model_dump_json()
        except ValueError as problem:
            self._violate(case, "a refusal that cannot be sent", repr(problem))

    def _judge_wish(self, case: Case, wish: AllowanceNeeded, allowed: Allowed) -> None:
        """Quota is asked for a whole number of tickets, as many as the first payment takes."""
        ev = allowed.quote.ev
        tickets = min(int(wish.needed // ev), TICKETS_MAX)
        if self._judge.is_first(case.account, allowed):
            tickets = allowed.first_tickets
        right = wish.needed == _wei(tickets * ev) and tickets > 0 and wish.wanted >= wish.needed
        if not right or tickets * ev > self.setting.terms.max_total_ev:
            self._violate(case, "quota is asked for another sum", f"{wish.needed} of {wish.wanted} wei")

    def _judge_answer(self, case: Case, text: str, allowed: Allowed) -> None:
        try:
            answer = self._judge.take(case.account, text, allowed)
        except NotAsQuotedError as problem:
            self._violate(case, "answer not as quoted", str(problem))
            return
        session = (case.account, answer.session_id)
        self._spent[session] += _wei(answer.cost)
        if self._spent[session] > self._granted[session]:
            self._violate(case, "more spent than granted", f"{self._spent[session]} wei")
        self.clients.learn(case.account, allowed, state_of(text))

    def _violate(self, case: Case, rule: str, detail: str) -> None:
        self.tally.violations.append(Violation(rule, detail, self.setting.name, self.now, case))

    def _chain(self) -> ChainView | None:
        if not self.setting.chain_known:
            return None
        chain = self.setting.chain
        return chain_view(
            self.now,
            l1_block=chain.head,
            round=chain.round,
            round_hash=chain.round_hash,
            previous_round_hash=chain.previous_hash,
            deposit=Wei(chain.deposit),
            reserve=Wei(chain.reserve),
            withdraw_round=chain.withdraw_round,
        )


def _as_the_edge_reads(body: bytes) -> str | None:
    if len(body) > BODY_BYTES_MAX:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _wei(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)


def _limits(setting: Setting) -> Limits:
    terms = setting.terms
    return Limits(
        max_ticket_ev=Wei(terms.max_ticket_ev),
        max_total_ev=Wei(terms.max_total_ev),
        deposit_multiplier=terms.deposit_multiplier,
        max_prices=MaxPrices(terms.price_ceiling, terms.price_by_model),
        recipients=terms.recipients,
    )


def reason_of(status: int, message: str) -> str:
    """The status and the message without its numbers and quotations, so that few kinds remain."""
    return f"{status} {QUOTED.sub('*', message)}"[:REASON_LENGTH_MAX]
