"""A signer and a quota on a store of their own, and customers who pay through them."""

import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from services.quota.application import Quota
from services.quota.domain.granting import Ask
from services.signer.application import Close, Outcome, Signing
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.payer import Payer
from services.signer.rules import Limits
from services.signer.state import StateSeal
from shared.money import Wei
from tests.quotes import QuoteMaker, body, chain_view

KEY = LocalKey(b"\x11" * 32)
PAYER = "0x" + KEY.address.hex()
START = datetime(2026, 3, 1, 23, 40, tzinfo=UTC)  # hours and days change on the way
ACCOUNTS = ("acme", "bolt", "coral")
CUSTOMERS = 12
PACE = timedelta(seconds=10)


def signer(env: dict[str, str]) -> Signing:
    payer = Payer(KEY, lambda: chain_view(START))
    return Signing([payer], StateSeal([b"k" * 32]), Limits(), env)


@dataclass
class Customer:
    """One session, as a client holds it."""

    account_id: str
    manifest_id: str
    quote: str
    state: Any = None
    payments: int = 0

    def request(self) -> PaymentRequest:
        text = body(self.quote, manifest_id=self.manifest_id, state=self.state)
        return PaymentRequest(self.account_id, "key-1", None, None, text)

    def got(self, reply: str) -> None:
        self.state = json.loads(reply)["state"]
        self.payments += 1


@dataclass
class Market:
    """Customers, and two signers that know nothing of each other: conflicts burn positions."""

    signers: tuple[Signing, Signing]
    quota: Quota
    random: Random
    now: datetime = START
    customers: list[Customer] = field(default_factory=list)
    paid: int = 0
    burned: int = 0

    def pay(self, batches: int, *, conflicts: bool = False) -> None:
        """Let some customers pay at once, again and again; with `conflicts` at either signer."""
        for number in range(batches):
            while len(self.customers) < CUSTOMERS:
                self.customers.append(self._newcomer())
            self.now += PACE
            paying = self.random.sample(self.customers, self.random.randint(3, CUSTOMERS))
            self._pay_together(paying, self.signers[number % 2 if conflicts else 0])
            self.burned += conflicts
            self._leave()

    def close_all(self) -> None:
        """End every session: nothing may stay held."""
        closes = [Close(row.account_id, row.session_id, row.number, 0) for row in self._holding()]
        for start in range(0, len(closes), 32):
            self.signers[0].close_all(closes[start : start + 32], self.now)
        self.customers.clear()

    def _pay_together(self, paying: Sequence[Customer], signing: Signing) -> None:
        requests = [customer.request() for customer in paying]
        outcomes = signing.sign_all(requests, self.now)
        asking = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, AllowanceNeeded)]
        grants = self._grants([outcomes[index] for index in asking])
        granted = [index for index, grant in zip(asking, grants, strict=True) if grant is not None]
        told = [grant for grant in grants if grant is not None]
        again = signing.sign_all([requests[index] for index in granted], self.now, dict(enumerate(told)))
        outcomes = [*outcomes, *again]
        for customer, outcome in zip([*paying, *(paying[index] for index in granted)], outcomes, strict=True):
            if isinstance(outcome, str):
                customer.got(outcome)
                self.paid += 1
            elif not isinstance(outcome, AllowanceNeeded):
                customer.quote = self._quote()  # refused: these params are used up, or too old

    def _grants(self, asked: Sequence[Outcome]) -> list[Grant | None]:
        wishes = [ask for ask in asked if isinstance(ask, AllowanceNeeded)]
        asks = [
            Ask(ask.account_id, ask.key_id, ask.session_id, ask.number, ask.payer, ask.needed, ask.wanted)
            for ask in wishes
        ]
        answers = self.quota.grant_all(asks, self.now) if asks else []
        return [
            Grant(wish.number, Wei(answer)) if isinstance(answer, int) else None
            for wish, answer in zip(wishes, answers, strict=True)
        ]

    def _leave(self) -> None:
        """Some end their session, and come back as somebody else."""
        if self.random.random() < 0.2:
            gone = self.customers.pop(self.random.randrange(len(self.customers)))
            if gone.state is not None:
                session_id = json.loads(b64decode(gone.state["State"]))["StateID"]
                self.signers[0].close_all([Close(gone.account_id, session_id, 1, 0)], self.now)

    def _holding(self) -> list[Any]:
        return self.quota.allowances.closable(
            self.now, self.now + timedelta(days=1), self.now + timedelta(days=1), 10_000
        )

    def _newcomer(self) -> Customer:
        manifest_id = self.random.randbytes(8).hex()
        return Customer(self.random.choice(ACCOUNTS), manifest_id, self._quote())

    def _quote(self) -> str:
        made = QuoteMaker(
            self.now, price_per_unit=self.random.randint(1, 40), ev=self.random.randint(90, 110)
        )
        made.recipient_rand_hash = self.random.randbytes(32)
        return made.text()
