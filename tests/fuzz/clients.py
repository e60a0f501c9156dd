"""Clients of a fuzzed signer: requests that make sense, then bent."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from random import Random

from tests.fuzz import mutate_body, mutate_quote
from tests.fuzz.mutate_body import Draft, base64_text
from tests.fuzz.predicate import LIVE_PRELOAD_UNITS, LV2V_PRELOAD_UNITS, Allowed
from tests.fuzz.setting import LISTED, Setting
from tests.quotes import QuoteMaker

ACCOUNTS = ("account-1", "account-2")
CLIENTS_MAX = 40
STATES_MAX = 60
PIXELS = 1000
SHARES = (15, 45, 35, 5)  # in hundred: as it should be, quote bent, body bent, both
FEES_IN_TICKETS = tuple(Fraction(text) for text in ("1/7", "2/3", "1", "3/2", "5/3", "7"))
MANY_TICKETS = tuple(Fraction(text) for text in ("99", "100", "1001/10", "1000000"))


@dataclass(frozen=True)
class Case:
    """One request as the edge would pass it on."""

    account: str
    body: bytes
    stream: str | None = None

    def with_body(self, body: bytes) -> "Case":
        return replace(self, body=body)


@dataclass(frozen=True)
class Client:
    """Who was answered once, and may come again with the state."""

    account: str
    quote: bytes
    manifest_id: str
    app: str
    job_type: str
    in_pixels: int
    price: Fraction
    state: str = ""


@dataclass
class Clients:
    """Makes cases; what it learns from answers shapes later ones. Every choice is the seed's."""

    setting: Setting
    rng: Random
    running: list[Client] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def case(self, now: datetime) -> Case:
        rng = self.rng
        client = rng.choice(self.running) if self.running and rng.random() < 0.5 else self._newcomer(now)
        if client.state and rng.random() < 0.1:
            client = replace(client, state="")  # as if it had lost the answer
        elif client.state and rng.random() < 0.2:
            client = replace(client, quote=self._quote(client.job_type, client.price, now))
        how = rng.choices(range(4), SHARES)[0]
        quote = client.quote
        if how in {1, 3}:
            quote = mutate_quote.mutate(quote, self.setting, now.timestamp(), rng)
        draft = self._draft(client, quote)
        body = mutate_body.mutate(draft, rng) if how in {2, 3} else draft.text().encode()
        return Case(client.account, body, "stream-1" if rng.random() < 0.1 else None)

    def learn(self, account: str, allowed: Allowed, state: str) -> None:
        """A request was answered: its client comes again, and its state may turn up anywhere."""
        request = allowed.request
        if not request.manifest_id:
            return  # its session's id is chance: what is made of its state would not be the seed's
        self.states = [*self.states[-STATES_MAX:], state]
        client = Client(
            account=account,
            quote=request.orchestrator,
            manifest_id=request.manifest_id,
            app=request.app,
            job_type=request.job_type,
            in_pixels=request.in_pixels,
            price=allowed.quote.price,
            state=state,
        )
        others = [
            one
            for one in self.running
            if (one.account, one.manifest_id) != (account, request.manifest_id) or self.rng.random() < 0.1
        ]
        self.running = [*others[-CLIENTS_MAX:], client]

    def _newcomer(self, now: datetime) -> Client:
        rng = self.rng
        job_type = rng.choice(("live", "live", "lv2v", "fixed", ""))
        ev = rng.choice((100, rng.randrange(1, 10**6), self.setting.terms.max_ticket_ev - 1))
        fees = MANY_TICKETS if rng.random() < 0.04 else FEES_IN_TICKETS
        price = max(Fraction(ev) * rng.choice(fees) / _units(job_type), Fraction(1, 2**40))
        return Client(
            account=rng.choice(ACCOUNTS),
            quote=self._quote(job_type, price.limit_denominator(2**40), now, ev),
            manifest_id=rng.choice(("", f"{rng.getrandbits(32):08x}", f"{rng.getrandbits(32):08x}")),
            app=rng.choice(("", "demo/echo")),
            job_type=job_type,
            in_pixels=PIXELS if not job_type else rng.choice((0, 0, 7)),
            price=price,
        )

    def _quote(self, job_type: str, price: Fraction, now: datetime, ev: int | None = None) -> bytes:
        rng, terms = self.rng, self.setting.terms
        fair = ev or min(max(1, int(price * _units(job_type))), terms.max_ticket_ev - 1)
        most = self.setting.chain.deposit // terms.deposit_multiplier
        face_value = max(fair * 2, min(most, fair * rng.choice((2, 3, 1000, 10**6))))
        chain = self.setting.chain
        made_at = rng.choice(((chain.round, chain.round_hash), (chain.round - 1, chain.previous_hash)))
        maker = QuoteMaker(
            now,
            price_per_unit=max(1, price.numerator),
            pixels_per_unit=price.denominator,
            ev=fair,
            face_value=face_value,
            recipient=LISTED if rng.random() < 0.9 else rng.randbytes(20),
            recipient_rand_hash=rng.randbytes(32),
            seed=rng.choice((0, 77, rng.getrandbits(256))),
            expiration_block=chain.head + rng.choice((2, 40, 50)),
            creation_round=made_at[0],
            creation_round_hash=made_at[1],
        )
        info = maker.message()
        if rng.random() < 0.1:
            info.price_info.capability, info.price_info.constraint = 35, "model-a"
        return info.SerializeToString()

    def _draft(self, client: Client, quote: bytes) -> Draft:
        members = [
            ("orchestrator", base64_text(quote)),
            ("type", json.dumps(client.job_type)),
            ("ManifestID", json.dumps(client.manifest_id)),
            ("app", json.dumps(client.app)),
        ]
        if client.in_pixels:
            members.append(("inPixels", str(client.in_pixels)))
        if client.state:
            members.append(("state", client.state))
        draft = Draft(
            [(json.dumps(name), value) for name, value in members],
            job_type=client.job_type,
            price=client.price,
            old_states=self.states,
        )
        for seldom, change in SELDOM:
            if self.rng.random() < seldom:
                change(draft, self.rng)
        return draft


def _shuffle(draft: Draft, rng: Random) -> None:
    rng.shuffle(draft.members)


SELDOM: tuple[tuple[float, Callable[[Draft, Random], None]], ...] = (
    (0.1, mutate_body.set_max_price),
    (0.2, mutate_body.set_capabilities),
    (0.1, _shuffle),
)


def _units(job_type: str) -> int:
    return {"live": LIVE_PRELOAD_UNITS, "lv2v": LV2V_PRELOAD_UNITS, "fixed": 1}.get(job_type, PIXELS)
