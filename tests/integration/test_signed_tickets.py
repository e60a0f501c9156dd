"""Which redemptions are ours, by the rows on real PostgreSQL: nonces, terms, rounds, fences, expiry."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from contracts.message import Event, LogEntry
from contracts.signer import FenceRaised, PaymentSigned, TicketRecovered
from services.deposit_watcher.application import Watching
from services.deposit_watcher.domain.funds import RoundClock
from services.deposit_watcher.domain.redemption import RedeemedTicket, Redemption
from services.deposit_watcher.redemptions import RedemptionTable
from services.deposit_watcher.signed import Evidence, SignedTickets, read_told
from shared.money import Wei
from shared.store import ThinRecorder, postgres_env
from tests import infra

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
CHAIN_ID = 42161
ROUND = 3210
CLOCK = RoundClock(ROUND + 1, 5_000, 1_000)  # so 4,000 to 4,999 is ROUND
PAYER = "0x" + "aa" * 20
TICKET = RedeemedTicket(
    payer=PAYER,
    recipient="0x" + "bb" * 20,
    recipient_rand_hash="0x" + "22" * 32,
    sender_nonce=7,
    face_value=Wei(2**255),
    win_prob=hex(2**256 - 1),
    aux_data="0x" + ROUND.to_bytes(32).hex() + "33" * 32,
    paid=Wei(5),
    tx_hash="0x" + "44" * 32,
    log_index=3,
    block=650,
    block_hash="0x",
)
SIGNED = PaymentSigned(
    account_id="acme",
    session_id="session",
    user_id=None,
    app="",
    job_type="live",
    recipient=TICKET.recipient,
    payer=PAYER.upper().replace("X", "x"),
    tickets=3,
    cost=1,
    face_value=TICKET.face_value,
    win_prob=TICKET.win_prob,
    units=1,
    price_per_unit=1,
    pixels_per_unit=1,
    creation_round=ROUND,
    recipient_rand_hash="22" * 32,
    first_nonce=5,
)


@dataclass
class Books:
    watching: Watching
    tickets: SignedTickets

    def tell(self, *events: Event) -> None:
        entries = [
            LogEntry(
                epoch=1,
                position=number + 1,
                previous_position=number,
                subject=event.subject,
                at=NOW,
                event=event.model_dump(mode="json"),
            )
            for number, event in enumerate(events)
        ]
        self.watching.recorder.insert_events([], effects=[self.tickets.record(read_told(entries))])

    def see(self, ticket: RedeemedTicket = TICKET) -> UUID:
        self.watching.record_redemptions(CHAIN_ID, [ticket], NOW, lambda _: None)
        return Redemption.create_id(CHAIN_ID, ticket.tx_hash, ticket.log_index)

    def open(self) -> list[Evidence]:
        return self.tickets.open(CLOCK, 10)

    def evidence(self) -> Evidence:
        [found] = self.open()
        return found


@pytest.fixture
def books(database: Callable[..., infra.Database]) -> Iterator[Books]:
    dsn = database("deposit_watcher").dsn("deposit_watcher")
    with Watching(postgres_env(dsn, "deposit_watcher", create_tables=True)) as watching:
        assert isinstance(watching.recorder, ThinRecorder)
        datastore = watching.recorder.datastore
        tickets = SignedTickets(datastore)
        RedemptionTable(datastore).create_tables()
        tickets.create_tables()
        yield Books(watching, tickets)


@pytest.mark.parametrize(
    ("nonce", "is_ours"), [(4, False), (5, True), (7, True), (8, False), (2**256 - 1, False)]
)
def test_a_ticket_is_ours_by_its_nonce(books: Books, nonce: int, *, is_ours: bool) -> None:
    books.tell(SIGNED)
    books.see(replace(TICKET, sender_nonce=nonce))

    assert books.evidence().signed is is_ours


@pytest.mark.parametrize(
    "other",
    [
        replace(TICKET, payer="0x" + "ab" * 20),
        replace(TICKET, recipient="0x" + "bc" * 20),
        replace(TICKET, recipient_rand_hash="0x" + "23" * 32),
        replace(TICKET, face_value=Wei(TICKET.face_value + 1)),
        replace(TICKET, win_prob=hex(2**256 - 2)),
        replace(TICKET, aux_data="0x" + (ROUND + 1).to_bytes(32).hex() + "33" * 32),
    ],
)
def test_a_ticket_with_another_field_is_another_ticket(books: Books, other: RedeemedTicket) -> None:
    books.tell(SIGNED)
    books.see(other)

    assert not books.evidence().signed


def test_entries_may_come_again_and_in_any_stretches(books: Books) -> None:
    later = SIGNED.model_copy(update={"first_nonce": 8, "tickets": 1})
    for stretch in ([SIGNED], [later, SIGNED], [later]):
        books.tell(*stretch)
    books.see(replace(TICKET, sender_nonce=8))

    assert books.evidence().signed
    assert not books.evidence().recovered


def test_what_was_recovered_is_told_apart(books: Books) -> None:
    lost = {"lost_epoch": 1, "lost_position": 1, "happened_at": NOW}
    books.tell(TicketRecovered(**SIGNED.model_dump(), **lost))
    books.see()

    assert (books.evidence().signed, books.evidence().recovered) == (False, True)


@pytest.mark.parametrize(("l1_block", "fenced"), [(3_999, False), (4_000, True), (9_999, True)])
def test_a_fence_covers_its_round_and_those_before(books: Books, l1_block: int, *, fenced: bool) -> None:
    books.tell(
        FenceRaised(payer=PAYER, l1_block=l1_block, reason=""),
        FenceRaised(payer=PAYER, l1_block=1, reason=""),
    )
    books.see()

    assert books.evidence().fenced is fenced


def test_an_orphan_is_looked_at_again_only_when_something_speaks_for_it(books: Books) -> None:
    orphan = books.see()
    books.watching.judge(orphan, lambda redemption: redemption.orphan(NOW))
    before = books.open()
    books.tell(SIGNED)

    assert before == []
    assert books.evidence().redemption_id == orphan
    books.watching.judge(orphan, lambda redemption: redemption.recover("late", NOW))
    assert books.open() == []


def test_a_signer_that_tells_no_params_vouches_for_its_round(books: Books) -> None:
    books.tell(SIGNED.model_copy(update={"recipient_rand_hash": "", "first_nonce": 0}))
    books.see()
    books.see(replace(TICKET, log_index=4, aux_data="0x" + (ROUND - 1).to_bytes(32).hex() + "33" * 32))

    assert [evidence.nameless for evidence in books.open()] == [True, False]


def test_tickets_go_when_they_are_too_old_but_not_while_something_is_pending(books: Books) -> None:
    books.tell(SIGNED, SIGNED.model_copy(update={"creation_round": ROUND + 1}))
    redemption_id = books.see()
    kept = books.tickets.expire(ROUND + 1)
    books.watching.judge(redemption_id, lambda redemption: redemption.match(NOW))

    assert kept == 0
    assert [books.tickets.expire(before) for before in (ROUND, ROUND + 1, ROUND + 1)] == [0, 1, 0]
