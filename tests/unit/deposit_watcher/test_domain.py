"""What is remembered of the chain, and what is not told twice."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.deposit_watcher.application import Watching
from services.deposit_watcher.domain.funds import Deposit, Funds, Observation, Round, RoundClock, Rounds
from services.deposit_watcher.domain.redemption import Kind, RedeemedTicket, Redemption
from services.deposit_watcher.outbox import WatchingOutbox
from shared.money import Wei

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PAYER = "0x" + "aa" * 20
SECOND = timedelta(seconds=1)
HASH = "0x" + "11" * 32
FUNDS = Funds(Wei(10**19 + 1), Wei(10**21 + 7), 0)
OBSERVATION = Observation(
    chain_id=42161,
    block=700,
    block_hash=HASH,
    l1_block=500,
    round=Round(9, "0x" + "99" * 32, "0x" + "88" * 32, 2),
    pool_size=100,
    funds_by_payer={PAYER: FUNDS},
    round_clock=RoundClock(9, 400, 1000),
)
ROUND = 3210
TICKET = RedeemedTicket(
    payer=PAYER,
    recipient="0x" + "bb" * 20,
    recipient_rand_hash="0x" + "22" * 32,
    sender_nonce=2**255,
    face_value=Wei(10**18 + 3),
    win_prob=hex(2**256 - 1),
    aux_data="0x" + ROUND.to_bytes(32).hex() + "33" * 32,
    paid=Wei(10**18),
    tx_hash="0x" + "44" * 32,
    log_index=3,
    block=650,
    block_hash=HASH,
)
FACTS = {
    "payer": PAYER,
    "recipient": "0x" + "bb" * 20,
    "recipient_rand_hash": "0x" + "22" * 32,
    "sender_nonce": 2**255,
    "face_value": "1000000000000000003",
    "win_prob": "0x" + "ff" * 32,
    "paid": "1000000000000000000",
    "tx_hash": "0x" + "44" * 32,
    "log_index": 3,
    "block": 650,
    "block_hash": HASH,
}


def seen(**funds: int) -> Observation:
    return replace(OBSERVATION, funds_by_payer={PAYER: replace(FUNDS, **funds)})  # type: ignore[arg-type]


@pytest.fixture
def watching() -> Watching:
    return Watching()


def told(watching: Watching) -> list[tuple[str, dict[str, object]]]:
    outbox = WatchingOutbox(watching)
    notifications = watching.recorder.select_notifications(1, 1000, topics=outbox.topics)
    events = [outbox.to_public(notification)[0] for notification in notifications]
    return [(type(event).__name__, event.model_dump(mode="json")) for event in events]


def names(watching: Watching) -> list[str]:
    return [name for name, _ in told(watching)]


def test_the_first_observation_is_told(watching: Watching) -> None:
    watching.observe(OBSERVATION, NOW)

    assert told(watching) == [
        (
            "FundsObserved",
            {
                "payer": PAYER,
                "deposit": "10000000000000000001",
                "reserve": "1000000000000000000007",
                "withdraw_round": 0,
                "pool_size": 100,
                "l1_block": 500,
                "block_hash": HASH,
            },
        ),
        ("RoundChanged", {"round": 9, "round_hash": "0x" + "99" * 32, "ticket_validity_rounds": 2}),
    ]


def test_a_new_block_alone_is_not_told(watching: Watching) -> None:
    watching.observe(OBSERVATION, NOW)
    watching.observe(replace(OBSERVATION, block=701, l1_block=501, block_hash="0x"), NOW + 59 * SECOND)

    assert names(watching) == ["FundsObserved", "RoundChanged"]


def test_funds_are_told_again_after_a_minute(watching: Watching) -> None:
    for seconds in range(0, 121, 10):
        watching.observe(OBSERVATION, NOW + seconds * SECOND)

    assert names(watching).count("FundsObserved") == 3


@pytest.mark.parametrize("changed", [{"deposit": 1}, {"reserve": 0}, {"withdraw_round": 11}])
def test_changed_funds_are_told_at_once(watching: Watching, changed: dict[str, int]) -> None:
    watching.observe(OBSERVATION, NOW)
    watching.observe(seen(**changed), NOW + SECOND)

    assert names(watching) == ["FundsObserved", "RoundChanged", "FundsObserved"]


def test_a_changed_pool_size_is_told_at_once(watching: Watching) -> None:
    watching.observe(OBSERVATION, NOW)
    watching.observe(replace(OBSERVATION, pool_size=99), NOW + SECOND)

    assert names(watching)[-1] == "FundsObserved"


def test_a_round_is_told_once(watching: Watching) -> None:
    for number in (9, 9, 10, 10):
        watching.observe(replace(OBSERVATION, round=replace(OBSERVATION.round, number=number)), NOW)

    rounds = [event["round"] for name, event in told(watching) if name == "RoundChanged"]
    assert rounds == [9, 10]


def test_payers_do_not_meet(watching: Watching) -> None:
    other = "0x" + "cc" * 20
    watching.observe(replace(OBSERVATION, funds_by_payer={PAYER: FUNDS, other: FUNDS}), NOW)

    assert [event["payer"] for name, event in told(watching) if name == "FundsObserved"] == [PAYER, other]


def test_what_was_told_survives_a_snapshot(watching: Watching) -> None:
    for seconds in range(0, 60 * 150, 60):
        watching.observe(OBSERVATION, NOW + seconds * SECOND)
    watching.forget(Deposit.create_id(42161, PAYER), Rounds.create_id(42161))

    watching.observe(OBSERVATION, NOW + timedelta(seconds=60 * 149 + 59))

    assert names(watching).count("FundsObserved") == 150
    assert watching.snapshots is not None
    assert list(watching.snapshots.get(Deposit.create_id(42161, PAYER)))


def see(watching: Watching, *tickets: RedeemedTicket) -> list[UUID]:
    watching.record_redemptions(42161, tickets, NOW, lambda _: None)
    return [Redemption.create_id(42161, ticket.tx_hash, ticket.log_index) for ticket in tickets]


def test_a_redeemed_ticket_is_seen_once_and_told_when_it_is_judged(watching: Watching) -> None:
    other = replace(TICKET, log_index=5, paid=Wei(0))

    found = [
        watching.record_redemptions(42161, tickets, NOW, lambda _: None)
        for tickets in ([TICKET], [TICKET, other], [])
    ]
    before = told(watching)
    for redemption_id in see(watching, TICKET, other):
        watching.judge(redemption_id, lambda redemption: redemption.match(NOW))

    assert found == [1, 1, 0]
    assert before == []
    assert [(name, event["log_index"], event["paid"]) for name, event in told(watching)] == [
        ("TicketRedeemed", 3, "1000000000000000000"),
        ("TicketRedeemed", 5, "0"),
    ]
    assert told(watching)[0][1] == FACTS


def test_what_was_judged_stays_but_for_an_orphan_that_is_explained(watching: Watching) -> None:
    [redemption_id] = see(watching, TICKET)
    judgements: list[Callable[[Redemption], None]] = [
        lambda redemption: redemption.orphan(NOW),
        lambda redemption: redemption.orphan(NOW),
        lambda redemption: redemption.match(NOW),
        lambda redemption: redemption.recover("recovered", NOW),
        lambda redemption: redemption.recover("fence", NOW),
        lambda redemption: redemption.orphan(NOW),
    ]

    judged = [watching.judge(redemption_id, judge) for judge in judgements]

    assert [each.kind if each else None for each in judged] == [
        Kind.ORPHAN,
        None,
        None,
        Kind.RECOVERED,
        None,
        None,
    ]
    assert told(watching) == [
        ("OrphanRedemption", {**FACTS, "creation_round": ROUND}),
        (
            "RecoveredRedemption",
            {**FACTS, "creation_round": ROUND, "reason": "recovered", "corrects_orphan": True},
        ),
    ]


def test_a_lost_ticket_that_was_no_orphan_corrects_nothing(watching: Watching) -> None:
    [redemption_id] = see(watching, TICKET)
    watching.judge(redemption_id, lambda redemption: redemption.recover("fence", NOW))

    [(name, event)] = told(watching)

    assert (name, event["reason"], event["corrects_orphan"]) == ("RecoveredRedemption", "fence", False)


def test_deposits_count_when_they_are_final_and_withdrawals_at_once() -> None:
    less, more = Funds(Wei(5), Wei(7), 0), Funds(Wei(6), Wei(9), 0)
    unlocking = replace(less, withdraw_round=12)

    assert more.counting(final=less) == less
    assert less.counting(final=more) == less
    assert less.counting(final=unlocking).withdraw_round == 12
    assert unlocking.counting(final=less).withdraw_round == 12
    assert replace(less, withdraw_round=14).counting(final=unlocking).withdraw_round == 12


def test_a_ticket_names_its_round() -> None:
    assert TICKET.creation_round == ROUND
    assert replace(TICKET, aux_data="0x").creation_round == 0
