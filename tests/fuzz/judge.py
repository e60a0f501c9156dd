"""Remembers what was released to whom, and says of each new answer whether it could be."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from tests.fuzz.clients import Case
from tests.fuzz.predicate import Allowed, Chain, Released, Terms, check
from tests.fuzz.released import Answer, NotAsQuotedError, check_answer, signatures_of


@dataclass(frozen=True)
class Violation:
    """What must never happen, with the request that made it happen."""

    rule: str
    detail: str
    setting: str
    now: datetime
    case: Case


@dataclass
class Judge:
    """Of one payer: no nonce of one set of params may come up twice, whoever asked."""

    terms: Terms
    payer: bytes
    _released: dict[str, Released] = field(default_factory=lambda: defaultdict(Released))
    _signatures: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    _given: set[tuple[bytes, int]] = field(default_factory=set)

    def may_accept(self, case: Case, chain: Chain, now: float) -> Allowed:
        """Raise Forbidden if this request must not be accepted."""
        return check(case.body, self.terms, chain, now, self._released[case.account])

    def is_repeat(self, account: str, text: str) -> bool:
        """Tell whether the account has these very tickets already: then they give nothing new."""
        signatures = signatures_of(text)
        return bool(signatures) and signatures <= self._signatures[account]

    def is_first(self, account: str, allowed: Allowed) -> bool:
        opened = self._released[account].opened
        key = (allowed.request.manifest_id, allowed.quote.rand_hash)
        return not allowed.request.has_state and key not in opened

    def take(self, account: str, text: str, allowed: Allowed) -> Answer:
        """Book an answer; raise NotAsQuotedError if it should not have been released."""
        self._signatures[account] |= signatures_of(text)
        answer = check_answer(text, allowed, self.payer, self.terms)
        nonces = {(answer.rand_hash, nonce) for nonce in answer.nonces}
        if nonces & self._given:
            raise NotAsQuotedError(f"a nonce given twice: {answer.nonces}")
        self._given |= nonces
        released = self._released[account]
        released.sessions[answer.state] = answer.session
        released.opened.add((allowed.request.manifest_id, answer.rand_hash))
        return answer


def state_of(text: str) -> str:
    """The `state` of an answer as it stands there, to be sent with the next request."""
    return text.strip()[text.index('"state":') + len('"state":') : -1]
