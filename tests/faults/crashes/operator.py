"""The operator of the house: opens accounts, changes keys, limits, credit and what an ETH is worth."""

from contextlib import suppress
from random import Random

from contracts.message import Command
from services.quota.domain.spending import Rate
from shared.clock import SetClock
from shared.money import MicroUsd
from shared.refusal import Refused
from tests.faults.crashes.customers import Customer
from tests.faults.crashes.services import AccountsProcess, QuotaProcess
from tests.faults.crashes.wishes import Wishes

ACCOUNT_IDS = ("account-0", "account-1", "account-2", "account-3")
CUSTOMERS = 12  # each user of each account is one
USERS = (None, "ann", "bob")
RATES = (5 * 10**17, 2 * 10**18)  # micro-dollars of an ETH: a wei is worth one, more or less
SECRET_HASH = "0" * 64


class Operator:
    """Whoever carries out what he commands may die of it."""

    def __init__(
        self, random: Random, clock: SetClock, quota: QuotaProcess, accounts: AccountsProcess
    ) -> None:
        self._random = random
        self._clock = clock
        self._quota = quota
        self._process = accounts
        self._keys = 0
        self.customers = [self._new_customer(number) for number in range(CUSTOMERS)]
        self._wishes = Wishes(random, self.customers)

    def _new_customer(self, number: int) -> Customer:
        place = number % len(ACCOUNT_IDS)
        user_id = USERS[number % len(USERS)]
        return Customer(ACCOUNT_IDS[place], _key_id(1 + place), user_id, self._random, self._clock.now())

    async def begin(self) -> None:
        """Open the accounts, and set what holds before anybody pays."""
        for account_id in ACCOUNT_IDS:
            self._process.accounts.open_account(account_id, at=self._clock.now())
            self._issue_key(account_id)
        for command in self._wishes.first(ACCOUNT_IDS):
            await self._command(command)
        await self.change_rate()

    async def change_limits(self) -> None:
        await self._command(self._wishes.next(self._clock.now()))

    async def _command(self, command: Command) -> None:
        await self._quota.answer(command.subject, command.model_dump_json().encode())

    async def change_rate(self) -> None:
        rate = MicroUsd(self._random.randint(*RATES))
        self._quota.quota.observe_rate(Rate(rate, "test", self._clock.now()))

    async def change_account(self) -> None:
        accounts, now = self._process.accounts, self._clock.now()
        account_id = self._random.choice(ACCOUNT_IDS)
        if self._random.random() < 0.25:
            accounts.suspend_account(account_id, "unpaid", at=now)
        else:
            accounts.resume_account(account_id, at=now)

    async def change_key(self) -> None:
        """A customer gets another key, and the old one is revoked."""
        customer, now = self._random.choice(self.customers), self._clock.now()
        with suppress(Refused):  # the account may be suspended
            old, new = customer.key_id, self._issue_key(customer.account_id)
            for each in self.customers:
                if each.key_id == old:
                    each.key_id = new
            self._process.accounts.revoke_key(account_id=customer.account_id, key_id=old, at=now)

    def _issue_key(self, account_id: str) -> str:
        self._keys += 1
        self._process.accounts.issue_key(
            account_id=account_id,
            key_id=_key_id(self._keys),
            user_id=None,
            secret_hash=SECRET_HASH,
            at=self._clock.now(),
        )
        return _key_id(self._keys)

    def credit(self) -> dict[str, dict[str, object]]:
        """What quota says of each account's."""
        return {account_id: self._quota.credit(account_id) for account_id in ACCOUNT_IDS}


def _key_id(number: int) -> str:
    return f"{number:012}"
