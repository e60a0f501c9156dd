"""Payments of another signer, as usage."""

import zlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from eventsourcing.persistence import Notification

from contracts.signed_tickets import SignedPayment, SignedTicketsRecorded
from services.metering.application import Metering
from services.metering.domain.signed_tickets import SignedTicket, key_of, keys_of, paid_of, usage_of
from services.metering.domain.usage import Usage, UsageBatch, rollup, session_changes
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
AT_MS = 1_782_907_199_999  # a millisecond before
EVENT_ID = "0b9a9e5c-6f0a-4a8e-9a3b-0d6f5a1c2b3d"
# As its first version wrote it; it has to be readable for ever.
GOLDEN = (
    b'{"timestamp":"2026-07-01T12:00:00Z","originator_topic":"metering.usage_batch",'
    b'"publisher":"go-livepeer","epoch":0,"first":0,"last":1,"records":2,"cost":1700,"usage":{'
    b'"at":1782907199999000,"who":[["acme","ann","go-livepeer:8c1d03aa","live","demo/echo","0xab"]],'
    b'"prices":[[0,0,0]],"payments":[[0,0,0,0,2,1000,10],[1,5000,0,0,1,700,7]],'
    b'"opened":[[0,"acme","ann","go-livepeer:8c1d03aa","live","demo/echo","0xab",""]],"closed":[],'
    b'"told":[["0b9a9e5c-6f0a-4a8e-9a3b-0d6f5a1c2b3d",""],["1b9a9e5c-6f0a-4a8e-9a3b-0d6f5a1c2b3d","g"]]}}'
)


def ticket(**changes: Any) -> SignedTicket:
    told = {
        "account_id": "acme",
        "user_id": "ann",
        "event_id": EVENT_ID,
        "gateway": "",
        "state_id": "8c1d03aa",
        "sequence": 0,
        "signed_at_ms": AT_MS,
        "orchestrator": "0xab",
        "job_type": "live",
        "app": "demo/echo",
        "tickets": 2,
        "fee": 1000,
        "pixels": 0,
        "billable_seconds": 10,
    }
    return SignedTicket(**{**told, **changes})


def batch_of(tickets: list[SignedTicket], now: datetime) -> tuple[UsageBatch, Usage]:
    span, usage = usage_of(tickets)
    return UsageBatch.record(span, usage, now), usage


def two() -> list[SignedTicket]:
    second = {"event_id": "1" + EVENT_ID[1:], "gateway": "g", "sequence": 1, "signed_at_ms": AT_MS + 5}
    return [ticket(), ticket(**second, tickets=1, fee=700, billable_seconds=7)]


def test_what_was_used_is_what_it_cost() -> None:
    _, usage = batch_of([ticket(fee=10**30, job_type="lv2v", pixels=17, sequence=1)], NOW)

    [(by, sums)] = rollup(usage).items()

    assert (by.account_id, by.user_id, by.job_type, by.recipient) == ("acme", "ann", "lv2v", "0xab")
    assert (sums.cost, sums.fee_numerator, by.fee_denominator) == (10**30, 10**30, 1)
    assert (sums.payments, sums.tickets, sums.units, sums.ev_numerator) == (1, 2, 17, 0)


def test_an_hour_of_payments_is_one_row_whatever_they_cost() -> None:
    payments = [ticket(event_id=str(number), sequence=number + 1, fee=number) for number in range(9)]

    assert len(rollup(batch_of(payments, NOW)[1])) == 1


def test_a_session_is_told_apart_from_ours_and_knows_its_orchestrator_from_the_first() -> None:
    [(key, change)] = session_changes(batch_of(two(), NOW)[1]).items()

    assert key == ("acme", "go-livepeer:8c1d03aa")
    assert change.facts == ("ann", "live", "demo/echo", "0xab", "")
    assert (change.payments, change.tickets, change.cost, change.closed) == (2, 3, 1700, False)


def test_the_first_payment_of_a_session_is_the_first_whenever_it_is_told() -> None:
    [change] = session_changes(batch_of(list(reversed(two())), NOW)[1]).values()

    assert (change.first_paid, change.paid_position) == ((0, 1000), 1)


def test_units_are_seconds_calls_or_pixels() -> None:
    kinds = {"live": 10, "fixed": 1, "lv2v": 5, "": 5}

    assert {kind: ticket(job_type=kind, pixels=5).units for kind in kinds} == kinds


def test_an_event_is_another_one_at_another_gateway_or_account() -> None:
    keys = {key_of("acme", EVENT_ID, ""), key_of("acme", EVENT_ID, "g"), key_of("tide", EVENT_ID, "")}

    assert len(keys) == 3


def test_a_batch_says_again_what_it_was_made_of() -> None:
    _, usage = batch_of(two(), NOW)

    assert list(keys_of(usage)) == [each.key for each in two()]
    assert [(paid.user_id, paid.state_id, paid.sequence, paid.fee) for paid in paid_of(usage)] == [
        ("ann", "8c1d03aa", 0, 1000),
        ("ann", "8c1d03aa", 1, 700),
    ]
    assert paid_of(usage)[1].signed_at == datetime(2026, 7, 1, 12, 0, 0, 4000, tzinfo=UTC)


def test_a_batch_is_named_by_its_first_event() -> None:
    first, again = batch_of(two(), NOW)[0], batch_of([ticket(fee=5)], NOW)[0]
    other = batch_of([ticket(account_id="tide")], NOW)[0]

    assert first.id == again.id
    assert other.id not in {first.id, UsageBatch.create_id("go-livepeer", 0, 0)}


def test_what_is_written_today_is_what_was_written_then() -> None:
    metering = Metering(usage_tables("metering"))
    [event] = batch_of(two(), NOW)[0].collect_events()

    assert zlib.decompress(metering.mapper.to_stored_event(event).state) == GOLDEN


def test_the_public_event_tells_each_payment() -> None:
    metering = Metering(usage_tables("metering"))
    stored = Notification(UUID(int=1), 1, "metering.usage_recorded", zlib.compress(GOLDEN), id=12)

    event, at = MeteringOutbox(metering).to_public(stored)

    assert at == NOW
    assert event == SignedTicketsRecorded(
        account_id="acme",
        payments=[
            SignedPayment(
                user_id="ann",
                state_id="8c1d03aa",
                sequence=0,
                fee=1000,
                signed_at=datetime(2026, 7, 1, 11, 59, 59, 999_000, tzinfo=UTC),
            ),
            SignedPayment(
                user_id="ann",
                state_id="8c1d03aa",
                sequence=1,
                fee=700,
                signed_at=datetime(2026, 7, 1, 12, 0, 0, 4000, tzinfo=UTC),
            ),
        ],
    )
