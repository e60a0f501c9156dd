"""The folds of usage, and the floors of exact sums."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from services.metering.domain.usage import (
    RECORDS_MAX,
    Hour,
    Payment,
    Span,
    Sums,
    ToldBy,
    Usage,
    UsageBatch,
    rollup,
    session_changes,
    whole_wei,
)
from shared.money import Wei

NOON = 1_782_907_200_000_000  # 2026-07-01T12:00:00Z in microseconds
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ACME = ("acme", "", "s1", "lv2v", "daydream", "0xr")
BOB = ("acme", "bob", "s2", "lv2v", "daydream", "0xr")
SPAN = Span("signer", 1, 3, 9)


def usage(*payments: Payment, at: int = NOON) -> Usage:
    return {
        "at": at,
        "who": [ACME, BOB],
        "prices": [(7, 3, 2), (11, 5, 1_000_000)],
        "payments": payments,
        "opened": [],
        "closed": [],
    }


def hour(user: str, number: int, denominator: int) -> Hour:
    return Hour("acme", user, "", "lv2v", "daydream", "", "0xr", number, denominator)


class TestRollup:
    def test_payments_of_one_hour_and_denominator_are_summed(self) -> None:
        sums = rollup(usage((0, 0, 0, 0, 1, 101, 13), (2, 5, 0, 0, 2, 202, 17)))

        assert sums == {hour("", NOON // 3_600_000_000, 2): Sums(2, 3, 303, 3 * 7, 30 * 3, 30, 0)}

    def test_sessions_of_one_user_fall_together_and_users_do_not(self) -> None:
        other = usage((0, 0, 0, 0, 1, 1, 1), (2, 0, 1, 0, 1, 1, 1))

        assert len(rollup(other)) == 2

    def test_the_last_microsecond_of_an_hour_is_in_it(self) -> None:
        sums = rollup(usage((0, -1, 0, 0, 1, 1, 1), (2, 0, 0, 0, 1, 1, 1)))

        assert [by.hour for by in sums] == [NOON // 3_600_000_000 - 1, NOON // 3_600_000_000]

    def test_prices_with_one_denominator_fall_together(self) -> None:
        told = usage((0, 0, 0, 0, 1, 1, 10), (2, 0, 0, 1, 1, 1, 10))
        told["prices"] = [(7, 3, 2), (11, 5, 2)]

        assert rollup(told) == {hour("", NOON // 3_600_000_000, 2): Sums(2, 2, 2, 18, 80, 20, 0)}

    def test_keys_and_capabilities_are_told_apart(self) -> None:
        told = usage((0, 0, 0, 0, 1, 1, 1), (2, 0, 1, 0, 1, 1, 1))
        told["who"] = [(*ACME, "key-1", "llm/a"), (*ACME, "key-2", "llm/b")]

        assert {(by.key_id, by.capability) for by in rollup(told)} == {("key-1", "llm/a"), ("key-2", "llm/b")}

    def test_openings_count_as_sessions_in_their_hour(self) -> None:
        told = usage((0, 0, 0, 0, 1, 1, 1))
        told["opened"] = [
            (-1, "acme", "", "s1", "lv2v", "daydream", "0xo", "", "key-1", "llm/a"),
            (0, "acme", "", "s2", "lv2v", "daydream", "0xo", "", "key-1", "llm/a"),
            (5, "acme", "", "s3", "lv2v", "daydream", "0xo", ""),  # as old batches have them
        ]

        found = {(by.hour, by.key_id): sums.sessions for by, sums in rollup(told).items() if sums.sessions}
        number = NOON // 3_600_000_000
        assert found == {(number - 1, "key-1"): 1, (number, "key-1"): 1, (number, ""): 1}


class TestSessions:
    def test_an_opening_tells_more_than_a_payment(self) -> None:
        told = usage((0, 0, 0, 0, 1, 5, 1), (4, 9, 0, 0, 2, 6, 1))
        told["opened"] = [(3, "acme", "ann", "s1", "live", "app", "0xo", "stream")]

        [(key, change)] = session_changes(told).items()

        assert key == ("acme", "s1")
        assert change.facts == ("ann", "live", "app", "0xo", "stream")
        assert (change.told_by, change.payments, change.tickets, change.cost) == (ToldBy.OPENING, 2, 3, 11)
        assert (change.first_at, change.last_at) == (NOON, NOON + 9)

    def test_a_payment_after_the_closing_opens_it_again(self) -> None:
        told = usage((7, 0, 0, 0, 1, 5, 1))
        told["closed"] = [(6, 0, "acme", "s1"), (8, 0, "acme", "s2")]

        changes = session_changes(told)

        assert [changes["acme", session].closed for session in ("s1", "s2")] == [False, True]

    def test_a_closing_alone_knows_nothing_of_the_session(self) -> None:
        told = usage()
        told["closed"] = [(0, 0, "acme", "s3")]

        assert session_changes(told)["acme", "s3"].told_by == ToldBy.CLOSING


class TestBatch:
    def test_the_same_stretch_has_the_same_id(self) -> None:
        one, other = (UsageBatch.record(SPAN, usage(), NOW) for _ in range(2))

        assert one.id == other.id
        assert one.id != UsageBatch.create_id("signer", 2, 3)
        assert one.id != UsageBatch.create_id("quota", 1, 3)

    def test_it_counts_its_records_and_their_cost(self) -> None:
        batch = UsageBatch.record(SPAN, usage((0, 0, 0, 0, 1, 101, 1), (2, 0, 1, 1, 1, 10**30, 1)), NOW)
        [recorded] = batch.collect_events()

        assert isinstance(recorded, UsageBatch.Recorded)
        assert (recorded.records, recorded.cost, recorded.timestamp) == (2, 10**30 + 101, NOW)
        assert (recorded.first, recorded.last, recorded.epoch, recorded.publisher) == (3, 9, 1, "signer")

    def test_it_is_bounded(self) -> None:
        payments: list[Payment] = [(n, 0, 0, 0, 1, 1, 1) for n in range(RECORDS_MAX + 1)]

        UsageBatch.record(SPAN, usage(*payments[:RECORDS_MAX]), NOW)
        with pytest.raises(ValueError, match="501 records"):
            UsageBatch.record(SPAN, usage(*payments), NOW)

    def test_it_does_not_end_before_it_begins(self) -> None:
        with pytest.raises(ValueError, match="no batch"):
            UsageBatch.record(Span("signer", 1, 9, 8), usage(), NOW)


class TestWholeWei:
    @pytest.mark.parametrize(
        ("terms", "floor"),
        [
            ([], 0),
            ([(5, 2)], 2),
            ([(1, 3), (2, 3)], 1),
            ([(1, 3), (1, 3)], 0),
            ([(1, 3), (1, 3), (1, 3), (10**40, 7)], 1 + 10**40 // 7),
            ([(2**300 - 1, 2**300)], 0),
            ([(2**300 - 1, 2**300), (1, 2**300)], 1),
            ([(7, 1), (0, 5)], 7),
        ],
    )
    def test_it_is_the_floor_of_the_exact_sum(self, terms: list[tuple[int, int]], floor: int) -> None:
        assert whole_wei(terms) == Wei(floor)
        assert floor == sum(Fraction(*term) for term in terms) // 1
