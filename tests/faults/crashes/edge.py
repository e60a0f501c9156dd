"""The edge and its clients: several requests travel in one message, and a reply may never arrive."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from random import Random

from pydantic import ValidationError

from contracts.signer import GeneratePayments, PaymentAnswers, PaymentSignedAnswer
from shared.clock import SetClock
from tests.faults.crashes.books import Books
from tests.faults.crashes.customers import Customer
from tests.faults.crashes.services import Signer

ARRIVES = 0.85  # of the answers to clients
UNEXPECTED = "signer_failed"  # no refusal of the rules, no store that is away
TOO_LATE = "too_many_tickets"  # nothing pays for so long a time at once: the session is over


class Edge:
    def __init__(
        self, random: Random, clock: SetClock, signer: Signer, customers: Sequence[Customer]
    ) -> None:
        self._random = random
        self._clock = clock
        self._signer = signer
        self._customers = customers
        self._sent = 0
        self._pending: dict[str, Sequence[Customer]] = {}
        self._last: tuple[bytes, Sequence[Customer]] = (b"", ())
        self.counted: Counter[str] = Counter()

    @property
    def has_sent(self) -> bool:
        return bool(self._last[0])

    async def pay(self) -> None:
        """Some clients pay at the same time: one message, answered in parts."""
        customers = self._random.sample(self._customers, self._random.randint(1, 4))
        self._clock.advance(timedelta(seconds=self._random.choice((0, 1, 2, 4))))
        now = self._clock.now()
        self._sent += 1
        requests = [
            customer.request(now, f"request-{self._sent}-{place}") for place, customer in enumerate(customers)
        ]
        self.counted["requests"] += len(requests)
        message = GeneratePayments(requests=requests).model_dump_json().encode()
        self._last = (message, customers)
        await self._to_signer(message, customers)

    async def pay_again(self) -> None:
        """It heard nothing, and sends its last message once more."""
        message, customers = self._last
        self.counted["messages sent again"] += 1
        await self._to_signer(message, customers)

    async def _to_signer(self, message: bytes, customers: Sequence[Customer]) -> None:
        reply_to = f"reply-{len(self._pending)}"
        self._pending[reply_to] = customers
        await self._signer.payments.answer((message, reply_to))

    def collect(self, books: Books) -> None:
        """What the signer released is in the world, whether its client gets it or not."""
        for reply_to, data in self._signer.released:
            answers = read_answers(data)
            if answers is None:
                books.violations.append(f"the signer answered with a fault: {data!r}")
            else:
                self._hand_out(answers, self._pending.get(reply_to, ()), books)
        self._signer.released.clear()

    def _hand_out(self, answers: PaymentAnswers, customers: Sequence[Customer], books: Books) -> None:
        for answer in answers.answers:
            customer = customers[answer.index]
            if isinstance(answer, PaymentSignedAnswer):
                books.released(customer.account_id, answer.body)
                self.counted["answered: signed"] += 1
                if self._random.random() < ARRIVES:
                    customer.got(answer.body)
                continue
            self.counted[f"answered: {answer.status} {answer.reason}"] += 1
            if answer.reason == TOO_LATE:
                customer.leave(self._clock.now())
            if answer.reason == UNEXPECTED:
                books.violations.append(f"the signer did not expect this: {answer}")


def read_answers(data: bytes) -> PaymentAnswers | None:
    """None: it was a fault."""
    try:
        return PaymentAnswers.model_validate_json(data)
    except ValidationError:
        return None
