"""The books of users, keys and session tokens, folded a second time from those of their accounts.

What each of them should hold and have spent is made of the grants, spends and closes of the account's
budget; what quota has stored of it (`sub_budget_…`) is compared. The limits are those that held at
that position of the log.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.faults.checker.evidence import Violation, differences
from tests.faults.checker.limit_rows import Entry, Scope, scopes_of
from tests.faults.checker.purse import WORTH, Credit, Purse, quarter
from tests.faults.checker.terms import Terms

type Session = tuple[str, str]  # account and id


class LimitLedger:
    """Entries are applied in the order of the log; whatever breaks a rule is told with its entry."""

    def __init__(self) -> None:
        self.terms = Terms()
        self.purses: dict[Scope, Purse] = defaultdict(Purse)  # of accounts: by their own events
        self.credit: dict[str, Credit] = defaultdict(Credit)
        self.spent: Counter[tuple[Scope, str]] = Counter()  # by session; as the sub-budgets have it
        self.due: Counter[tuple[Scope, str]] = Counter()  # as the accounts' spends make it
        self.by_quarter: Counter[tuple[str, str, int]] = Counter()  # spent by account, session, quarter hour
        self._counting: dict[Session, list[Scope]] = {}
        self._granted: dict[Session, dict[int, int]] = defaultdict(dict)  # by ask, since its last close
        self._rest: Counter[Session] = Counter()  # what of that was spent already

    def apply(self, entry: Entry) -> Iterator[Violation]:
        self.terms.apply(entry)
        match entry.kind:
            case "allowance_granted":
                yield from self._grant(entry)
            case "spend_recorded":
                self._spend(entry)
            case "allowance_freed":
                self._free(entry)
            case "sub_budget_held":
                yield from self._hold(entry)
            case "sub_budget_spent":
                self._spend_of_sub(entry)
            case "credit_granted":
                self.credit[entry.scope.account_id].grant(entry.state)
            case "credit_voided":
                self.credit[entry.scope.account_id].void(entry.state["grant_id"])

    def differences(self) -> Iterator[Violation]:
        """Between sub-budgets and what their accounts' books make of them; after a whole commit only."""
        yield from differences("spend of a user, key or token", +self.due, +self.spent)
        held = {
            (scope, session[1]): ("open", self._held(session))
            for session, scopes in self._counting.items()
            for scope in scopes
        }
        said = {
            (scope, session_id): ("open", amount)
            for scope, purse in self.purses.items()
            for session_id, amount in purse.sessions.items()
            if scope.level != "account"
        }
        yield from differences("held by a user, key or token", held, said)

    # What accounts do

    def _grant(self, entry: Entry) -> Iterator[Violation]:
        account, state = entry.scope, entry.state
        session = account.account_id, state["session_id"]
        asking = scopes_of(account.account_id, state)
        counting = [scope for scope in asking if scope.level in (state.get("counted_by") or [])]
        for scope in asking:
            if self.terms.counts(scope) and scope not in counting:
                yield Violation("not counted by who is limited", f"{entry}: {scope}")
        self._counting[session] = counting
        self._granted[session][state["number"]] = state["amount"]
        yield from self._hold_so_much(entry, account, state["session_id"], self._held(session))

    def _spend(self, entry: Entry) -> None:
        account, rate = entry.scope, entry.state.get("micro_usd_per_eth", 0)
        zone = self.terms.zone(account.account_id)
        for session_id, cost in entry.state["spends"].items():
            session = account.account_id, session_id
            self.by_quarter[*session, quarter(entry.at)] += cost
            self._rest[session] += cost
            if session_id in self.purses[account].sessions:
                self.purses[account].sessions[session_id] = self._held(session)
            self.purses[account].spend(cost, cost * rate, entry.at, zone)
            for scope in self._counting.get(session, []):
                self.due[scope, session_id] += cost
        self.credit[account.account_id].draw(sum(entry.state["spends"].values()) * rate, entry.at)

    def _free(self, entry: Entry) -> None:
        """What came with later asks than the close knew stays; else the session is over."""
        account, state = entry.scope, entry.state
        session = account.account_id, state["session_id"]
        later = {ask: amount for ask, amount in self._granted[session].items() if ask > state["ask_number"]}
        self._granted[session], self._rest[session] = later, 0
        if later:
            self.purses[account].sessions[state["session_id"]] = self._held(session)
        else:
            self.purses[account].sessions.pop(state["session_id"], None)
            self._counting.pop(session, None)

    def _held(self, session: Session) -> int:
        return max(0, sum(self._granted[session].values()) - self._rest[session])

    # What users, keys and tokens do

    def _hold(self, entry: Entry) -> Iterator[Violation]:
        session_id, amount = entry.state["session_id"], entry.state["amount"]
        purse = self.purses[entry.scope]
        if amount == 0:
            purse.sessions.pop(session_id, None)
        elif amount > purse.sessions.get(session_id, 0):
            yield from self._hold_so_much(entry, entry.scope, session_id, amount)
        else:
            purse.sessions[session_id] = amount

    def _spend_of_sub(self, entry: Entry) -> None:
        rate, zone = entry.state["micro_usd_per_eth"], entry.state["time_zone"]
        for session_id, cost in entry.state["spends"].items():
            self.spent[entry.scope, session_id] += cost
            self.purses[entry.scope].spend(cost, cost * rate, entry.at, zone)
        self.purses[entry.scope].sessions.update(entry.state["held"])

    # What limits say of it

    def _hold_so_much(self, entry: Entry, scope: Scope, session_id: str, amount: int) -> Iterator[Violation]:
        """A lease was granted: everything that limits this one has to have room for it."""
        purse, limits = self.purses[scope], self.terms.of(scope)
        is_new = session_id not in purse.sessions
        purse.sessions[session_id] = amount
        most = limits.get("sessions_max")
        if is_new and most is not None and len(purse.sessions) > most:
            yield Violation("more sessions than may run", f"{entry}: {len(purse.sessions)} of {most}")
        zone, rate = self.terms.zone(scope.account_id), self.terms.rate
        for text in purse.over(limits, entry.at, zone, rate):
            yield Violation("granted past a limit", f"{entry}: {text}")
        owing = limits.get("credit_limit_micro_usd")
        if scope.level == "account" and owing is not None:
            credit = self.credit[scope.account_id]
            room = owing * WORTH + credit.prepaid(entry.at) - credit.owed - purse.held * rate
            if room < 0:
                yield Violation("granted past the credit", f"{entry}: {-room // WORTH} micro-USD too much")
